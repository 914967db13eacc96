"""Limits and prices of a plan: which cost each limits, and what is missing to compute it."""

from collections.abc import Mapping, Sequence

from polyglance.laws.config import Budget
from polyglance.laws.equations.roles import Role
from polyglance.laws.planning.costs import Candidate, Rates
from polyglance.settings import UnusedSettingError

__all__ = ["LIMITS", "check_limits", "explain_missing"]

LIMITS: Mapping[str, tuple[str, str]] = {
    "max_samples": ("samples", "samples"),
    "max_tokens": ("tokens", "tokens"),
    "max_gmac": ("compute", "GMAC"),
    "max_flop": ("flop", "FLOP"),
    "max_hours": ("hours", "hours"),
    "max_gpu_hours": ("gpu_hours", "GPU-hours"),
    "max_money": ("money", "of money"),
}
"""Field of the budget -> the cost in `Rates` that it limits, and its unit in messages."""
_SPEED = "gmac_per_gpu_s, or candidates with samples_per_s"


def check_limits(budget: Budget, role: Role, models: Sequence[tuple[Candidate | None, Rates]]) -> None:
    """Refuse a limit or price whose cost cannot be computed, because it would seem to be kept, and one without effect.

    Args:
        role: role of the predictor that counts data; `none` where the law has no such predictor.
        models: the candidates (None: the plan has none) with their costs per unit of data.

    Raises:
        ValueError: the cost of a limit or price cannot be computed; the message says what is missing.
    """
    costs = {limit: cost for limit, (cost, _) in LIMITS.items()} | {"price_per_gpu_hour": "hours"}
    for limit, cost in costs.items():
        unknown = [candidate for candidate, rates in models if getattr(rates, cost) is None]
        if getattr(budget, limit) is not None and unknown:
            reason = _explain(limit, role, unknown)
            raise ValueError(f"{limit} cannot be checked ({_name(unknown)}): it needs {reason}")
    large = [candidate for candidate, _ in models if candidate is None or candidate.memory_bytes is None]
    if budget.max_memory_gb is not None and large:
        raise ValueError(f"max_memory_gb cannot be checked ({_name(large)}): it needs candidates with memory_bytes")
    if any(candidate is not None and rates.compute is None for candidate, rates in models) and role != "none":
        unknown = [candidate for candidate, rates in models if rates.compute is None]
        raise ValueError(
            f"the compute of a run is not known ({_name(unknown)}): it needs {_explain('max_gmac', role, [])}"
        )
    _refuse_without_effect(budget, role, models)


def explain_missing(limit: str) -> str:
    """Return the inputs that the check of a limit needs."""
    return _explain(limit, "samples", [])


def _name(candidates: Sequence[Candidate | None]) -> str:
    return ", ".join(repr(one.name) for one in candidates if one) or "no candidates are given"


def _explain(limit: str, role: Role, unknown: Sequence[Candidate | None]) -> str:
    if role == "none":
        return "a predictor with the role samples, tokens, epochs or compute (roles)"
    unit = "samples_per_epoch" if role == "epochs" else "tokens_per_sample"
    if limit in ("max_samples", "max_tokens"):
        if role == "epochs" and limit == "max_tokens":
            return "samples_per_epoch and tokens_per_sample"
        return f"candidates, and {unit} unless F is of that unit" if role == "compute" else unit
    if limit == "max_money":
        return f"price_per_gpu_hour, and {_SPEED}"
    if limit in ("max_gmac", "max_flop"):
        return f"candidates, and {unit} unless F is of the unit of the data"
    if None in unknown:
        return "candidates with their F, and gmac_per_gpu_s or measured speeds"
    if any(one is not None and one.has_speed for one in unknown):
        return f"{unit} to convert the measured speed"
    return _SPEED


def _refuse_without_effect(budget: Budget, role: Role, models: Sequence[tuple[Candidate | None, Rates]]) -> None:
    candidates = [candidate for candidate, _ in models if candidate is not None]
    has_speed = any(rates.hours is not None for _, rates in models)
    if budget.gpus != 1 and not has_speed:
        raise UnusedSettingError(f"`gpus` has no effect without {_SPEED}")
    if budget.gmac_per_gpu_s is not None and not has_speed:
        raise UnusedSettingError("`gmac_per_gpu_s` has no effect without candidates, or a law of compute")
    if budget.samples_per_epoch is not None and role != "epochs":
        raise UnusedSettingError("`samples_per_epoch` has no effect: no predictor counts epochs")
    in_tokens = any(one.F_unit == "token" or one.tokens_per_s for one in candidates) or budget.max_tokens
    speeds = [one.samples_per_s or one.samples_per_gpu_s for one in candidates]
    in_samples = any(one.F_unit == "sample" for one in candidates) or any(speeds) or budget.max_samples
    converts = {"tokens": in_samples, "compute": in_tokens or in_samples, "none": False}.get(role, in_tokens)
    if budget.tokens_per_sample is not None and not converts:
        raise UnusedSettingError("`tokens_per_sample` has no effect: nothing has to be converted")
