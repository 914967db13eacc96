"""The laws of a study: every target against compute, and against size, samples and starting point."""

from dataclasses import replace

from polyglance.laws import FitConfig, Law, Table, fit_law
from polyglance.study.config import StudyConfig

__all__ = ["fit_laws"]

_INPUTS = {"compute": {"C": "C"}, "product": {"P": "P", "S": "S", "T": "T"}}


def fit_laws(config: StudyConfig) -> tuple[dict[str, Law], list[str]]:
    """Fit `compute` on each target's frontier and `product` on all runs, over all families and for each alone, and
    write them to laws/. Common exponents for all families are a hypothesis, so the fits of each stand beside theirs.

    Returns:
        Name of the artefact -> law; and what could not be fitted (too few runs, mostly), a line each.
    """
    table = Table.read(config.out / "runs.csv")
    laws: dict[str, Law] = {}
    problems: list[str] = []
    for target in config.laws.targets:
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
            fits: list[Law] = []
            for group in (None, "family") if len(config.families) > 1 else (None,):
                try:
                    fits.append(fit_law(replace(settings, group=group), table))
                except ValueError as error:
                    problems.append(f"{name}{f' by {group}' if group else ''}: {error}")
            if fits:
                laws[name] = replace(fits[0], fits={key: one for law in fits for key, one in law.fits.items()})
                laws[name].save(config.out / "laws" / f"{name}.json")
    return laws, problems
