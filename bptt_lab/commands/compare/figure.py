"""Bias and cost against k: three panels, a line for each mode of truncation.

Lag comes from one lag spectrum, at every k; the other modes from gradients of their own, where the
markers are. Strategies without a k are level lines; of the exact ones, only full BPTT has one in
the panels of bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bptt_lab.commands.compare.measurement import Comparison, Measurement
from bptt_lab.commands.compare.request import TRUNCATED
from bptt_lab.commands.report import canvas, palette
from bptt_lab.commands.report.palette import Look
from bptt_lab.diagnostics.lags import TOTAL

INCHES = (12.4, 3.9)
EXACT = 1e-5  # below such an error nothing is drawn: that is rounding
# Modes often coincide: the widest and largest lies below, the others on it.
DASHES: Sequence[tuple[float, ...]] = ((), (5, 2), (6, 1.5, 1, 1.5), (1, 1.5))
WIDTHS, SIZES = (3.0, 2.4, 1.8, 1.4), (8.5, 6.5, 5.5, 3.5)


class _Panel(NamedTuple):
    """What one panel shows."""

    title: str
    value: Callable[[Measurement], float]
    lag: Sequence[float]  # at every k from 1 on, where the lag spectrum knows it
    is_bias: bool = True


@canvas.styled
def draw(comparison: Comparison, title: str, path: Path) -> None:
    """Write the figure; the same comparison gives the same bytes.

    Args:
        comparison: what was measured.
        title: what it was measured on.
        path: ends in .png, .svg or .pdf.
    """
    figure = Figure(figsize=INCHES, layout="constrained")
    L, N, _, H = comparison.shape
    heading = f"Bias and cost against k: {title}, {L} steps, {N} sequences, {H} units"
    figure.suptitle(heading, x=0.005, ha="left", fontsize=12, fontweight="bold")
    looks = _looks(comparison)
    for axes, panel in zip(figure.subplots(1, 3), _panels(comparison), strict=True):
        axes.set_title(panel.title, loc="left", fontsize=10)
        axes.set_xlabel("k (steps that a loss's credit travels)")
        _draw_levels(axes, comparison, looks, panel)
        _draw_modes(axes, comparison, looks, panel)
        _scale(axes, L)
    error, cosine, _ = figure.axes
    if error.get_yscale() == "log":
        error.set_ylim(bottom=max(EXACT, error.get_ylim()[0]))
    low, high = cosine.get_ylim()
    cosine.set_ylim(low, max(high, 1 + 0.03 * (1 - low)) if high < 1 else 1 + 0.03 * (1 - low))
    handles = [_handle(name, look) for name, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower left", ncols=7, handlelength=3.2)
    undated: Any = {".png": {"Software": None}, ".svg": {"Date": None}}
    FigureCanvasAgg(figure)
    metadata = undated.get(path.suffix.lower(), {"CreationDate": None})
    with rc_context({"svg.hashsalt": "bptt_lab"}):
        figure.savefig(path, dpi=160, metadata=metadata)


def _panels(comparison: Comparison) -> list[_Panel]:
    spectrum, below = comparison.spectrum, comparison.shape[0] - 1  # k = L truncates nothing
    error, cosine = (
        ([], [])
        if spectrum is None
        else (
            values[TOTAL].tolist()[:below] for values in (spectrum.relative_error, spectrum.cosine)
        )
    )
    return [
        _Panel(
            "relative error of the gradient",
            lambda row: row.aligned.relative_error.value,
            [value for value in error if value > EXACT],  # falls for good
        ),
        _Panel("cosine with full BPTT's gradient", lambda row: row.aligned.cosine.value, cosine),
        _Panel("time, forward + backward, over full BPTT's", lambda row: row.times_full, [], False),
    ]


def _looks(comparison: Comparison) -> dict[str, Look]:
    """A look for each mode that was measured, then for each strategy without one."""
    looks = {}
    for number, mode in enumerate(comparison.modes):
        if any(row.option.mode == mode for row in comparison.curve):
            colour = palette.shade(palette.colour(TRUNCATED), number, len(comparison.modes))
            look = Look(colour, DASHES[number], palette.MARKERS[number], WIDTHS[number])
            looks[f"{TRUNCATED} {mode}"] = look
    for row in comparison.strategies:
        if not row.option.mode:
            colour = palette.colour(row.option.name)
            alike = sum(look.colour == colour for look in looks.values())
            dashes = palette.DASHES[alike % len(palette.DASHES)]  # colours may run out
            looks[row.option.label] = Look(colour, dashes, marker="", width=1.6)
    return looks


def _draw_modes(axes: Axes, comparison: Comparison, looks: dict[str, Look], panel: _Panel) -> None:
    for number, mode in enumerate(comparison.modes):
        rows = [row for row in comparison.curve if row.option.mode == mode]
        if not rows:
            continue
        look = looks[rows[0].option.label]
        at = [(row.option.k, panel.value(row)) for row in rows]
        if panel.is_bias:
            at = [(k, value) for k, value in at if value > EXACT or "cosine" in panel.title]
        line = [*enumerate(panel.lag, 1)] if mode == "lag" and panel.lag else at
        style: Any = {"color": look.colour, "zorder": 3 + number / 10}
        if line:
            dashes = look.dashes or (None, None)
            axes.plot(*zip(*line, strict=True), linewidth=look.width, dashes=dashes, **style)
        if at:
            dots = zip(*at, strict=True)
            axes.plot(*dots, look.marker, markersize=SIZES[number], **style)


def _draw_levels(axes: Axes, comparison: Comparison, looks: dict[str, Look], panel: _Panel) -> None:
    for row in comparison.strategies:
        exact = row.claims == "exact" and row.option.name != "full"
        value = panel.value(row)
        if row.option.mode or (panel.is_bias and (exact or not value > EXACT)):
            continue
        look = looks[row.option.label]
        style: Any = {"dashes": look.dashes or (None, None)}
        axes.axhline(value, color=look.colour, linewidth=look.width, zorder=2, **style)


def _scale(axes: Axes, num_steps: int) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(LogLocator(2, numticks=12))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
    axes.set_xlim(0.88, max(num_steps, 2))
    heights = [y for line in axes.lines for y in np.asarray(line.get_ydata(), float).tolist()]
    if canvas.spans_decades(heights):
        canvas.logarithmic(axes.yaxis, min(heights), max(heights))
    elif "cosine" not in axes.get_title("left"):
        axes.set_ylim(bottom=0)


def _handle(name: str, look: Look) -> Line2D:
    size = dict(zip(palette.MARKERS, SIZES, strict=False)).get(look.marker, 0)
    return Line2D(
        [],
        [],
        color=look.colour,
        linewidth=look.width,
        dashes=look.dashes or (None, None),
        marker=look.marker,
        markersize=min(size, 7.5),
        label=name,
    )
