"""Division of a step over processes, and strategies that do not fit the processes."""

from datetime import timedelta

import pytest
import torch

from polyglance.distributed import Runtime, RuntimeConfig, join_for_messages, join_processes


def test_every_micro_batch_of_a_step_is_computed_once() -> None:
    for world_size in (1, 2, 4):
        config = RuntimeConfig(micro_batch_size=8)
        assert (num := config.num_micro_batches(64, world_size)) == 8  # whatever the number of processes
        processes = [Runtime(rank=r, world_size=world_size, device=torch.device("cpu")) for r in range(world_size)]
        assert sorted(index for process in processes for index in process.local_micro_batches(num)) == list(range(8))
    assert RuntimeConfig().num_micro_batches(64, 4) == 4
    with pytest.raises(ValueError, match="64 samples cannot be divided over 3 processes in micro-batches of 8"):
        RuntimeConfig(micro_batch_size=8).num_micro_batches(64, 3)


def test_a_strategy_that_does_not_fit_the_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with join_processes(RuntimeConfig(device="cpu")) as runtime:
        assert runtime == Runtime.single()
    fsdp, single = RuntimeConfig(strategy="fsdp", device="cpu"), RuntimeConfig(strategy="single")
    with pytest.raises(ValueError, match="needs torchrun"), join_processes(fsdp):
        pass
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="'single' is for one process"), join_processes(single):
        pass


def test_shards_are_held_by_the_processes_of_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert RuntimeConfig().choose_shard_size(16) == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert RuntimeConfig().choose_shard_size(16) == 8
    assert RuntimeConfig(shard_size=16).choose_shard_size(16) == 16
    with pytest.raises(ValueError, match="shard_size 3 does not divide 16 processes"):
        RuntimeConfig(shard_size=3).choose_shard_size(16)
    with pytest.raises(ValueError, match="shard_size has no effect with strategy 'ddp'"):
        RuntimeConfig(strategy="ddp", shard_size=2)


def test_shares_of_an_evaluation_are_waited_for_for_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has measured its cells waits for one with more or larger ones, and the first one scores alone."""
    timeouts = []

    def note_timeout(*_: object, timeout: timedelta, **__: object) -> None:
        timeouts.append(timeout)
        raise InterruptedError

    monkeypatch.setattr(torch.distributed, "init_process_group", note_timeout)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for joined in (join_for_messages(), join_processes(RuntimeConfig(strategy="ddp", device="cpu"))):
        with pytest.raises(InterruptedError), joined:
            pass
    assert timeouts[0] >= timedelta(days=7)
    assert timeouts[1] <= timedelta(hours=1)  # in training a process that hangs is noticed
