"""Command-line options of verbs, made by tyro from functions and config dataclasses.

A verb is a function. A parameter that is a config dataclass gives one option for each of its fields; the docstring
under a field is the option's help. Values of options are parsed only here: `A=B,...` for mappings, `A,B,...` for lists.
An error that a config raises is reported in one line, like any other mistake.
"""

import dataclasses
import inspect
import itertools
import math
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructTypeInfo,
)

from polyglance.config import parse_path
from polyglance.languages import did_you_mean
from polyglance.own_languages import declare_languages_from
from polyglance.settings import UnusedSettingError

__all__ = [
    "REGISTRY",
    "MistakeError",
    "Options",
    "Paths",
    "Settings",
    "begin_options",
    "check_units",
    "declare_languages_of",
    "describe_mistake",
    "take_languages_from",
]

T = TypeVar("T")
Options = Annotated[T, OmitArgPrefixes, arg(name="")]
"""A config dataclass whose fields are options of a verb, without a prefix in their names."""
Settings = Annotated[UseAppendAction[tuple[str, ...]], arg(name="set", metavar="KEY=VALUE")]
"""Dotted overrides of a TOML file: `--set optim.lr=3e-4`; may be repeated."""

Paths = UseAppendAction[tuple[tuple[Path, ...], ...]]
"""Groups of files: `--refs a.txt b.txt`, or with the option repeated for each."""

_LanguagesFrom = Annotated[
    Path | None,
    arg(help="TOML file with languages of your own: [languages.yo] with name = 'Yoruba'; a study, run or recipe too."),
]
REGISTRY = ConstructorRegistry()
"""Parsing rules for tyro."""
_NAME_WITH_UNIT = re.compile(r"--.*-(kb|gb|gmac|minutes|hours|h|s)")
_NUMBER_WITH_UNIT = re.compile(r"\s*[-+]?[\d.].*[a-zA-Z%]\s*")


class MistakeError(Exception):
    """A user's mistake in the options, in one line. It is not a `ValueError`, because tyro would show that in a box.

    Args:
        message: what is wrong, and what would be right.
        value: value that could not be parsed, if this is the mistake.
    """

    def __init__(self, message: str, value: str | None = None) -> None:
        super().__init__(message)
        self.value = value


def describe_mistake(error: Exception, args: Sequence[str] = ()) -> str:
    """Return the message of an error in one line, with the names of the options concerned.

    Args:
        args: the command line, in which the option with the wrong value is found. Names of settings in the message,
            such as `batch_size`, become --batch-size.
    """
    if isinstance(error, MistakeError) and error.value is not None:
        pairs = [*itertools.pairwise(args), *(argument.split("=", 1) for argument in args if "=" in argument)]
        options = [name for name, value in pairs if value == error.value and name.startswith("--")]
        value = f" {error.value}" if error.value.strip() else ""
        return f"{' or '.join(options) or ('option' if value else 'argument')}{value}: {error}"
    message = _name_options(str(error), _OPTIONS)
    if not isinstance(error, UnusedSettingError):
        return message
    return re.sub(r"`(\w+)`", lambda match: f"--{match[1].replace('_', '-')}", message)


def check_units(options: Sequence[str]) -> None:
    """Refuse a number with a unit in an option whose name has one: `--max-memory-gb 24G` would be 24e9 GB.

    Args:
        options: the words of the command line behind its verb.

    Raises:
        MistakeError: such an option.
    """
    pairs = [*itertools.pairwise(options), *(option.split("=", 1) for option in options if "=" in option)]
    for name, value in pairs:
        has_unit = _NAME_WITH_UNIT.fullmatch(name.replace("_", "-"))
        if has_unit and _NUMBER_WITH_UNIT.fullmatch(value):
            raise MistakeError(f"{name} {value}: the name of the option has the unit; write the number alone, as 1e3")


def _parse_list(text: str) -> tuple[str, ...]:
    """Split a comma-separated list; spaces around entries and empty entries are dropped.

    Commas between double quotes do not separate: `D="D (tokens, total)",y=loss`.
    """
    entries = (match[0].strip() for match in re.finditer(r'(?:[^,"]|"[^"]*"|")+', text))
    return tuple(entry for entry in entries if entry)


def _parse_mapping(text: str, value_type: Any = str) -> dict[str, Any]:
    """Split `A=B,C=D`.

    Args:
        value_type: `str`; `float`; or `tuple[float, float]`, written `0:1`.

    Raises:
        MistakeError: an entry without `=`, a repeated name, or a value that is not a number where one is required.
    """
    values: dict[str, Any] = {}
    for entry in _parse_list(text):
        name, separator, value = (piece.strip().strip('"') for piece in entry.partition("="))
        if not separator or not name or not value:
            raise MistakeError(f"{entry!r} is not of the form A=B", text)
        if name in values:
            raise MistakeError(f"{name!r} is given twice", text)
        try:
            values[name] = _parse_value(value, value_type)
        except ValueError as error:
            raise MistakeError(f"{name}={value}: {error}", text) from None
    return values


def _parse_expressions(text: str) -> dict[str, str]:
    """Parse `NAME=EXPRESSION`, one per line; commas and quotation marks belong to the expression.

    Raises:
        MistakeError: a line of another form, or a repeated name.
    """
    values: dict[str, str] = {}
    for line in text.split("\n"):
        name, separator, expression = (piece.strip() for piece in line.partition("="))
        name = name.strip('"')
        if not separator or not name or not expression or expression.startswith("="):
            raise MistakeError(f"{line!r} is not of the form NAME=EXPRESSION", text)
        if name in values:
            raise MistakeError(f"{name!r} is given twice", text)
        values[name] = expression
    return values


def _parse_value(value: str, value_type: Any) -> Any:
    if value_type is str:
        return value
    if value_type is float:
        return _parse_number(value)
    low, separator, high = value.partition(":")
    if not separator:
        raise ValueError("expected a lowest and a highest value, as in 0:1")
    return (_parse_number(low), _parse_number(high))


def _parse_number(text: str) -> float:
    """Read a number as tables hold them: 6.9e9, 6.9B."""
    with suppress(ValueError):
        return float(text)
    from polyglance.laws.tables.numerals import parse_number  # numpy, which most verbs do not need for their options

    try:
        return parse_number(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number; expected one such as 1e6, 20k or 6.9B") from None


def _parse_count(text: str) -> int:
    """Read a whole number, likewise."""
    with suppress(ValueError):
        return int(text)
    number = _parse_number(text)
    if not math.isfinite(number) or not math.isclose(number, count := round(number), rel_tol=1e-14):
        raise ValueError(f"{text!r} is not a whole number")
    return count  # 1.005k is 1004.9999999999999 as a float


@REGISTRY.primitive_rule
def _path_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Read one argument for a path."""
    if info.type is not Path:
        return None

    def parse(given: list[str]) -> Path:
        try:
            return parse_path(given[0])
        except ValueError as error:
            raise MistakeError(str(error), given[0]) from None

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=parse,
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )


@REGISTRY.primitive_rule
def _number_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Read one argument for a number, written as those of `--at` and of tables are: 1e6, 20k, 6.9B, 5%. For options
    whose name has a unit see `check_units`."""
    if info.type not in (int, float):
        return None
    kind = info.type

    def parse(given: list[str]) -> int | float:
        try:
            return _parse_count(given[0]) if kind is int else _parse_number(given[0])
        except ValueError as error:
            raise MistakeError(str(error), given[0]) from None

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT" if kind is int else "FLOAT",
        instance_from_str=parse,
        is_instance=lambda value: isinstance(value, (int, kind)) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


@REGISTRY.primitive_rule
def _mapping_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Read one argument `A=B,...` for a mapping."""
    if get_origin(info.type) is not Mapping:
        return None
    value_type = get_args(info.type)[1]
    if get_origin(value_type) is Annotated:  # a text in which commas do not separate values
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="A=EXPRESSION",
            instance_from_str=lambda arguments: _parse_expressions(arguments[0]),
            is_instance=lambda value: isinstance(value, Mapping),
            str_from_instance=lambda values: ["\n".join(f"{name}={value}" for name, value in values.items())],
        )
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar={str: "A=B,...", float: "A=1,..."}.get(value_type, "A=0:1,..."),
        instance_from_str=lambda arguments: _parse_mapping(arguments[0], value_type),
        is_instance=lambda value: isinstance(value, Mapping),
        str_from_instance=lambda values: [",".join(f"{name}={value}" for name, value in values.items())],
    )


@REGISTRY.primitive_rule
def _list_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Read one argument `A,B,...` for a tuple of texts or choices, unless the option can be repeated."""
    arguments = get_args(info.type)
    if get_origin(info.type) is not tuple or len(arguments) != 2 or arguments[1] is not Ellipsis:
        return None
    if info.markers & {UseAppendAction, Positional} or not (arguments[0] is str or get_origin(arguments[0]) is Literal):
        return None
    choices = get_args(arguments[0])  # of a Literal

    def parse(given: list[str]) -> tuple[str, ...]:
        entries = _parse_list(given[0])
        for entry in entries:
            if choices and entry not in choices:
                raise MistakeError(f"{entry!r} is not a choice; {did_you_mean(entry, choices)}", given[0])
        return entries

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="A,B,...",
        instance_from_str=parse,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda values: [",".join(values)],
    )


@REGISTRY.primitive_rule
def _numbers_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Read one argument `1,2,3` for a tuple of a fixed number of integers."""
    if get_origin(info.type) is not tuple or set(get_args(info.type)) != {int}:
        return None
    length = len(get_args(info.type))

    def parse(given: list[str]) -> tuple[int, ...]:
        try:
            numbers = tuple(int(number) for number in given[0].split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != length:
            raise MistakeError(f"expected {length} whole numbers, separated by commas", given[0])
        return numbers

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=",".join(["INT"] * length),
        instance_from_str=parse,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda values: [",".join(map(str, values))],
    )


@REGISTRY.primitive_rule
def _optional_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Treat `X | None` as X: without the option the value is None."""
    if get_origin(info.type) not in (Union, types.UnionType):
        return None
    choices = [choice for choice in get_args(info.type) if choice is not types.NoneType]
    if set(choices) == {str, tuple[str, ...]}:  # one name or several
        choices = [tuple[str, ...]]
    elif len(choices) != 1 or len(choices) == len(get_args(info.type)):
        return None
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(choices[0], info.markers))
    if not isinstance(spec, PrimitiveConstructorSpec):
        return None
    inner = spec
    return dataclasses.replace(
        inner,
        is_instance=lambda value: value is None or inner.is_instance(value),
        str_from_instance=lambda value: ["none"] if value is None else inner.str_from_instance(value),
    )


def take_languages_from(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb with the option --languages-from, which `declare_languages_of` reads."""

    def extended(*args: Any, languages_from: Path | None = None, **options: Any) -> None:  # noqa: ARG001
        verb(*args, **options)

    option = inspect.Parameter("languages_from", inspect.Parameter.KEYWORD_ONLY, default=None)
    signature = inspect.signature(verb)
    extended.__dict__["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), option])
    extended.__annotations__ = {**get_type_hints(verb, include_extras=True), "languages_from": _LanguagesFrom}
    extended.__doc__ = verb.__doc__
    return extended


def declare_languages_of(options: Sequence[str]) -> None:
    """Declare the languages of the file given by --languages-from, before any option with a language is parsed.

    Raises:
        ValueError: as `declare_languages_from`.
    """
    for position, option in enumerate(options):
        name, separator, value = option.partition("=")
        if name.replace("_", "-") == "--languages-from":
            for path in [value] if separator else options[position + 1 : position + 2]:
                declare_languages_from(Path(path))


_is_wrapping = False
_OPTIONS: set[str] = set()
"""Names of the parameters and fields that are options of the current verb."""


def begin_options(verb: Callable[..., None]) -> None:
    """Note the names of a verb's parameters as its options, in place of those of a verb called earlier.

    Fields of its config dataclasses are added when `REGISTRY` meets them.
    """
    _OPTIONS.clear()
    _OPTIONS.update(inspect.signature(verb).parameters)


@REGISTRY.struct_rule
def _config_rule(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Let tyro read a config dataclass; a `ValueError` of its checks becomes a `MistakeError`."""
    global _is_wrapping
    if _is_wrapping or not dataclasses.is_dataclass(info.type):
        return None
    _is_wrapping = True
    try:
        spec = ConstructorRegistry.get_struct_spec(info)
    finally:
        _is_wrapping = False
    if not isinstance(spec, StructConstructorSpec):
        return None
    build = spec.instantiate
    fields = tuple(dataclasses.replace(one, helptext=partial(_join_lines, one.helptext)) for one in spec.fields)

    nested = [
        field.name for one in fields if dataclasses.is_dataclass(one.type) for field in dataclasses.fields(one.type)
    ]
    names = [*(one.name for one in fields), *nested]
    _OPTIONS.update(names)

    def build_or_say(*args: Any, **kwargs: Any) -> Any:
        try:
            return build(*args, **kwargs)
        except ValueError as error:
            raise MistakeError(_name_options(describe_mistake(error), names)) from None

    return dataclasses.replace(spec, instantiate=build_or_say, fields=fields)


def _name_options(message: str, names: Iterable[str]) -> str:
    """Replace names of fields in a message by options such as --batch-size: names with an underscore, in backquotes, or
    at the start."""
    for name in names:
        option = f"--{name.replace('_', '-')}"
        message = message.replace(f"`{name}`", option)
        if "_" in name:
            message = re.sub(rf"(?<![\w'\"`/.=-]){name}(?![\w'\"`=-]|\.\w)", option, message)
        message = re.sub(rf"^{name}(?=: )", option, message)
    return message


def _join_lines(helptext: str | Callable[[], str | None] | None) -> str | None:
    """Return a docstring as one paragraph; tyro keeps the line breaks of docstrings under fields."""
    text = helptext() if callable(helptext) else helptext
    return None if text is None else " ".join(text.split())
