"""Configurations: what is written is what is read, and every mistake is one line that says where and what instead."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.config import WrittenPart, fingerprint, from_dict, load, save, to_dict


@dataclass(frozen=True, kw_only=True)
class Inner:
    lr: float = 0.1
    kind: Literal["fast", "slow"] = "fast"
    shape: tuple[int, ...] = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    many: tuple[Inner, ...] = ()
    table: dict[str, float] | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ValueError("name must not be bad")


@given(
    st.builds(
        Outer,
        name=st.text(st.characters(exclude_categories=["Cs", "Cc"])).filter(lambda name: name != "bad"),
        inner=st.builds(Inner, lr=st.floats(0, 1), kind=st.sampled_from(["fast", "slow"])),
        many=st.lists(st.builds(Inner, shape=st.lists(st.integers(-9, 9)).map(tuple)), max_size=3).map(tuple),
        table=st.none() | st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.floats(0, 1)),
        path=st.none() | st.just(Path("a/b")),
    )
)
def test_saved_config_reads_back_the_same(tmp_path_factory: pytest.TempPathFactory, config: Outer) -> None:
    path = tmp_path_factory.mktemp("config") / "config.toml"
    save(config, path)
    assert load(Outer, path) == config
    assert from_dict(Outer, to_dict(config)) == config


TOML = """name = "run"
table = { a = 1 }

[inner]
lr = 0.5

[[many]]
kind = "slow"

[[many]]
lr = 2
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("lr = 0.5", "lrr = 0.5"), ":5: inner.lrr: unknown key; did you mean 'lr'?"),
        (('"slow"', '"slwo"'), ":8: many.0.kind: 'slwo' is not a choice; did you mean 'slow'?"),
        (("lr = 2", 'lr = "2"'), ":11: many.1.lr: expected a number, got '2'"),
        (("lr = 2", "lr = nan"), ":11: many.1.lr: expected a number, got nan"),
        (("lr = 2", "lr = true"), ":11: many.1.lr: expected a number, got True"),
        (("a = 1", 'a = "x"'), ":2: table.a: expected a number, got 'x'"),
        (('name = "run"', ""), ": the key 'name' is missing"),
        (('"run"', '"bad"'), ": name must not be bad"),
        (("[inner]", "[inner"), ": not valid TOML: "),
    ],
)
def test_a_mistake_is_one_line_with_place_and_remedy(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = write(tmp_path, TOML.replace(*change))
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        load(Outer, path)
    assert str(caught.value).startswith(f"{path}{message}")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.toml: no such file"):
        load(Outer, tmp_path / "absent.toml")


def test_overrides_change_single_values(tmp_path: Path) -> None:
    overrides = ["inner.lr=3e-4", "many.1.kind=slow", "inner.shape=[7]", "name=two words", "table.b=2"]
    config = load(Outer, write(tmp_path, TOML), overrides=overrides)
    assert config.inner == Inner(lr=3e-4, shape=(7,))
    assert config.many[1] == Inner(lr=2.0, kind="slow")
    assert (config.name, config.table) == ("two words", {"a": 1.0, "b": 2.0})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("inner.lrr=1", r"--set inner\.lrr=1: inner\.lrr: unknown key; did you mean 'lr'\?"),
        ("inner.lr", "expected key=value"),
        ("many.5.lr=1", "'5' is not an index into a list of 2"),
        ("name.x=1", "there is no table above 'x'"),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(Outer, write(tmp_path, TOML), overrides=[override])


def test_an_empty_path_is_not_the_current_folder(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Places:
        out: Path
        more: tuple[Path, ...] = ()
        other: Path | None = None

    assert from_dict(Places, {"out": "."}).out == Path()
    for key, values in {
        "out": {"out": ""},
        "more.1": {"out": "a", "more": ["b", " "]},
        "other": {"out": "a", "other": ""},
    }.items():
        with pytest.raises(ValueError, match=f"^{re.escape(key)}: expected a path, got ' ?'; the current folder"):
            from_dict(Places, values)


def test_fingerprint_changes_with_every_value() -> None:
    base = Outer(name="a", many=(Inner(),))
    others = [
        Outer(name="b", many=(Inner(),)),
        Outer(name="a"),
        Outer(name="a", many=(Inner(lr=0.2),)),
        Outer(name="a", many=(Inner(),), table={"x": 1.0}),
    ]
    assert fingerprint(base) == fingerprint(Outer(name="a", many=(Inner(),)))
    assert len({fingerprint(config) for config in [base, *others]}) == 5
    assert fingerprint(base) != fingerprint(base, base)
    parts = [base, {"b": 1, "a": "é"}, "x", None, 2.5]
    assert fingerprint(*map(WrittenPart, parts)) == fingerprint(*parts) == "144c9cc97a85"
