"""The live page of a study: states, losses as they come, predicted against measured so far, hours and money.

`polyglance study serve` renders it repeatedly, `study status --page` once. `watching/progress.py` reads its content.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from markupsafe import Markup

from polyglance.prediction_records import RunPredictions
from polyglance.report.laws import name_group
from polyglance.report.planner import hash_script
from polyglance.report.predictions import PREDICTION_COLUMNS, describe_predictions, pair_predictions
from polyglance.report.svg import COLOURS, SERIES, make_log_axis, make_panel, render_svg, use_report_style
from polyglance.report.tables import TableColumn, number_column, text_column
from polyglance.report.templating import read_asset, render_page
from polyglance.report.wording import (
    COLUMN_NAMES,
    MISSING,
    capitalise,
    count_noun,
    format_count,
    format_loss,
    format_magnitude,
    format_share,
    format_significant,
    name_series,
)
from polyglance.run_records import RunRow

__all__ = [
    "REFRESH_S",
    "JobProgress",
    "LawSoFar",
    "StudyProgress",
    "describe_age",
    "describe_time",
    "make_content_policy",
    "render_live_page",
]

REFRESH_S = 5
"""Seconds after which an open page asks for a new one."""
_STATES = ("done", "at work", "waiting", "silent", "failed", "to do", "not needed")


@dataclass(frozen=True, kw_only=True)
class JobProgress:
    """Progress of one job of a study."""

    id: str
    kind: str
    state: str
    """`done`; `at work`; `waiting`: for room on the cluster; `silent`: begun, and nothing was written for long;
    `failed`; `to do`; `not needed`."""
    problem: str = ""
    """Why it failed, in one line."""
    run: RunRow | None = None
    """Runs: what they are, with the numbers that are measured so far."""
    steps_done: int = 0
    """Optimiser steps, as far as its log says."""
    num_steps: int = 0
    """Optimiser steps in all; 0 for jobs that train nothing."""
    samples_per_step: int = 0
    loss_nats: float | None = None
    """Training loss of the last row, in nats per target token."""
    samples_per_s: float | None = None
    """Rate of the last row."""
    spent_s: float = 0.0
    """Time of the training steps that its log has, in seconds."""
    left_s: float | None = 0.0
    """Expected time of the steps that are left, in seconds; None where no rate is known."""
    written_s: float | None = None
    """Time of the last change in its folder, in seconds since 1970; None where there is nothing."""
    curve: tuple[tuple[float, float], ...] = ()
    """(samples seen, training loss), each the mean of some rows."""


@dataclass(frozen=True, kw_only=True)
class LawSoFar:
    """One fit of a law to the runs that were done when the study's table was last written."""

    target: str
    """Column of runs.csv that it is about."""
    form: str
    """Name of the law's form."""
    group: str
    """Family, or `all`."""
    num_runs: int
    parameters: Mapping[str, float | None]
    """None for those that the runs do not determine."""
    intervals: Mapping[str, tuple[float | None, float | None]]
    """Parameter -> interval; None for an open end."""
    held_out_error: float | None
    """Median error on the largest of these runs, of the law of the others; None where these do not determine one."""

    def describe_exponents(self) -> str:
        """Return the exponents with their intervals: `S −0.21 (−0.30 to −0.12)`."""
        return ", ".join(
            f"{variable} {self._describe(name)}" for name, variable in _EXPONENTS.items() if name in self.parameters
        )

    def _describe(self, name: str) -> str:
        value, ends = self.parameters[name], self.intervals.get(name)
        if value is None:
            return "not determined"
        if ends is None:
            return format_significant(value)
        low, high = ("open" if end is None else format_significant(end) for end in ends)
        return f"{format_significant(value)} ({low} to {high})"


_EXPONENTS = {"a1": "C", "b_P": "P", "b_S": "S", "b_T": "T"}
"""Parameter of a study's laws -> variable that it is the exponent of."""


@dataclass(frozen=True, kw_only=True)
class StudyProgress:
    """Progress of a study at one moment."""

    title: str
    folder: str
    jobs: tuple[JobProgress, ...]
    read_s: float
    """Time at which it was read, in seconds since 1970."""
    unit: str
    """Unit of the hours: `GPU hours`, `core hours`."""
    devices: int
    """GPUs or cores that a run takes."""
    planned_s: float | None = None
    """Planned time of all training, in seconds of the whole machine; None if there is no plan yet."""
    price_per_hour: float | None = None
    """Price of one hour of the whole machine; None where there is none."""
    currency: str = ""
    predicts: bool = False
    """Whether the largest runs are predicted before they start."""
    predictions: RunPredictions | None = None
    """None as long as they are not made."""
    laws: tuple[LawSoFar, ...] = ()
    """Laws of the runs that are done; none as long as none could be fitted."""
    notes: tuple[str, ...] = field(default=())
    """Files that cannot be read, and what that leaves out, one sentence each."""

    @property
    def runs(self) -> tuple[JobProgress, ...]:
        return tuple(job for job in self.jobs if job.kind == "run")

    @property
    def others(self) -> tuple[JobProgress, ...]:
        """Jobs that runs need: data, tokenizer, starting points, trunks, the prediction."""
        return tuple(job for job in self.jobs if job.kind != "run")

    @property
    def spent_s(self) -> float:
        return sum(job.spent_s for job in self.jobs)

    @property
    def left_s(self) -> float:
        """Expected time of all remaining steps, without the `num_unknown` jobs of unknown rate."""
        return sum(job.left_s or 0.0 for job in self.jobs)

    @property
    def num_unknown(self) -> int:
        """Jobs whose rate is not known."""
        return sum(job.left_s is None for job in self.jobs)

    @property
    def written_s(self) -> float | None:
        """Time of the last change of any job's folder."""
        return max((job.written_s for job in self.jobs if job.written_s is not None), default=None)

    def hours(self, seconds: float) -> float:
        """Return the hours of all devices that a time of the machine takes."""
        return seconds / 3600 * self.devices

    def price(self, seconds: float) -> float | None:
        """Return the price of a time of the machine."""
        return None if self.price_per_hour is None else seconds / 3600 * self.price_per_hour


def render_live_page(progress: StudyProgress, *, is_live: bool) -> str:
    """Return the page.

    Args:
        is_live: the page comes from a server and requests updates from it; otherwise it is a file without a script.
    """
    script = read_asset("live.js") if is_live else ""
    checked = pair_predictions(progress.predictions, (job.run for job in progress.runs if job.run is not None))
    return render_page(
        "live.html.j2",
        progress=progress,
        refresh_s=REFRESH_S,
        lede=_describe_progress(progress),
        tiles=_make_tiles(progress),
        failed=[job for job in progress.jobs if job.state == "failed"],
        figures=[(name, Markup(svg), sizes) for name, svg, sizes in _draw_losses(progress)],
        columns=[name for name in _COLUMNS if any(_measured(job, name) is not None for job in progress.runs)],
        column_names=COLUMN_NAMES,
        checked=checked,
        predicted=describe_predictions(progress.predictions, checked),
        prediction_columns=PREDICTION_COLUMNS,
        law_columns=_LAW_COLUMNS,
        read_at=datetime.fromtimestamp(progress.read_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        age=describe_age,
        time=describe_time,
        measured=_measured,
        policy=make_content_policy(script),
        script=Markup(script),
    )


def make_content_policy(script: str) -> str:
    """Return the Content-Security-Policy of the page: it loads nothing, and runs this script alone."""
    live = f"script-src 'sha256-{hash_script(script)}'; connect-src 'self'; " if script else ""
    return f"default-src 'none'; style-src 'unsafe-inline'; {live}base-uri 'none'; form-action 'none'"


def describe_time(seconds: float | None) -> str:
    """Return a length of time in words: `12 s`, `4 min`, `3.2 h`, `5.1 days`."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    for limit, unit, length in ((99.5, "s", 1.0), (99.5 * 60, "min", 60.0), (100 * 3600, "h", 3600.0)):
        if seconds < limit:
            value = seconds / length
            return f"{value:.1f} {unit}" if unit == "h" else f"{value:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"


def describe_age(progress: StudyProgress, written_s: float | None) -> str:
    """Return how long ago something was written, when the page was read."""
    return MISSING if written_s is None else f"{describe_time(max(0.0, progress.read_s - written_s))} ago"


_COLUMNS = ("UC_prefix", "UC", "ST", "SC")
"""Losses on held-out data in the table of runs."""


_LAW_COLUMNS: tuple[TableColumn[LawSoFar], ...] = (
    text_column("loss", lambda law: COLUMN_NAMES.get(law.target, law.target)),
    text_column("law", lambda law: law.form),
    text_column("fitted on", lambda law: name_group(law.group)),
    number_column("runs", lambda law: float(law.num_runs), format_count),
    text_column("exponents", LawSoFar.describe_exponents),
    number_column("held-out error", lambda law: law.held_out_error, format_share),
)


def _measured(job: JobProgress, column: str) -> float | None:
    value = math.nan if job.run is None else job.run[column]
    return value if math.isfinite(value) else None


def _describe_progress(progress: StudyProgress) -> str:
    counts = Counter(job.state for job in progress.runs)
    parts = [f"{counts['done']} of {count_noun(len(progress.runs), 'run')} are done"]
    parts += [f"{counts[state]} {state}" for state in _STATES[1:] if counts[state]]
    working = [job.id for job in progress.others if job.state == "at work"]
    more = f" At work besides: {', '.join(working)}." if working else ""
    return f"{', '.join(parts)}.{more}"


def _make_tiles(progress: StudyProgress) -> list[tuple[str, str, str]]:
    """Return name, value and detail of each tile."""
    counts = Counter(job.state for job in progress.runs)
    unit = capitalise(progress.unit)
    unknown = f"without {count_noun(progress.num_unknown, 'job')} of unknown rate" if progress.num_unknown else ""
    planned = "" if progress.planned_s is None else f"planned in all: {_hours(progress, progress.planned_s)}"
    tiles = [
        ("Runs done", f"{counts['done']} of {len(progress.runs)}", f"{counts['failed']} failed"),
        (f"{unit} spent", _hours(progress, progress.spent_s), planned),
        (f"{unit} left", _hours(progress, progress.left_s), unknown or "at the rates seen so far, else as planned"),
    ]
    spent, left = progress.price(progress.spent_s), progress.price(progress.left_s)
    if spent is not None and left is not None:
        tiles.append((f"{progress.currency} spent", format_count(spent), "at the price in study.toml"))
        tiles.append((f"{progress.currency} left", format_count(left), unknown))
    newest = progress.written_s
    tiles.append(("Newest data", describe_age(progress, newest), "last change in the study's folder"))
    return tiles


def _hours(progress: StudyProgress, seconds: float) -> str:
    hours = progress.hours(seconds)
    return f"{hours:.2f}" if hours < 9.995 else format_count(hours)


def _draw_losses(progress: StudyProgress) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Draw the training losses of each family and starting point: its name, the figure, and (size, colour)."""
    series: dict[tuple[str, str], list[JobProgress]] = {}
    for job in progress.jobs:
        if job.run is not None and any(loss > 0 for _, loss in job.curve):
            series.setdefault((job.run.family, job.run.start), []).append(job)
    sizes = list(dict.fromkeys(job.run.size for job in progress.runs if job.run is not None))
    colours = {size: f"s{number % len(SERIES)}" for number, size in enumerate(sizes)}
    figures = []
    for number, (pair, jobs) in enumerate(series.items()):
        name = capitalise(name_series(*pair))
        shown = {job.run.size: colours[job.run.size] for job in jobs if job.run is not None}
        figures.append((name, _draw_series(f"losses{number}", name, jobs, colours), list(shown.items())))
    return figures


def _draw_series(name: str, title: str, jobs: Sequence[JobProgress], colours: Mapping[str, str]) -> str:
    titles, words = {}, []
    with use_report_style():
        axes = make_panel(360, 260, top=10)
        points = [point for job in jobs for point in job.curve if point[1] > 0]
        make_log_axis(axes, "x", [samples for samples, _ in points], format_magnitude)
        make_log_axis(axes, "y", [loss for _, loss in points], format_loss)
        axes.set_xlabel("samples seen", fontsize=11, labelpad=5)
        axes.set_ylabel("training loss, nats per token", fontsize=11, labelpad=4)
        for number, job in enumerate(jobs):
            assert job.run is not None
            xs, ys = zip(*(point for point in job.curve if point[1] > 0), strict=True)
            colour = COLOURS[colours[job.run.size]]
            axes.plot(xs, ys, color=colour, lw=1.4, alpha=1.0 if job.state == "at work" else 0.55)
            marker = {"done": "o", "failed": "X"}.get(job.state, "D")
            text = f"{job.id}: {job.state}, {format_loss(ys[-1])} after {format_count(xs[-1])} samples"
            titles[f"{name}-{number}"] = text
            words.append(text)
            axes.plot(xs[-1], ys[-1], marker, color=colour, ms=5, gid=f"{name}-{number}")
        return render_svg(axes, name, f"Training losses, {title}. {'; '.join(words)}.", titles)
