"""The planner: one page on which target, budget and number of languages are dragged, and cost, loss and score follow.

The page computes the formulas of `polyglance law plan` itself (templates/planner.js), from the law's parameters and
draws. This module writes these into the page; it computes nothing that the page shows.
"""

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from markupsafe import Markup

from polyglance.files import write_atomically
from polyglance.laws import Candidate, Fit, Law, PlanConfig, PowerSum, load_law
from polyglance.laws.constants.paper_laws import PAPER, PAPER_LANGUAGES
from polyglance.laws.equations.roles import find_by_role, resolve_roles
from polyglance.laws.fitting.rows import ALL
from polyglance.report.folder import StudyFolder
from polyglance.report.published_models import list_published_models
from polyglance.report.templating import check_page_name, read_asset, render_page
from polyglance.report.wording import COLUMN_NAMES, name_family, name_series
from polyglance.run_records import RunRow

__all__ = ["PlannerLaw", "hash_script", "list_planner_laws", "make_payload", "read_planner_script", "write_planner"]

_DIGITS = 10
"""Significant digits of parameters and draws in the page; predictions keep seven of them."""


@dataclass(frozen=True, kw_only=True)
class PlannerLaw:
    """A law that the page can plan with."""

    name: str
    """Name in the list of laws."""
    law: Law
    group: str
    """Group of the law."""
    loss: str
    """Name of the loss that the law predicts."""
    models: tuple[Candidate, ...]
    scores: Fit | None = None
    """Law of the score against the loss."""
    score_name: str = "score"
    score_points: tuple[tuple[float, float, str], ...] = ()
    """Loss, score and name of the models behind the law of the score."""

    @property
    def languages(self) -> int:
        """Languages behind the law; as many as behind those of the paper, if it does not say."""
        return int(self.law.data.get("languages", PAPER_LANGUAGES))

    def __post_init__(self) -> None:
        fit = self.law[self.group]
        if not isinstance(fit.form, PowerSum):
            raise ValueError(f"a page needs a law of power terms (product, additive); this one is {fit.form.name!r}")
        if fit.transform.is_score:
            raise ValueError("a page needs a law of a loss; this one is of a score")
        if not self.models:
            raise ValueError("a page needs models to choose from: give candidates")
        roles = resolve_roles(self.law.columns, self.law.roles)
        if not find_by_role(roles, ("parameters",)) or not find_by_role(roles, ("samples",)):
            raise ValueError("a page needs a law of size and samples, such as `paper`")
        (samples,) = find_by_role(roles, ("samples",))
        if sum(samples in dict(term.exponents) for term in fit.form.terms) > 1:
            raise ValueError(f"a page needs a law with one term in samples; form {fit.form.name!r} has several")

    def to_dict(self) -> dict[str, Any]:
        """Return what the page needs of the law."""
        fit, roles = self.law[self.group], resolve_roles(self.law.columns, self.law.roles)
        assert isinstance(fit.form, PowerSum)
        starts = find_by_role(roles, ("starting-loss",))
        return {
            "name": self.name,
            "group": self.loss,
            "size": find_by_role(roles, ("parameters",))[0],
            "data": find_by_role(roles, ("samples",))[0],
            "start": starts[0] if starts else "",
            "terms": _list_terms(fit.form),
            "theta": _shorten(fit.at_origin(fit.theta)),
            "draws": _shorten(fit.at_origin(fit.draws)),
            "spread": fit.spread,
            "confidence": fit.confidence,
            "ranges": {name: list(ends) for name, ends in fit.ranges.items() if name in fit.form.predictors},
            "cells": self.law.data.get("cells"),
            "languages": self.languages,
            "models": [_describe_model(one) for one in self.models],
            "score": None if self.scores is None else self._describe_score(self.scores),
            "source": str(self.law.data.get("source", "")),
            "notes": [warning.message for warning in self.law.list_warnings(self.group)],
            "defaults": self._choose_defaults(fit),
        }

    def _choose_defaults(self, fit: Fit) -> dict[str, Any]:
        """Return where the sliders stand at first: what the last model reaches with the most data of the runs."""
        roles, model = resolve_roles(self.law.columns, self.law.roles), self.models[-1]
        (size,), (data,) = (find_by_role(roles, (role,)) for role in ("parameters", "samples"))
        samples = fit.ranges[data][1] if data in fit.ranges else 1e7
        values = {name: value for name, value in model.inputs.items() if name in fit.form.predictors}
        loss = float(fit.predict({**values, size: model.P, data: samples}).mean[0])
        speed = model.samples_per_gpu_s or model.samples_per_s
        budget = samples / speed / 3600 * 2.5 if speed else model.compute_gmac(samples)
        return {
            "target": math.ceil(100 * loss) / 100,
            "budget": float(f"{budget:.1g}"),
            "languages": self.languages,
            "model": model.name,
        }

    def _describe_score(self, fit: Fit) -> dict[str, Any]:
        low, high = fit.ranges[fit.form.predictors[0]]
        return {
            "name": self.score_name,
            "theta": _shorten(fit.theta),
            "draws": _shorten(fit.draws),
            "spread": fit.spread,
            "confidence": fit.confidence,
            "range": [low, high],
            "points": [list(point) for point in self.score_points],
        }


def write_planner(
    path: Path, law: Law, models: Sequence[Candidate], *, config: PlanConfig, downstream: Law | None = None
) -> None:
    """Write the planner of one law to a page of its own.

    Args:
        models: models to choose from.
        config: where the sliders stand at first: target, limits, prices; and the group.
        downstream: law of the score against the loss.

    Raises:
        ValueError: the law has no size or no samples, or there are no models.
    """
    check_page_name("--page", path)
    group = config.group or next(iter(law.fits))
    described = PlannerLaw(
        name=str(law.data.get("source", "law")),
        law=law,
        group=group,
        loss=group if len(law.fits) > 1 else "y",
        models=tuple(models),
        scores=None if downstream is None else downstream.only,
        score_name="score" if downstream is None else downstream.columns.get("y", "score"),
        score_points=() if downstream is None else tuple(map(tuple, downstream.data.get("points", ()))),
    )
    script = read_planner_script()
    page = render_page(
        "planner.html.j2",
        payload=make_payload([described], config, keeps_address=True),
        planner_style=Markup(read_asset("planner.css")),
        script=Markup(script),
        script_hash=hash_script(script),
    )
    write_atomically(path, page)


def list_planner_laws(study: StudyFolder, column: str) -> list[PlannerLaw]:
    """Return the laws of a study that the page can plan with, by family first, and the law of the paper."""
    law, found = study.laws.get(f"product-{column}"), []
    if law is not None:
        law = replace(law, data={**law.data, "source": "the runs of this study"})
        for group in sorted(law.fits, key=lambda name: name == ALL):
            runs = [run for run in study.runs if group in (ALL, run.family)]
            name = "all families" if group == ALL else name_family(group)
            try:
                one = PlannerLaw(
                    name=f"this study, {COLUMN_NAMES[column]}: {name}",
                    law=law,
                    group=group,
                    loss=column,
                    models=_list_models(runs, law[group].form.predictors),
                )
            except ValueError:  # no run with all numbers, or a law in other quantities
                continue
            found.append(one)
    paper, scores = load_law(PAPER), load_law("paper-cider-prefix")
    published = PlannerLaw(
        name="the paper, with the published models",
        law=paper,
        group="UC",
        loss="UC",
        models=list_published_models(),
        scores=scores.only,
        score_name=scores.columns["y"],
        score_points=tuple(map(tuple, scores.data["points"])),
    )
    return [*found, published]


def _list_models(runs: Sequence[RunRow], predictors: Sequence[str]) -> tuple[Candidate, ...]:
    """Return the models of runs, each once, with the mean of its numbers; those with a number missing are left out."""
    models: dict[str, list[RunRow]] = {}
    for run in runs:
        needed = [run[name] for name in ("P", "P_t", "F", *(name for name in predictors if name != "S"))]
        if all(math.isfinite(value) and value > 0 for value in needed):
            models.setdefault(f"{name_series(run.family, run.start)}, {run.size}", []).append(run)
    return tuple(
        Candidate(
            name=name,
            P=fmean(run["P"] for run in alike),
            P_t=min(fmean(run["P_t"] for run in alike), fmean(run["P"] for run in alike)),
            F_gmac=fmean(run["F"] for run in alike),
            F_unit="sample",
            inputs={one: fmean(run[one] for run in alike) for one in predictors if one not in ("P", "S")},
        )
        for name, alike in models.items()
    )


def make_payload(laws: Sequence[PlannerLaw], config: PlanConfig | None = None, *, keeps_address: bool) -> Markup:
    """Return the data of the page as JSON that can stand inside a script element.

    Args:
        keeps_address: the page keeps its settings behind the # of its address, so that it can be sent.
    """
    budget = None if config is None else config.budget
    given: dict[str, Any] = {
        "T": None,
        "gpus": budget.gpus if budget else 1,
        "price": 2.5 if budget is None or budget.price_per_gpu_hour is None else budget.price_per_gpu_hour,
        "currency": (budget.currency if budget else "") or "USD",
    }
    if config is not None and config.target is not None:
        given["target"] = config.target
    if budget is not None and budget.max_money is not None:
        given["budget"] = budget.max_money
    if budget is not None and budget.cells is not None:
        given["languages"] = budget.cells - int(laws[0].law.data["cells"]) + laws[0].languages
    content = {"laws": [law.to_dict() for law in laws], "defaults": given, "keeps_address": keeps_address}
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def read_planner_script() -> str:
    """Return the page's script."""
    return read_asset("planner.js")


def hash_script(script: str) -> str:
    """Return the digest by which a page's policy allows a script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _list_terms(form: PowerSum) -> list[dict[str, Any]]:
    index = form.parameters.index
    return [
        {
            "amplitude": index(term.amplitude),
            "exponents": [[name, index(exponent), term.sign] for name, exponent in term.exponents],
        }
        for term in form.terms
    ]


def _describe_model(model: Candidate) -> dict[str, Any]:
    return {
        "name": model.name,
        "P": model.P,
        "P_t": model.P_t,
        "F": model.F_gmac,
        "speed": model.samples_per_s or model.samples_per_gpu_s,
        "perGpu": model.samples_per_s is None,
        "inputs": dict(model.inputs),
    }


def _shorten(values: Any) -> list[Any]:
    array = np.asarray(values, dtype=float)
    if array.ndim == 2:
        return [_shorten(row) for row in array]
    return [float(f"{value:.{_DIGITS}g}") for value in array.tolist()]
