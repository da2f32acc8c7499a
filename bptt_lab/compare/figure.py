"""Bias and cost against k: three panels, a line for each mode of truncation.

Lag comes from one lag spectrum, at every k; the other modes from gradients of their own, where the
markers are. Strategies without a k are level lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bptt_lab.compare.measure import Comparison, Measured
from bptt_lab.compare.question import MODES, TRUNCATED
from bptt_lab.diagnostics.lags import TOTAL
from bptt_lab.report import canvas, palette
from bptt_lab.report.palette import Look

FORMATS = (".png", ".svg", ".pdf")
INCHES = (12.4, 3.9)
EXACT = 1e-5  # of an error below it nothing is drawn: that is rounding
TICKS = 7  # labels on the axis of k
DASHES = dict(zip(MODES, [(), (5, 2), (6, 1.5, 1, 1.5), (1, 1.5)], strict=True))
Value = Callable[[Measured], float]


@canvas.styled
def draw(comparison: Comparison, title: str, path: Path) -> None:
    """Write the figure.

    Args:
        comparison: what was measured.
        title: what it was measured on.
        path: ends in .png, .svg or .pdf.
    """
    figure = Figure(figsize=INCHES, layout="constrained")
    L, N, _, H = comparison.shape
    figure.suptitle(
        f"Bias and cost against k: {title}, {L} steps, batch {N}, {H} units",
        x=0.01,
        ha="left",
        fontsize=12,
        fontweight="bold",
    )
    looks = _looks(comparison)
    error, cosine, cost = figure.subplots(1, 3)
    panels: list[tuple[Axes, str, Value]] = [
        (error, "relative error", lambda row: row.aligned.relative_error.value),
        (cosine, "cosine with full BPTT's gradient", lambda row: row.aligned.cosine.value),
        (cost, "time, forward + backward, over full BPTT's", lambda row: row.times_full),
    ]
    for axes, label, value in panels:
        axes.set_title(label, loc="left", fontsize=10)
        axes.set_xlabel("k: steps that a loss's credit travels")
        axes.set_xscale("log", base=2)
        _draw_modes(axes, comparison, looks, value, axes is not cost)
        _ticks(axes, L)
    _draw_levels(error, comparison, looks, panels[0][2], lambda v: v > EXACT)
    _draw_levels(cosine, comparison, looks, panels[1][2], lambda v: True)
    _draw_levels(cost, comparison, looks, panels[2][2], lambda v: True)
    _scale(error, cosine, cost)
    shown = [(name, look) for name, look in looks.items()]
    canvas.legend(figure, shown, markers=True)
    _save(figure, path)


def _looks(comparison: Comparison) -> dict[str, Look]:
    """A look for each mode that was measured, then for each strategy without one."""
    looks = {}
    for number, mode in enumerate(MODES):
        if any(row.option.mode == mode for row in comparison.curve):
            colour = palette.shade(palette.colour(TRUNCATED), number, len(MODES))
            looks[f"{TRUNCATED} {mode}"] = Look(colour, DASHES[mode], palette.MARKERS[number])
    for row in comparison.strategies:
        if not row.option.mode:
            looks[row.option.label] = Look(palette.colour(row.option.name), marker="")
    return looks


def _draw_modes(
    axes: Axes, comparison: Comparison, looks: dict[str, Look], value: Value, bias: bool
) -> None:
    for label, rows in _by_mode(comparison.curve):
        look = looks[label]
        at = [(row.option.k, value(row)) for row in rows if row.option.k]
        style: Any = {"color": look.colour, "linewidth": look.width, "zorder": 3}
        dashes = look.dashes or (None, None)
        if bias and rows[0].option.mode == "lag" and comparison.spectrum is not None:
            spectrum = comparison.spectrum
            curve = spectrum.relative_error if "relative" in axes.get_title("left") else (
                spectrum.cosine
            )
            values = curve[TOTAL].tolist()
            below = [(k, v) for k, v in enumerate(values, 1) if k < comparison.shape[0]]
            axes.plot(*zip(*below, strict=True), dashes=dashes, **style)
        else:
            axes.plot(*zip(*at, strict=True), dashes=dashes, **style)
        axes.plot(
            *zip(*at, strict=True), look.marker, color=look.colour, markersize=5, zorder=4
        )


def _draw_levels(
    axes: Axes,
    comparison: Comparison,
    looks: dict[str, Look],
    value: Value,
    wanted: Callable[[float], bool],
) -> None:
    levels = [row for row in comparison.strategies if not row.option.mode and wanted(value(row))]
    for row in levels:
        look = looks[row.option.label]
        axes.axhline(value(row), color=look.colour, linewidth=1.4, zorder=2)


def _scale(error: Axes, cosine: Axes, cost: Axes) -> None:
    heights = [y for line in error.lines for y in line.get_ydata() if y > EXACT]  # type: ignore[union-attr]
    if canvas.spans_decades(heights):
        canvas.logarithmic(error.yaxis, min(heights), max(heights))
        error.set_ylim(min(heights) / 1.3, max(heights) * 1.3)
    else:
        error.set_ylim(bottom=0)
    low, high = cosine.get_ylim()
    cosine.set_ylim(low, min(high, 1.02) if high > 1 else high)
    heights = [y for line in cost.lines for y in line.get_ydata()]  # type: ignore[union-attr]
    if canvas.spans_decades(heights):
        canvas.logarithmic(cost.yaxis, min(heights), max(heights))
    else:
        cost.set_ylim(bottom=0)


def _ticks(axes: Axes, num_steps: int) -> None:
    axes.xaxis.set_major_locator(LogLocator(2, numticks=TICKS + 2))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
    axes.set_xlim(0.9, max(num_steps, 2))


def _by_mode(rows: Sequence[Measured]) -> Iterator[tuple[str, list[Measured]]]:
    for mode in MODES:
        found = [row for row in rows if row.option.mode == mode]
        if found:
            yield f"{TRUNCATED} {mode}", found


def _save(figure: Figure, path: Path) -> None:
    undated: Any = {".png": {"Software": None}, ".svg": {"Date": None}}
    FigureCanvasAgg(figure)
    metadata = undated.get(path.suffix.lower(), {"CreationDate": None})
    figure.savefig(path, dpi=160, metadata=metadata)
