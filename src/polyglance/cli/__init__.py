"""polyglance: image captioning for languages that have no captions.

`main` finds the verb, makes its options (options.py) and calls it. Each verb is a function of its own module, which
calls one function of the library and prints the result (output.py). A verb's module is imported when the verb is
called, so that `polyglance --help` answers at once.
"""

import ast
import itertools
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tyro
from tyro.extras import SubcommandApp

from polyglance import __version__
from polyglance.cli.options import (
    REGISTRY,
    MistakeError,
    begin_options,
    check_units,
    declare_languages_of,
    describe_mistake,
    take_languages_from,
)
from polyglance.error_text import first_line, is_out_of_memory
from polyglance.languages import did_you_mean
from polyglance.packages import describe_missing
from polyglance.train.watch import NOT_FINITE_EXIT_CODE, NotFiniteError

__all__ = ["GROUPS", "VERBS", "main"]

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "data": "Make, build, count and look at data sets.",
        "model": "Sizes and their costs; initial models; checkpoints of the published code; model cards.",
        "eval": "Have a model caption, translate, disambiguate; measure its losses.",
        "law": "Scaling laws: fit to a table of runs, published ones; compare, predict and plan.",
        "study": "A grid of runs, from data to the report.",
    }
)
"""Groups of verbs, with their help."""
VERBS: Mapping[tuple[str, ...], str] = MappingProxyType(
    {
        ("init",): "project:begin",
        ("doctor",): "project:examine",
        ("data", "world"): "data:make_world",
        ("data", "import"): "data:import_data_sets",
        ("data", "build"): "data:build_data_sets",
        ("data", "stats"): "data:count_data_set",
        ("data", "audit"): "data:audit_data_set",
        ("model", "card"): "model:show_card",
        ("model", "assemble"): "model:assemble",
        ("model", "convert"): "model:convert",
        ("model", "readme"): "model:write_readme",
        ("caption",): "model:caption",
        ("translate",): "model:translate",
        ("train",): "train:train_model",
        ("eval", "caption"): "eval:evaluate_captions",
        ("eval", "translate"): "eval:evaluate_translations",
        ("eval", "disambiguate"): "eval:evaluate_disambiguation",
        ("eval", "loss"): "eval:measure_losses",
        ("eval", "list"): "eval:list_benchmarks",
        ("score",): "score:score",
        ("results",): "results:show_results",
        ("law", "fit"): "law:fit",
        ("law", "make"): "law:make",
        ("law", "list"): "law:list_laws",
        ("law", "columns"): "law:columns",
        ("law", "compare"): "law:compare",
        ("law", "predict"): "law:predict",
        ("law", "plan"): "law:plan",
        ("study", "plan"): "study:show_plan",
        ("study", "run"): "study:run",
        ("study", "status"): "study:show_status",
        ("study", "serve"): "study:serve",
        ("study", "report"): "study:rewrite_report",
        ("verify",): "verify:verify",
    }
)
"""Words of each verb -> module and function."""
_CONTINUED = {
    ("data", "build"),
    ("train",),
    ("eval", "caption"),
    ("eval", "translate"),
    ("eval", "disambiguate"),
    ("study", "run"),
}
"""Verbs that continue interrupted work when they are called again."""
_NAMING_LANGUAGES = {
    ("init",),
    ("data", "import"),
    ("caption",),
    ("translate",),
    ("eval", "caption"),
    ("eval", "translate"),
    ("eval", "disambiguate"),
    ("eval", "loss"),
    ("score",),
}
"""Verbs without a TOML file whose options name languages, which --languages-from may describe."""
_REPEATABLE = ("--hyps", "--refs", "--compare", "--set")
"""Options that may be given several times."""
_COLLECTED = ("--derive", "--melt")
"""Options of `NAME=EXPRESSION` that may be given several times; the values become lines of a single value."""
_SHELLS = ("bash", "zsh", "tcsh")
_SETTINGS = (tyro.conf.FlagCreatePairsOff,)
"""Each flag has a single form: `--json`, and `--no-score` for a flag that is on by default."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line. A user's mistake is reported in one line on standard error, with exit code 2; a run whose
    loss is not finite likewise, with exit code 3."""
    if not sys.stderr.isatty():  # progress bars of the hub and of transformers would fill a log
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    given = list(sys.argv[1:] if args is None else args)
    try:
        _run(given)
    except (MistakeError, ValueError) as error:
        print(f"polyglance: {describe_mistake(error, given)}", file=sys.stderr)
        raise SystemExit(NOT_FINITE_EXIT_CODE if isinstance(error, NotFiniteError) else 2) from None
    except ModuleNotFoundError as error:
        message = describe_missing(error, " ".join(_find_verb(given) or ("polyglance",)))
        if message is None:
            raise
        print(f"polyglance: {message}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:  # the reader of a pipe stopped: `polyglance ... | head`
        sys.stderr.close()
        raise SystemExit(1) from None
    except OSError as error:  # a full or read-only disk, a folder where a file should be
        place = error.filename2 or error.filename  # if renaming failed: the new name
        print(f"polyglance: {error.strerror or error}{f': {place}' if place else ''}", file=sys.stderr)
        raise SystemExit(1) from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"polyglance: not enough memory: {first_line(error)}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        continues = "; the same command continues from here" if _find_verb(given) in _CONTINUED else ""
        print(f"polyglance: interrupted{continues}", file=sys.stderr)
        raise SystemExit(130) from None


def _run(args: list[str]) -> None:
    if args == ["--version"]:
        print(f"polyglance {__version__}")
        return
    if args[:2] == ["eval", "--list"]:  # as in other evaluators
        args[1] = "list"
    if args[:1] == ["--completion"]:
        if len(args) != 2 or args[1] not in _SHELLS:
            raise MistakeError(f"--completion needs the name of a shell: {', '.join(_SHELLS)}")
        _make_app(_load).cli(prog="polyglance", args=["--tyro-print-completion", *args[1:]], registry=REGISTRY)
    if (words := _find_verb(args)) is not None:
        options = _collect_lines(args[len(words) :])
        _check_repeated(words, options)
        check_units(options)
        prog = " ".join(("polyglance", *words))
        verb = _load(words)
        if words in _NAMING_LANGUAGES:
            declare_languages_of(options)
        begin_options(verb)
        tyro.cli(verb, prog=prog, args=options, config=_SETTINGS, registry=REGISTRY)
        return
    _check_words(args)
    description = f"{__doc__.splitlines()[0]} Version {__version__}."
    _make_app(_make_placeholder).cli(prog="polyglance", description=description, args=args)


def _find_verb(args: Sequence[str]) -> tuple[str, ...] | None:
    """Return the words of the verb at the beginning of a command line, if there is one."""
    return next((words for words in (tuple(args[:2]), tuple(args[:1])) if words in VERBS), None)


def _collect_lines(options: Sequence[str]) -> list[str]:
    """Join the values of each option in `_COLLECTED` to one value, one line for each."""
    kept: list[str] = []
    values: dict[str, list[str]] = {}
    position = 0
    while position < len(options):
        name, separator, value = options[position].partition("=")
        position += 1
        if name not in _COLLECTED or (not separator and position == len(options)):
            kept.append(options[position - 1])
            continue
        if not separator:
            value = options[position]
            position += 1
        values.setdefault(name, []).append(value)
    return [*kept, *(word for name, lines in values.items() for word in (name, "\n".join(lines)))]


def _check_repeated(words: tuple[str, ...], options: Sequence[str]) -> None:
    """Refuse a repeated option if one value would silently replace the other."""
    names = [option.partition("=")[0].replace("_", "-") for option in options if option.startswith("--")]
    for name in names:
        if names.count(name) > 1 and (name not in _REPEATABLE or words == ("law", "make")):
            raise MistakeError(f"{name} is given {names.count(name)} times; expected once")


def _check_words(args: Sequence[str]) -> None:
    """Refuse words that are not a verb."""
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), args))[:2]
    if words and words[0] not in GROUPS:
        raise MistakeError(f"there is no verb {words[0]!r}; {did_you_mean(words[0], [verb[0] for verb in VERBS])}")
    if len(words) == 2:
        verbs = [verb[1] for verb in VERBS if verb[0] == words[0]]
        raise MistakeError(f"{words[0]} has no verb {words[1]!r}; {did_you_mean(words[1], verbs)}")


def _load(words: tuple[str, ...]) -> Callable[..., None]:
    """Import the function of a verb."""
    module, _, name = VERBS[words].partition(":")
    function: Callable[..., None] = getattr(import_module(f"{__name__}.{module}"), name)
    return take_languages_from(function) if words in _NAMING_LANGUAGES else function


def _make_placeholder(words: tuple[str, ...]) -> Callable[..., None]:
    """Make a function without options that has the summary of a verb. The summary is read from the source, without an
    import."""
    module, _, name = VERBS[words].partition(":")
    spec = find_spec(f"{__name__}.{module}")
    assert spec is not None
    assert spec.origin is not None
    nodes = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    [function] = [node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == name]

    def placeholder() -> None: ...

    placeholder.__doc__ = re.split(r"\n\s*\n", ast.get_docstring(function) or "")[0]
    return placeholder


def _make_app(make_function: Callable[[tuple[str, ...]], Callable[..., Any]]) -> SubcommandApp:
    """Make the tree of all verbs, for help pages and shell completion."""
    app, groups = SubcommandApp(), {name: SubcommandApp() for name in GROUPS}
    added = set()
    for words in VERBS:
        if len(words) == 1:
            app.command(name=words[0])(make_function(words))
            continue
        groups[words[0]].command(name=words[1])(make_function(words))
        if words[0] not in added:
            app.command(groups[words[0]], name=words[0], help=GROUPS[words[0]])
            added.add(words[0])
    return app
