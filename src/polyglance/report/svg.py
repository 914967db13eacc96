"""Matplotlib figures as inline SVG that follows the page: colours are CSS variables, fonts are the page's.

matplotlib writes SVG as a stand-alone file. Inside a page the ids of several figures would clash, global styles would
apply to the whole page, and black on white would ignore a dark colour scheme; `render_svg` corrects this.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

__all__ = ["COLOURS", "MARKERS", "SERIES", "figure_of", "make_log_axis", "make_panel", "render_svg", "use_report_style"]

COLOURS: Mapping[str, str] = {
    "ink": "#1d2125",
    "muted": "#5c636b",
    "rule": "#dddcd5",
    "paper": "#fefefe",
    "s0": "#0b6bb0",
    "s1": "#c4500b",
    "s2": "#0a7f5f",
    "s3": "#a03a86",
    "s4": "#7a6a00",
    "s5": "#5a54c4",
    "s6": "#b0303a",
}
"""CSS variable -> colour that is drawn in its place; the page's style sheet defines both colour schemes."""

SERIES = tuple(colour for name, colour in COLOURS.items() if name.startswith("s"))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold a dollar sign
    "font.size": 12,
    "font.family": "sans-serif",
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": COLOURS["rule"],
    "grid.linewidth": 0.8,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.5,
    "hatch.linewidth": 0.8,
    "hatch.color": COLOURS["muted"],
}
_VARIABLES = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
_HEX = re.compile(r"#[0-9a-f]{6}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DECIMALS = re.compile(r"(\.\d\d)\d+")


@contextmanager
def use_report_style() -> Iterator[None]:
    """Draw in the report's style. The salt of ids is fixed, so that the same figure is the same text."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": "polyglance"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the browser has the font
        yield


def make_panel(
    width_px: int, height_px: int, *, left: int = 66, right: int = 14, top: int = 30, bottom: int = 46
) -> Axes:
    """Make an empty plot of this size in CSS pixels, margins included; its figure is `figure_of(axes)`."""
    figure = Figure(figsize=(width_px / 72, height_px / 72))
    width, height = 1 - (left + right) / width_px, 1 - (top + bottom) / height_px
    return figure.add_axes((left / width_px, bottom / height_px, width, height))


def figure_of(axes: Axes) -> Figure:
    """Return the figure that `make_panel` made for these axes."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    return figure


def make_log_axis(axes: Axes, which: str, values: list[float], show: Callable[[float], str]) -> None:
    """Make one axis logarithmic around the values, with a few ticks whose labels do not collide.

    Args:
        which: `x` or `y`.
        show: value of a tick -> its label.
    """
    low, high = max(min(values), 1e-30), max(*values, 1e-30)
    pad = max((high / low) ** 0.08, 1.12)
    low, high = low / pad, high * pad
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    axis.set_major_locator(FixedLocator(_ticks(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: show(value)))


def _ticks(low: float, high: float) -> list[float]:
    """Return at most six round numbers between two positive ones, spread over a logarithmic axis."""
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [digit * 10.0**power for power in range(-32, 32) for digit in digits]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= 3:
            return inside[:: -(-len(inside) // 6)]
    return [tick for tick in map(float, MaxNLocator(5).tick_values(low, high)) if low <= tick <= high]


def render_svg(axes: Axes, name: str, label: str, titles: Mapping[str, str]) -> str:
    """Return the figure of these axes as inline SVG.

    Args:
        name: prefix of ids, different for every figure of a page.
        label: description of the figure, for readers who do not see it.
        titles: gid of an artist -> text shown when the pointer rests on it.
    """
    buffer = io.BytesIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure_of(axes).savefig(buffer, format="svg", transparent=True, metadata=metadata)
    root = ElementTree.fromstring(buffer.getvalue())
    _drop_styles(root)
    referenced = _list_references(root)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        gid = element.get("id", "")
        element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        _clean(element, name, referenced)
        if gid in titles:
            title = ElementTree.Element("title")
            title.text = titles[gid]
            element.insert(0, title)
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib = {"viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": label, "style": f"--w:{width}px"}
    return ElementTree.tostring(root, encoding="unicode")


def _drop_styles(root: ElementTree.Element) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}style") or child.tag.endswith("}metadata"):
                parent.remove(child)


def _list_references(root: ElementTree.Element) -> set[str]:
    """List the ids that other elements refer to; all other ids are dropped."""
    ids: set[str] = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            ids.update(_REFERENCE.findall(value))
            if key.endswith("href"):
                ids.add(value.removeprefix("#"))
    return ids


def _clean(element: ElementTree.Element, name: str, referenced: set[str]) -> None:
    """Prefix ids, shorten coordinates, and put CSS variables in place of colours and the page's font."""
    for key, value in list(element.attrib.items()):
        if key == "id" and value in referenced:
            element.set(key, f"{name}-{value}")
        elif key == "id":
            del element.attrib[key]
        elif key == "href":
            element.set(key, f"#{name}-{value[1:]}")
        elif key == "d":
            element.set(key, _DECIMALS.sub(r"\1", " ".join(value.split())))
        elif key in ("x", "y", "transform"):
            element.set(key, _DECIMALS.sub(r"\1", value))
        else:
            value = _REFERENCE.sub(rf"url(#{name}-\1)", value)
            element.set(key, _HEX.sub(lambda match: _VARIABLES.get(match[0], match[0]), value))
    if element.tag == "text":
        style = re.sub(r"font-family:[^;]*;?\s*", "", element.get("style", ""))
        element.set("style", style.replace("bold", "600"))
    if element.tail:
        element.tail = None
    if element.text and not element.text.strip():
        element.text = None
