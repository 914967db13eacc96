"""The first screen of the page: an image, its best caption in a language without training captions, and how captioning
in such languages emerged."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup
from matplotlib.axes import Axes

from polyglance.report.comparisons import find_best_run, find_blind_loss
from polyglance.report.examples import CaptionedImage, CaptionLine, Gallery
from polyglance.report.folder import StudyFolder
from polyglance.report.plots import choose_marks
from polyglance.report.svg import COLOURS, make_log_axis, make_panel, render_svg, use_report_style
from polyglance.report.wording import (
    COLUMN_NAMES,
    capitalise,
    format_count,
    format_loss,
    format_magnitude,
    format_share,
    format_significant,
    name_series,
)
from polyglance.run_records import RunRow

__all__ = ["Opening", "make_opening"]

_SCORES = {
    "exact_match": "captions right word for word",
    "attribute_accuracy": "attributes right",
}
"""Score of a run, after the prefix -> its name in the figure; the strictest first."""

_MAX_WRONG_SHARE = 0.5
"""Share of characters in wrong and missing words from which on a caption is not used for the opening."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """The picture and the figure that the page opens with; None where there is none."""

    example: CaptionedImage | None
    """An image with a right or nearly right caption by the best run in an unseen language."""
    line: CaptionLine | None
    """This caption."""
    figure: Markup | None
    caption: str
    """Words below the figure."""


def make_opening(study: StudyFolder, column: str, galleries: Sequence[Gallery]) -> Opening:
    """Return the opening of a study's page."""
    example, line = _find_best_caption(study, galleries)
    figure, caption = _draw_emergence(study, column)
    return Opening(example=example, line=line, figure=figure, caption=caption)


def _find_best_caption(
    study: StudyFolder, galleries: Sequence[Gallery]
) -> tuple[CaptionedImage, CaptionLine] | tuple[None, None]:
    """Return the longest right caption in an unseen language of the best run or, where none is right, the one with the
    smallest share of characters in wrong and missing words, if that is less than half."""
    unseen = {cell.language for cell in study.coverage.split("UC")}
    lines = [
        (example, line)
        for gallery in galleries[:1]
        for example in gallery.examples
        for line in example.lines
        if line.language in unseen and example.image_uri and (line.plain or line.continuation)
    ]
    shares = [0.0 if line.is_right else line.wrong_share for _, line in lines]
    best = min(range(len(lines)), key=lambda i: (shares[i], -len(lines[i][1].reference)), default=None)
    return lines[best] if best is not None and shares[best] < _MAX_WRONG_SHARE else (None, None)


def _draw_emergence(study: StudyFolder, column: str) -> tuple[Markup | None, str]:
    """Draw the best run's setting against samples: a score in the unseen languages beside the same score in languages
    with captions or, without scores, the loss beside that of a blind model."""
    best = find_best_run(study.runs, column)
    if best is None or not study.coverage.split("UC"):
        return None, ""
    alike = [run for run in study.runs if (run.family, run.start, run.size) == (best.family, best.start, best.size)]
    runs = sorted((run for run in alike if run["S"] > 0), key=lambda run: run["S"])
    if len({run["S"] for run in runs}) < 2:
        return None, ""
    setting = f"{name_series(best.family, best.start)}, {best.size}"
    score = next((name for name in _SCORES if any(math.isfinite(run[f"{name}_prefix"]) for run in runs)), None)
    with use_report_style():
        axes = make_panel(480, 280, left=62, right=130 if score else 14, top=10)
        make_log_axis(axes, "x", [run["S"] for run in runs], format_magnitude)
        axes.set_xlabel("samples seen in training", fontsize=11)
        name, words = _draw_scores(axes, study, runs, score) if score else _draw_losses(axes, study, runs, column)
        label = f"{words}, {setting}"
        figure = render_svg(axes, "emergence", label, {})
    return Markup(figure), f"{capitalise(name)} against samples: {setting}, all runs that differ in samples alone."


def _average_seeds(runs: Sequence[RunRow], read: Callable[[RunRow], float]) -> tuple[list[float], list[float]]:
    """Return the numbers of samples, and the mean over the seeds of a number at each."""
    samples = sorted({run["S"] for run in runs})
    return samples, [fmean(read(run) for run in runs if run["S"] == number) for number in samples]


def _draw_scores(axes: Axes, study: StudyFolder, runs: Sequence[RunRow], score: str) -> tuple[str, str]:
    """Draw a share of the captions after the prefix; return its name and a description."""
    samples, unseen = _average_seeds(runs, lambda run: run[f"{score}_prefix"])
    _, seen = _average_seeds(runs, lambda run: study.seen_score(run, score))
    colour = choose_marks(study.runs)[runs[0].family, runs[0].start].colour
    axes.set(ylim=(-0.02, 1.08))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_ylabel(_SCORES[score], fontsize=11)
    axes.plot(samples, seen, "o--", color=COLOURS["muted"], lw=1.4, ms=5)
    axes.plot(samples, unseen, "o-", color=colour, lw=2.4, ms=8)
    gap = 0.06 if abs(seen[-1] - unseen[-1]) < 0.12 else 0.0  # labels of near points are moved apart
    for share, shift, text, tone in ((seen[-1], gap, "with captions", "muted"), (unseen[-1], -gap, "without", "ink")):
        if math.isfinite(share):
            label = f"  {format_share(share)}, {text}"
            axes.text(samples[-1] * 1.03, share + shift, label, color=COLOURS[tone], size=11, va="center")
    pairs = zip(samples, unseen, seen, strict=True)
    shown = "; ".join(f"{format_count(s)} samples: {format_share(a)} ({format_share(b)})" for s, a, b in pairs)
    return _SCORES[score], f"{capitalise(_SCORES[score])} without captions (with captions): {shown}"


def _draw_losses(axes: Axes, study: StudyFolder, runs: Sequence[RunRow], column: str) -> tuple[str, str]:
    """Draw the loss, and that of a blind model; return its name and a description."""
    samples, losses = _average_seeds(runs, lambda run: run[column])
    blind = find_blind_loss(study.runs)[0] if column == "UC_prefix" else math.nan
    known = [value for value in (*losses, blind) if math.isfinite(value)]
    make_log_axis(axes, "y", known, format_significant)
    axes.set_ylabel("loss, nats per token", fontsize=11)
    colour = choose_marks(study.runs)[runs[0].family, runs[0].start].colour
    axes.plot(samples, losses, "o-", color=colour, lw=2.4, ms=8)
    if math.isfinite(blind):
        axes.axhline(blind, color=COLOURS["muted"], lw=1.4, ls="--")
        axes.text(samples[0], blind * 1.03, "a model that ignores the image", color=COLOURS["muted"], size=11)
    shown = "; ".join(f"{format_count(s)} samples: {format_loss(y)}" for s, y in zip(samples, losses, strict=True))
    return f"loss, {COLUMN_NAMES[column]}", f"{capitalise(COLUMN_NAMES[column])}: {shown}"
