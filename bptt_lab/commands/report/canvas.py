"""What all panels of the report share: size, fonts, grid, reference lines, legend."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bptt_lab.commands.report.palette import Look
from bptt_lab.commands.report.scores import Reference

INCHES = (5.2, 3.3)  # at 10 points: as legible on a phone's width as on half a desktop's
ROW = 0.19  # inches that a line of the legend adds
DPI = 190
DECADES = 1.5  # an axis that spans more is logarithmic
OTHERS = "#C8C8C8"
# Some fonts that a user's matplotlibrc may name are not there; ours is in matplotlib itself.
STYLE: Any = {  # matplotlib's keys are a Literal of hundreds
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "text.parse_math": False,  # labels hold what users typed, dollars included
}


styled = rc_context(STYLE)  # decorates what draws; nothing of it stays behind


class Picture(NamedTuple):
    """A written PNG, and in words what it shows."""

    path: Path
    alt: str
    caption: str = ""


def new(title: str, xlabel: str, ylabel: str, height: float = INCHES[1]) -> tuple[Figure, Axes]:
    """Return a figure of one panel, outside pyplot's list of figures."""
    figure = Figure(figsize=(INCHES[0], height), layout="constrained")
    axes = figure.subplots()
    # From the figure's edge, not the panel's, whose room depends on the labels.
    bold = {"x": 0.01, "ha": "left", "fontsize": 11, "fontweight": "bold"}
    figure.suptitle(textwrap.fill(title, 58), **bold)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    return figure, axes


def save(figure: Figure, path: Path) -> None:
    """Write the PNG; the same figure gives the same bytes."""
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box; the page itself has it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(path, dpi=DPI, metadata={"Software": None})


def spans_decades(values: Iterable[float]) -> bool:
    """Whether values, all above zero, span so much that their logarithms are what one reads."""
    values = list(values)
    return bool(values) and min(values) > 0 and math.log10(max(values) / min(values)) > DECADES


def logarithmic(axis: Any, low: float, high: float) -> None:
    """Make an axis logarithmic, with plain numbers for values between `low` and `high`."""
    axis.axes.set_yscale("log") if axis.axis_name == "y" else axis.axes.set_xscale("log")
    if math.log10(high / low) <= DECADES:
        between = (1, 2, 5) if high / low > 4 else (1, 1.5, 2, 3, 5, 7)
        axis.set_major_locator(LogLocator(subs=between))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # not in TeX
    axis.set_minor_locator(NullLocator())


def draw_references(axes: Axes, levels: Sequence[Reference]) -> None:
    """Draw a dashed line a level, named at the right; where far from the data, an arrow says so."""
    low, high = axes.get_ylim()
    log = axes.get_yscale() == "log"

    def place(level: float) -> float:  # from 0, the bottom, to 1, the top
        if log:
            return math.log(level / low) / math.log(high / low) if level > 0 else -math.inf
        return (level - low) / (high - low)

    # The axis may grow by two thirds for them; beyond that the curves would be flat.
    near = [level for _, level in levels if -0.33 < place(level) < 1.33]
    if near:
        bottom, top = min(0.0, *map(place, near)), max(1.0, *map(place, near))
        margin = 0.03 * (top - bottom)
        bottom, top = bottom - margin * (bottom < 0), top + margin * (top > 1)
        if log:
            ratio = high / low
            axes.set_ylim(low * ratio**bottom, low * ratio**top)
        else:
            axes.set_ylim(low + bottom * (high - low), low + top * (high - low))
        low, high = axes.get_ylim()
    texts = []
    for name, level in levels:
        at = place(level)
        shown = f"{name} {level:.3g}"
        if level in near:
            axes.axhline(level, color="#555555", linewidth=1, dashes=(4, 3), zorder=1.5)
        else:
            shown += " ↑" if at > 1 else " ↓"
        texts.append((min(max(at, 0.0), 1.0), shown))
    for at, shown in _apart(sorted(texts), 0.055):
        axes.text(
            1.01, at, shown, transform=axes.transAxes, fontsize=8, color="#444444", va="center"
        )


def legend(figure: Figure, entries: Sequence[tuple[str, Look | None]], markers: bool) -> None:
    """Put a legend under the panel, where it hides nothing; `None` is the look of all others."""
    if not entries:
        return
    handles = [
        Line2D([], [], color=OTHERS, linewidth=1.2)
        if look is None
        else Line2D(
            [],
            [],
            color=look.colour,
            linewidth=look.width,
            dashes=look.dashes or (None, None),
            marker=look.marker if markers else None,
            markersize=5,
        )
        for _, look in entries
    ]
    labels = [label for label, _ in entries]
    longest = max(map(len, labels))
    columns = max(1, min(3, len(labels), 76 // (longest + 8)))
    figure.set_figheight(figure.get_figheight() + ROW * (1 - len(labels) // -columns))
    figure.legend(
        handles, labels, loc="outside lower left", ncols=columns, handlelength=2.6, fontsize=9
    )


def _apart(texts: Sequence[tuple[float, str]], gap: float) -> list[tuple[float, str]]:
    """Move labels up until none covers another, then down again so that the last one fits."""
    placed: list[tuple[float, str]] = []
    for at, text in texts:
        placed.append((max(at, placed[-1][0] + gap) if placed else at, text))
    top = 1.0
    for i in range(len(placed) - 1, -1, -1):
        at, text = placed[i]
        placed[i] = (min(at, top), text)
        top = placed[i][0] - gap
    return placed
