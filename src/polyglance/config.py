"""Configurations: frozen dataclasses that are read from TOML, changed by dotted overrides, saved and fingerprinted.

    @dataclass(frozen=True, kw_only=True)
    class TrainConfig:
        lr: float = 1e-3
        \"\"\"Peak learning rate.\"\"\"

    config = load(TrainConfig, "train.toml", overrides=["lr=3e-4"])
    save(config, "resolved.toml")

A field whose metadata has a function `on_read` is read before the others, and the function is called with its value: so
the languages that a file declares are known before its other tables name them. A wrong key or value is a `ValueError`
that names the file, the line and the nearest right key. Records in JSON files are read by the same rules, with
`from_dict`.
"""

import dataclasses
import hashlib
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import tomli_w

from polyglance.files import write_atomically
from polyglance.languages import did_you_mean

__all__ = [
    "WrittenPart",
    "check_types",
    "fingerprint",
    "flatten",
    "from_dict",
    "load",
    "parse_path",
    "parse_toml",
    "save",
    "to_dict",
]

T = TypeVar("T")


_TYPE_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


class _Misfit(ValueError):
    """A value that does not fit its field. `load` turns the path of its key into file and line."""

    def __init__(self, path: tuple[str, ...], message: str) -> None:
        super().__init__(f"{'.'.join(path)}: {message}" if path else message)
        self.path = path
        self.message = message


def load(cls: type[T], path: str | Path, *, overrides: Sequence[str] = ()) -> T:
    """Read a TOML file into `cls`, with dotted overrides (`optim.lr=3e-4`) on top.

    Raises:
        ValueError: an unreadable file, bad TOML, an unknown key or a value that does not fit: one line with file and
            line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: is a folder; expected a TOML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    values = parse_toml(text, str(path))
    overridden = {_apply_override(values, override): override for override in overrides}
    try:
        return from_dict(cls, values)
    except _Misfit as misfit:
        dotted = ".".join(misfit.path)
        for key, override in overridden.items():
            # The value that was set, a value inside it, or the table that it was set in.
            if dotted == key or dotted.startswith(f"{key}.") or (dotted and key.startswith(f"{dotted}.")):
                raise ValueError(f"--set {override}: {misfit}") from None
        line = _line_of(text, misfit.path)
        raise ValueError(f"{path}:{line}: {misfit}" if line else f"{path}: {misfit}") from None


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Parse TOML text.

    Args:
        where: file, for the error message.

    Raises:
        ValueError: not TOML, nested too deeply, or a number with thousands of digits: one line.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"{where}: not valid TOML: nested too deeply") from None
    except ValueError as error:  # tomllib's own errors, and those of numbers with too many digits
        raise ValueError(f"{where}: not valid TOML: {error}") from None


def from_dict(cls: type[T], values: Mapping[str, Any], *, allow_nan: bool = False) -> T:
    """Build the dataclass `cls` from nested plain values, and check every key and type.

    Args:
        allow_nan: accept NaN as a number: the record of a run that diverged may hold it.

    Raises:
        ValueError: one line with the path of the field and what would be right.
    """
    if not allow_nan:
        _refuse_nan(values, ())
    return _build(cls, values, ())


def check_types(config: Any) -> None:
    """Refuse a value of a dataclass made in Python that has another type than its field says. Scalars and arrays of
    numpy count as numbers and lists.

    Raises:
        ValueError: one line with the field and what would be right.
    """
    hints = typing.get_type_hints(type(config))
    for f in dataclasses.fields(config):
        hint, value = hints[f.name], getattr(config, f.name)
        if not dataclasses.is_dataclass(hint):
            _convert(hint, _without_numpy(value), (f.name,))
        elif not isinstance(value, typing.cast(type, hint)):
            raise _Misfit((f.name,), f"expected {typing.cast(type, hint).__name__}(...), got {value!r}")


def _without_numpy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_numpy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_numpy(item) for item in value]
    return value.tolist() if type(value).__module__ == "numpy" else value


def to_dict(config: Any) -> dict[str, Any]:
    """Return the dataclass as nested plain values. Derived fields and None, which TOML cannot write, are left out."""
    return {
        f.name: _plain(getattr(config, f.name))
        for f in dataclasses.fields(config)
        if f.init and getattr(config, f.name) is not None
    }


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values as dotted key -> value: `{"optim.lr": 0.001}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def save(config: Any, path: str | Path) -> None:
    """Write the resolved config as TOML, whole or not at all."""
    write_atomically(path, tomli_w.dumps(to_dict(config)))


def fingerprint(*parts: Any) -> str:
    """Return 12 hexadecimal digits that change when any part (a dataclass or a plain value) changes."""
    text = ", ".join(part.text if isinstance(part, WrittenPart) else WrittenPart(part).text for part in parts)
    return hashlib.sha256(f"[{text}]".encode()).hexdigest()[:12]


class WrittenPart:
    """A part of many fingerprints, written once; a fingerprint of it is that of the part itself."""

    def __init__(self, part: Any) -> None:
        self.text = json.dumps(_plain(part), sort_keys=True, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def _refuse_nan(value: Any, path: tuple[str, ...]) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_nan(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _refuse_nan(item, (*path, str(index)))
    elif isinstance(value, float) and math.isnan(value):
        raise _Misfit(path, "expected a number, got nan")


def _build(cls: type[T], values: Any, path: tuple[str, ...]) -> T:
    if not isinstance(values, Mapping):
        raise _Misfit(path, f"expected a table, got {values!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise _Misfit((*path, key), f"unknown key; {did_you_mean(key, fields)}")
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise _Misfit(path, f"the key {name!r} is missing")
    arguments = {}
    for key in sorted(values, key=lambda key: "on_read" not in fields[key].metadata):
        arguments[key] = _convert(hints[key], values[key], (*path, key))
        if "on_read" in fields[key].metadata:
            try:
                fields[key].metadata["on_read"](arguments[key])
            except ValueError as error:
                raise _Misfit((*path, key), str(error)) from None
    try:
        return cls(**arguments)
    except _Misfit:
        raise
    except ValueError as error:
        raise _Misfit(path, str(error)) from None


def _convert(hint: Any, value: Any, path: tuple[str, ...]) -> Any:
    """Return `value` as the type that `hint` asks for. Only conversions that lose nothing are made.

    Raises:
        _Misfit: the value does not fit.
    """
    origin, args = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, path)
    if origin in (Union, types.UnionType):
        return _convert_union(args, value, path)
    if origin is Literal:
        if value in args:
            return value
        raise _Misfit(path, f"{value!r} is not a choice; {did_you_mean(str(value), map(str, args))}")
    if origin in (tuple, list):
        return _convert_sequence(origin, args, value, path)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _Misfit(path, f"expected a table, got {value!r}")
        return {
            _convert(args[0], key, (*path, key)): _convert(args[1], item, (*path, key)) for key, item in value.items()
        }
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        try:
            return parse_path(value)
        except ValueError as error:
            raise _Misfit(path, str(error)) from None
    if hasattr(hint, "parse") and isinstance(value, str):  # types that are written as texts, such as Cell
        try:
            return hint.parse(value)
        except ValueError as error:
            raise _Misfit(path, str(error)) from None
    if isinstance(value, hint) and not (hint in (int, float) and isinstance(value, bool)):
        return value
    raise _Misfit(path, f"expected {_TYPE_NAMES.get(hint, hint.__name__)}, got {value!r}")


def parse_path(text: str) -> Path:
    """Read a path of a file or command line.

    Raises:
        ValueError: it is empty, which pathlib would take for the current folder, or `-`, which other programs take for
            standard input or output.
    """
    if not text.strip():
        raise ValueError(f"expected a path, got {text!r}; the current folder is written .")
    if text == "-":
        raise ValueError("standard input is not read, nor standard output written; name a file")
    return Path(text)


def _convert_union(choices: tuple[Any, ...], value: Any, path: tuple[str, ...]) -> Any:
    if value is None and types.NoneType in choices:
        return None
    misfits = []
    for choice in choices:
        if choice is types.NoneType:
            continue
        try:
            return _convert(choice, value, path)
        except _Misfit as misfit:
            misfits.append(misfit)
    raise max(misfits, key=lambda misfit: len(misfit.path))  # the choice that was read furthest is most likely meant


def _convert_sequence(origin: type, args: tuple[Any, ...], value: Any, path: tuple[str, ...]) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _Misfit(path, f'expected a list such as ["a", "b"], got {value!r}')
    if origin is tuple and not (len(args) == 2 and args[1] is Ellipsis):
        if len(value) != len(args):
            raise _Misfit(path, f"expected {len(args)} values, got {len(value)}")
        return tuple(
            _convert(arg, item, (*path, str(i))) for i, (arg, item) in enumerate(zip(args, value, strict=True))
        )
    return origin(_convert(args[0], item, (*path, str(i))) for i, item in enumerate(value))


def _apply_override(values: dict[str, Any], override: str) -> str:
    """Set one dotted override in nested values, and return its dotted key."""
    key, separator, text = override.partition("=")
    key = key.strip()
    if not separator or not key:
        raise ValueError(f"--set {override}: expected key=value, for example optim.lr=3e-4")
    try:
        value = parse_toml(f"value = {text}", f"--set {override}")["value"]
    except ValueError:
        value = text  # a bare word is a string: train.schedule=cosine
    *parents, last = key.split(".")
    table: Any = values
    for parent in parents:
        table = _step(table, parent, override, create=True)
    _step(table, last, override, create=False)
    table[int(last) if isinstance(table, list) else last] = value
    return key


def _step(table: Any, key: str, override: str, *, create: bool) -> Any:
    """Return the value of a key in a table or list; `create` makes a table where there is none."""
    if isinstance(table, list):
        if not key.isdecimal() or int(key) >= len(table):
            raise ValueError(f"--set {override}: {key!r} is not an index into a list of {len(table)}")
        return table[int(key)]
    if not isinstance(table, dict):
        raise ValueError(f"--set {override}: there is no table above {key!r}")
    return table.setdefault(key, {}) if create else table.get(key)


def _line_of(text: str, path: tuple[str, ...]) -> int | None:
    """Find the line that sets the key at `path`. A guess by regular expressions: tomllib gives no positions."""
    seen: list[str] = []
    counts: dict[str, int] = {}
    best: tuple[int, int] | None = None  # (how many leading keys of the path match, line)
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line):
            seen = [part.strip().strip("\"'") for part in header[2].split(".")]
            if header[1] == "[[":
                index = counts.get(header[2], 0)
                counts[header[2]] = index + 1
                seen.append(str(index))
            keys = seen
        elif setting := re.match(r"\s*([\w\-\".']+)\s*=", line):
            keys = [*seen, *(part.strip("\"'") for part in setting[1].split("."))]
        else:
            continue
        if tuple(keys) == path[: len(keys)] and (best is None or len(keys) > best[0]):
            best = (len(keys), number)
    return best[1] if best else None
