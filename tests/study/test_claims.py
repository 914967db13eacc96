"""Claims of jobs in a store: one owner at a time, and one that is lost is replaced."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from polyglance.object_store import ObjectStore, StoreError, open_store
from polyglance.study.store import claims
from polyglance.study.store.claims import LostClaimError, claim

PREFIX = "marks/run-1/5d0c"


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(f"file://{tmp_path}/store")


@pytest.fixture
def on_sleep(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Functions that are called in turn in place of waits, of which each is as long as the patience."""
    later: list[Callable[[], None]] = []
    now_s = [0.0]

    def sleep(seconds: float) -> None:
        now_s[0] += claims._PATIENCE_S
        later.pop(0)()

    monkeypatch.setattr("polyglance.study.store.claims.time.sleep", sleep)
    monkeypatch.setattr("polyglance.study.store.claims.time.monotonic", lambda: now_s[0])
    return later


def write_claim_of_another_machine(store: ObjectStore, term: int = 1) -> None:
    process = {"machine": "another", "number": "1", "begun": "2"}
    assert store.create(f"{PREFIX}/claim-{term}.json", json.dumps({"host": "node-7", "process": process}).encode())


def test_a_claim_that_has_ended_is_followed_by_the_next(store: ObjectStore) -> None:
    for term in (1, 2, 3):
        with claim(store, PREFIX) as held:
            assert held is not None
            assert held.term == term
            held.check()
    with pytest.raises(RuntimeError), claim(store, PREFIX):
        raise RuntimeError  # an owner with an error ends its claim, too
    with claim(store, PREFIX) as held:
        assert held is not None


def test_an_owner_that_beats_is_waited_for(
    store: ObjectStore, on_sleep: list[Callable[[], None]], capsys: pytest.CaptureFixture[str]
) -> None:
    write_claim_of_another_machine(store)
    beats = [lambda number=number: store.write(f"{PREFIX}/beat-1.txt", str(number).encode()) for number in range(20)]
    on_sleep += [*beats, lambda: store.write(f"{PREFIX}/beat-1.txt", b"ended")]
    with claim(store, PREFIX, name="run-1") as held:
        assert held is not None
        assert held.term == 2
    assert not on_sleep
    assert capsys.readouterr().err == "run-1: node-7 works on it, or was lost; waiting\n"


def test_an_owner_without_a_beat_is_replaced_and_learns_of_it(
    store: ObjectStore, on_sleep: list[Callable[[], None]]
) -> None:
    with claim(store, PREFIX) as slow:
        assert slow is not None
        text = json.loads(store.read(f"{PREFIX}/claim-1.json") or b"")
        text["process"]["machine"] = "another"
        store.write(f"{PREFIX}/claim-1.json", json.dumps(text).encode())
        on_sleep += [lambda: None, lambda: None]
        with claim(store, PREFIX) as held:
            assert held is not None
            assert held.term == 2
            held.check()
            with pytest.raises(LostClaimError):
                slow.check()
            assert slow.is_lost


def test_a_process_of_this_machine_that_is_gone_is_replaced_at_once(
    store: ObjectStore, on_sleep: list[Callable[[], None]]
) -> None:
    with claim(store, PREFIX) as first:
        assert first is not None
        text = json.loads(store.read(f"{PREFIX}/claim-1.json") or b"")
        text["process"]["begun"] = "1"  # another process has its number by now
        store.write(f"{PREFIX}/claim-1.json", json.dumps(text).encode())
        with claim(store, PREFIX) as second:
            assert second is not None
            assert second.term == 2


def test_of_two_that_wait_one_follows(
    store: ObjectStore, on_sleep: list[Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_claim_of_another_machine(store)
    store.write(f"{PREFIX}/beat-1.txt", b"ended")
    create = store.create

    def be_late(name: str, content: bytes) -> bool:
        if name.endswith("claim-2.json"):
            create(name, b"{}")
            store.write(f"{PREFIX}/beat-2.txt", b"ended")
        return create(name, content)

    monkeypatch.setattr(store, "create", be_late)
    with claim(store, PREFIX) as held:
        assert held is not None
        assert held.term == 3


def test_waiting_ends_when_the_job_is_over_or_this_process_is_to_stop(
    store: ObjectStore, on_sleep: list[Callable[[], None]]
) -> None:
    write_claim_of_another_machine(store)
    with claim(store, PREFIX, is_over=lambda: True) as held:
        assert held is None
    with claim(store, PREFIX, should_stop=lambda: True) as held:
        assert held is None
    assert store.read(f"{PREFIX}/claim-2.json") is None


def test_a_second_call_is_refused_where_it_does_not_wait(
    store: ObjectStore, on_sleep: list[Callable[[], None]]
) -> None:
    refusal = "another call works on it"
    with claim(store, PREFIX), pytest.raises(StoreError, match=refusal), claim(store, PREFIX, refusal=refusal):
        pass
    write_claim_of_another_machine(store, 2)
    on_sleep.append(lambda: store.write(f"{PREFIX}/beat-2.txt", b"1"))
    with pytest.raises(StoreError, match=refusal), claim(store, PREFIX, refusal=refusal):
        pass
    assert not on_sleep
