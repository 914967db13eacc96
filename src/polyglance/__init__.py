"""Image captioning for languages that have no captions: build data, train, measure what emerges, fit its laws, plan.

    import polyglance

    law = polyglance.fit_law(polyglance.FitConfig(form="product"), polyglance.Table.read("runs.csv"))
    report = polyglance.score(Path("captions.json"), [Path("references.json")], polyglance.ScoreConfig(lang="fr"))
    captioner = polyglance.load_captioner("out/model")
    result = polyglance.run_study(polyglance.load_config(polyglance.StudyConfig, "examples/micro.toml"))

These names, and the packages `polyglance.laws`, `polyglance.evaluate` and so on, which hold more, are imported on first
use: importing this package loads nothing heavy.
"""

from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyglance.config import load as load_config
    from polyglance.evaluate.score import ScoreConfig, score_texts
    from polyglance.evaluate.score import score_files as score
    from polyglance.laws import (
        Budget,
        CompareConfig,
        FitConfig,
        PlanConfig,
        Table,
        compare_laws,
        fit_law,
        load_law,
        read_candidates,
        spend_budget,
    )
    from polyglance.laws import plan_with_law as plan
    from polyglance.laws import predict_with_law as predict
    from polyglance.model.architecture import Polyglance
    from polyglance.model.generate import PolyglanceCaptioner
    from polyglance.study import StudyConfig, plan_study, run_study

    load_captioner = PolyglanceCaptioner.load

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "CompareConfig",
    "FitConfig",
    "PlanConfig",
    "Polyglance",
    "PolyglanceCaptioner",
    "ScoreConfig",
    "StudyConfig",
    "Table",
    "compare_laws",
    "fit_law",
    "load_captioner",
    "load_config",
    "load_law",
    "plan",
    "plan_study",
    "predict",
    "read_candidates",
    "run_study",
    "score",
    "score_texts",
    "spend_budget",
]

_WHERE = {
    "Budget": "laws",
    "CompareConfig": "laws",
    "FitConfig": "laws",
    "PlanConfig": "laws",
    "Polyglance": "model",
    "PolyglanceCaptioner": "model",
    "ScoreConfig": "evaluate.score",
    "StudyConfig": "study",
    "Table": "laws",
    "compare_laws": "laws",
    "fit_law": "laws",
    "load_captioner": "model:PolyglanceCaptioner.load",
    "load_config": "config:load",
    "load_law": "laws",
    "plan": "laws:plan_with_law",
    "plan_study": "study",
    "predict": "laws:predict_with_law",
    "read_candidates": "laws",
    "run_study": "study",
    "score": "evaluate.score:score_files",
    "score_texts": "evaluate.score",
    "spend_budget": "laws",
}
"""Name -> module that has it, and its name there if that differs."""


_PACKAGES = ("data", "engines", "evaluate", "laws", "mixture", "model", "report", "study", "train")
_LIGHT = ("config", "evaluate", "laws")
"""Modules that need no extra."""


def __getattr__(name: str) -> Any:
    if name not in _WHERE and name not in _PACKAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_hint(name)}")
    try:
        if name in _PACKAGES:
            return import_module(f"{__name__}.{name}")
        module, _, attribute = _WHERE[name].partition(":")
        return attrgetter(attribute or name)(import_module(f"{__name__}.{module}"))
    except ModuleNotFoundError as error:
        from polyglance.packages import describe_missing

        where = name if name in _PACKAGES else _WHERE[name]
        message = describe_missing(error, f"{__name__}.{name}", light=where.startswith(_LIGHT))
        if message is None:
            raise
        raise ModuleNotFoundError(message, name=error.name) from None


def __dir__() -> list[str]:
    """Return what completion and `help` show: names and packages, without those whose extra is not installed."""
    names = [*__all__, *_PACKAGES]
    if find_spec("torch") is None:
        names = [name for name in names if _WHERE.get(name, name).startswith(_LIGHT)]
    return sorted({*names, *(name for name in globals() if name.startswith("__"))})


def _hint(name: str) -> str:
    from polyglance.languages import did_you_mean

    return "" if name.startswith("_") else f"; {did_you_mean(name, [*__all__, *_PACKAGES])}"
