"""Laws of a study: each target against compute, and against size, samples and starting point."""

import math
from dataclasses import replace
from pathlib import Path

from polyglance.files import unlist_files
from polyglance.laws import FitConfig, Law, Table, fit_law
from polyglance.run_records import NUMBER_COLUMNS, read_runs
from polyglance.study.config import StudyConfig

__all__ = ["LAW_FORMS", "fit_laws"]

_INPUTS = {"compute": {"C": "C"}, "product": {"P": "P", "S": "S", "T": "T"}}
LAW_FORMS = tuple(_INPUTS)
"""Forms of the laws that are fitted to each target; a law's file is `laws/FORM-TARGET.json`."""


def fit_laws(config: StudyConfig) -> list[str]:
    """Fit `compute` on each target's frontier and `product` on all runs, and write them to laws/.

    Each law is fitted over all families and for each family alone: common exponents for all families are a hypothesis,
    and the fits of each family let a reader judge it. The law files note how many cells and languages were trained, so
    that `law plan --cells` and the planner can plan for other numbers. Files that an earlier call has left, of a law
    that is not fitted now, are removed.

    Returns:
        Fits that failed, most often for too few runs, one line each.
    """
    table = Table.read(config.out / "runs.csv")
    problems: list[str] = []
    written: set[str] = set()
    for target in config.laws.targets:
        if all(run[target] is None or math.isnan(run[target]) for run in read_runs(config.out / "runs.csv")):
            problems.append(f"{target}: no run has it")
            continue
        for form, inputs in _INPUTS.items():
            name = f"{form}-{target}"
            settings = FitConfig(
                form=form,
                columns={**inputs, "y": target},
                size="size",
                cluster="id",
                frontier=form == "compute",
                bootstrap=config.laws.bootstrap,
            )
            laws: list[Law] = []
            for group in (None, "family") if len(config.families) > 1 else (None,):
                try:
                    laws.append(fit_law(replace(settings, group=group), table))
                except ValueError as error:
                    problems.append(f"{name}{f' by {group}' if group else ''}: {error}")
            if laws:
                fits = {key: one for law in laws for key, one in law.fits.items()}
                coverage = config.coverage
                data = {**laws[0].data, "cells": len(coverage.cells), "languages": len(coverage.languages)}
                replace(laws[0], fits=fits, data=data).save(config.out / "laws" / f"{name}.json")
                written.add(f"{name}.json")
    _remove_others(config.out / "laws", written)
    return problems


def _remove_others(folder: Path, written: set[str]) -> None:
    """Remove the laws of a study that are not among those just written."""
    own = {f"{form}-{column}.json" for form in _INPUTS for column in NUMBER_COLUMNS}
    left = [name for name in sorted(own - written) if (folder / name).exists()]
    unlist_files(folder, left)
    for name in left:
        (folder / name).unlink()
