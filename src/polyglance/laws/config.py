"""Settings of the library's functions: `fit_law`, `compare_laws`, `plan_with_law`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

import numpy as np

from polyglance.config import check_types
from polyglance.laws.equations.transforms import TransformName, check_ceiling
from polyglance.laws.fitting.objectives import FitObjective, ObjectiveName
from polyglance.settings import UnusedSettingError, refuse_unused

__all__ = [
    "BootstrapMethod",
    "Budget",
    "CompareConfig",
    "CostMeasure",
    "Expressions",
    "FitConfig",
    "FormConfig",
    "PlanConfig",
    "PrepareConfig",
]

BootstrapMethod = Literal["auto", "pairs", "wild"]
CostMeasure = Literal["compute", "hours", "money"]
ExpressionText = Annotated[str, "expression"]
"""Text that the command line takes as a whole: commas in it do not separate values."""
Expressions = Mapping[str, ExpressionText]


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Changes of a table before a law is fitted to it."""

    melt: Expressions = field(default_factory=dict)
    """Long column made from several columns of a wide table, as in "loss=loss_{language}": the column loss_de gives
    rows with language de. {D} alone takes the columns whose names are numbers. May be given several times."""
    derive: Expressions = field(default_factory=dict)
    """Column computed from others, as in "D=C/(6*N)" or "y=1-acc": + - * / **, log, log10, log2, exp, sqrt, abs, min,
    max, comparisons, and, or, not; other names than N or config.lr in double quotes. May be given several times."""
    where: ExpressionText | None = None
    """Condition for the rows that are used, as in "Training==1 and loss<5 and State=='finished'"."""

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True, kw_only=True)
class FormConfig(PrepareConfig):
    """Form of a law, the columns and rows that it is fitted to, and the objective."""

    form: str = "product"
    """Form of the law: compute, product, saturating, additive, compute-v1, product-v1 or downstream."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Column of the table for each name in the law, as in P=params,S=samples,T=t0,y=loss. A name without an entry is
    its own column. The predictors of the product law are the names given here, in this order."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Quantities that predictors count, as in N=parameters,D=tokens: parameters, samples, tokens, epochs, compute,
    starting-loss or none. By default guessed from the names of the columns and predictors. Costs and limits are
    computed from them."""
    group: str | tuple[str, ...] | None = None
    """Column with the group of a row (a split, a language), or several, as in split,language. Each group, or each
    combination, gets its own law."""
    cluster: str | None = None
    """Column with the run of a row. Rows of one run, such as its checkpoints, are not independent; the bootstrap draws
    them together."""
    weight: str | None = None
    """Column with the weight of a row; weights are positive."""
    size: str | None = None
    """Column with the model of a row, for warnings about the frontier and for leaving one model out."""
    objective: ObjectiveName = "log-huber"
    """Loss that the fit minimises, summed over the rows."""
    delta: float = 1e-3
    """Residual at which log-huber (in log y) and huber (in y) turn from square to linear."""
    overestimate: float = 10.0
    """Weight of an overestimate relative to an underestimate; for the objective asymmetric."""
    offset: bool | None = None
    """Whether the law has its offset (eps, E). By default the form decides."""
    transform: TransformName = "none"
    """Quantity that the law is fitted to, for scores that rise to a ceiling: error (ceiling - y) or log-odds
    ((ceiling - y) / y). Predictions, targets and plans stay in the unit of y."""
    ceiling: float | None = None
    """Highest possible score, for `transform`. By default 1 where all scores are up to 1, and 100 where the highest is
    from 10 to 100."""
    frontier: bool = False
    """Fit only the Pareto frontier of each group (laws with one predictor, the compute)."""
    maximise: bool = False
    """Higher y is better (accuracy, BLEU, CIDEr): the frontier keeps the highest runs, not the lowest. A law of a score
    that is to be planned with needs `transform`."""
    frontier_window: int = 1
    """Compare runs by the median loss of this many neighbouring checkpoints of a run (an odd number; needs `cluster`).
    The law is fitted to the measured losses, not to the medians."""
    frontier_final_only: bool = False
    """Use only the last checkpoint of each run (needs `cluster`)."""
    frontier_min_gap: float = 0.0
    """Smallest distance between two points of the frontier, in decades of compute. The largest compute is kept."""
    frontier_bins: int = 0
    """Take as the frontier the best run of each of this many bins of compute, equally wide in its log, as published
    protocols do; a run keeps its own compute. 0: the runs that no other one dominates."""
    drop_bad_rows: bool = False
    """Leave out rows that cannot be used, with a warning, instead of stopping with an error."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.make_objective()
        check_ceiling(self.ceiling)
        refuse_unused(
            self,
            delta=(self.objective in ("log-huber", "huber"), "without `objective` log-huber or huber"),
            overestimate=(self.objective == "asymmetric", "without `objective` asymmetric"),
            ceiling=(self.transform != "none", "without `transform`"),
            maximise=(self.transform == "none", "beside `transform`, which knows that higher is better"),
            frontier_window=(self.frontier, "without `frontier`"),
            frontier_final_only=(self.frontier, "without `frontier`"),
            frontier_min_gap=(self.frontier and not self.frontier_bins, "without `frontier`, or with `frontier_bins`"),
            frontier_bins=(self.frontier, "without `frontier`"),
        )

    @property
    def groups(self) -> tuple[str, ...]:
        """The columns of the groups."""
        return (self.group,) if isinstance(self.group, str) else self.group or ()

    def list_columns(self, columns: Mapping[str, str]) -> tuple[str, ...]:
        """Return all columns of the table that a fit uses; `columns` are those of the law."""
        others = (*self.groups, self.cluster, self.weight, self.size)
        return (*columns.values(), *(name for name in others if name))

    def make_objective(self) -> FitObjective:
        """Return the objective.

        Raises:
            ValueError: unknown name, or a delta or overestimate that is not positive.
        """
        return FitObjective(name=self.objective, delta=self.delta, overestimate=self.overestimate)


@dataclass(frozen=True, kw_only=True)
class FitConfig(FormConfig):
    """Settings of a fit: the form and its columns, constraints on parameters, and intervals."""

    fix: Mapping[str, float] = field(default_factory=dict)
    """Parameters with a given value, as in eps=1.6,b_T=0. An offset fixed at 0 is left out of the law."""
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Lowest and highest value of parameters, as in b_T=0:inf,alpha=0:1."""
    tie: Mapping[str, str] = field(default_factory=dict)
    """Exponents that are equal to another one, as in alpha=beta. The two are one parameter of the fit."""
    share: tuple[str, ...] = ()
    """Parameters that all groups have in common, as in b_P,b_S. The groups are then fitted together."""
    bootstrap: int = 1000
    """Number of bootstrap replicates, at least 20; 0 gives no intervals."""
    method: BootstrapMethod = "auto"
    """How replicates are drawn: pairs draws runs with replacement, wild changes the signs of residuals; auto takes wild
    for fewer than 60 runs."""
    confidence: float = 0.95
    """Confidence level of all intervals, from 0.5 to below 1."""
    seed: int = 0
    """Seed of the bootstrap."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bootstrap < 0 or 0 < self.bootstrap < 20:
            raise ValueError(f"bootstrap is {self.bootstrap}; expected 0 or at least 20 replicates")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence is {self.confidence}; expected at least 0.5 and below 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; expected 0 or more")
        without_draws = (self.bootstrap, "with `bootstrap` 0")
        refuse_unused(
            self,
            share=(self.group, "without `group`"),
            method=without_draws,
            confidence=without_draws,
            seed=without_draws,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, by their names in the law file; infinite bounds become null."""
        plain: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        names = {
            "window": "frontier_window",
            "final_only": "frontier_final_only",
            "min_gap_decades": "frontier_min_gap",
            "bins": "frontier_bins",
        }
        plain["frontier_options"] = {name: plain.pop(option) for name, option in names.items()}
        plain["bad_rows"] = "drop" if plain.pop("drop_bad_rows") else "error"
        plain["columns"], plain["fix"], plain["roles"] = dict(self.columns), dict(self.fix), dict(self.roles)
        plain["tie"] = dict(self.tie)
        plain["bounds"] = {k: [None if np.isinf(end) else end for end in ends] for k, ends in self.bounds.items()}
        plain["share"] = list(self.share)
        plain["melt"], plain["derive"] = dict(self.melt), dict(self.derive)
        plain["group"] = list(self.group) if isinstance(self.group, tuple) else self.group
        return plain


@dataclass(frozen=True, kw_only=True)
class CompareConfig(FormConfig):
    """The most complete law to compare, its columns, and the columns that order or split the rows."""

    language: str | None = None
    """Column with the language of a row, for leaving one language out at a time."""
    scale: str | None = None
    """Column that orders runs from small to large, such as the compute. By default P times S (N times D)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        compares_checkpoints = self.frontier_final_only or self.frontier_window > 1
        needed = "without `frontier_window` or `frontier_final_only`, in a comparison"
        refuse_unused(self, cluster=(compares_checkpoints, needed))

    def make_fit(self) -> FitConfig:
        """Return the settings of the fits that predict held-out rows: without constraints and intervals."""
        return FitConfig(bootstrap=0, **{f.name: getattr(self, f.name) for f in fields(FormConfig)})


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of a plan, the price of computing, and the units of data. None is unlimited or unknown."""

    max_samples: float | None = None
    """Samples that a run can see; a law in tokens needs `tokens_per_sample`."""
    max_tokens: float | None = None
    """Tokens that a run can see; a law in samples needs `tokens_per_sample`."""
    max_memory_gb: float | None = None
    """Memory that training can use, in 10^9 bytes."""
    max_hours: float | None = None
    """Longest training time, in hours of wall-clock time."""
    max_gmac: float | None = None
    """Largest training compute, in GMAC."""
    max_flop: float | None = None
    """Largest training compute, in FLOP; 1 MAC is 2 FLOP."""
    max_gpu_hours: float | None = None
    """Most hours of one GPU, over all GPUs together."""
    max_money: float | None = None
    """Highest price; needs `price_per_gpu_hour`."""
    tokens_per_sample: float | None = None
    """Tokens in one sample, to convert between the two."""
    samples_per_epoch: float | None = None
    """Samples in one epoch, for a law in epochs."""
    gpus: int = 1
    """Number of GPUs."""
    gmac_per_gpu_s: float | None = None
    """Training throughput of one GPU, in GMAC per second."""
    gpu: str = "H100"
    """GPU whose speed is taken from model cards and for the published models; a word of its name."""
    price_per_gpu_hour: float | None = None
    """Price of one GPU for one hour, in any currency."""
    currency: str = ""
    """Currency of the price and of `max_money`, as it is printed: USD, EUR. Nothing is converted."""
    cells: int | None = None
    """Task-language cells that are to be trained. The law's samples are those of the cells behind it; for another
    number, the same number of samples per cell is assumed, which no run has tested. By default the number of cells
    behind the law."""
    macs_per_parameter: float | None = None
    """MAC of training for each parameter and token, where a budget is spent without candidates. By default 2, a forward
    pass and as much again, as in C = S F (1 + P_t / P); 3 is the usual 6 N D FLOP."""

    @property
    def can_be_spent(self) -> bool:
        """Whether there is a limit on compute, time or money: a larger model reaches such a limit with less data."""
        limits = (self.max_gmac, self.max_flop, self.max_hours, self.max_gpu_hours, self.max_money)
        return any(limit is not None for limit in limits)

    def __post_init__(self) -> None:
        check_types(self)
        for name, value in vars(self).items():
            if value is not None and not isinstance(value, str) and not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value:g}; expected a positive number")
        if self.currency and self.price_per_gpu_hour is None:
            raise UnusedSettingError("`currency` has no effect without `price_per_gpu_hour`")


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """Question to the planner: a target or a budget to spend, the given values, and the limits.

    With a target the question is what reaches it at the lowest cost. Without one it is the lowest loss that the limits
    of the budget allow.
    """

    group: str | None = None
    """Group of the law; needed where the law has several."""
    target: float | None = None
    """Loss to be reached. Without a target the budget is spent on the lowest loss: the best size and its data."""
    target_score: float | None = None
    """Score to be reached, in place of a loss; needs a downstream law."""
    solve_for: str | None = None
    """Predictor whose needed amount is computed; by default the one that counts samples, tokens, epochs or compute."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Quantities that the law's predictors count, as in N=parameters,D=tokens, in place of the roles in its file."""
    cheapest_by: CostMeasure | None = None
    """Cost by which candidates are compared: compute, hours or money. By default money where a price is given,
    otherwise hours where all speeds are known, otherwise compute."""
    compute_unit: Literal["GMAC", "GFLOP", "FLOP"] | None = None
    """Unit of the law's compute. By default as the name of the column says, otherwise GMAC; 1 MAC is 2 FLOP."""
    at: Mapping[str, float] = field(default_factory=dict)
    """Values of the other predictors, as in T=6.02, where the candidates do not have them. They are also the point
    that gains are computed at."""
    budget: Budget = field(default_factory=Budget)
    """Limits and prices."""
    moves: Mapping[str, float] = field(default_factory=dict)
    """Predictors and the values to change them to, as in T=3.0; the plan states the gain of each change. A doubling of
    each predictor except T is always included."""
    inference_tokens: float | None = None
    """Tokens that the model will process after training. A smaller model that is trained longer reaches the same loss
    and saves compute with each of them; the plan states the size with the least compute in all."""

    @property
    def has_target(self) -> bool:
        return self.target is not None or self.target_score is not None

    def __post_init__(self) -> None:
        check_types(self)
        if self.target is not None and self.target_score is not None:
            raise ValueError("give a target loss or a target score, one of them")
        without = (self.has_target, "without a target")
        beside = (not self.has_target, "beside a target")
        refuse_unused(self, solve_for=without, cheapest_by=without, moves=without, inference_tokens=beside)
        if self.has_target and self.budget.macs_per_parameter is not None:
            raise UnusedSettingError("`macs_per_parameter` has no effect beside a target")
        if self.inference_tokens is not None and not 0 < self.inference_tokens < np.inf:
            raise ValueError(f"inference_tokens is {self.inference_tokens:g}; expected a positive number")
        for name, value in (("target", self.target), ("target score", self.target_score)):
            if value is not None and not 0 < value < np.inf:
                raise ValueError(f"the {name} is {value:g}; expected a positive number")
