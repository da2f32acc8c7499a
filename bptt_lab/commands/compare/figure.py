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
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bptt_lab.commands.compare.measurement import Comparison, Measurement
from bptt_lab.diagnostics.lags import TOTAL
from bptt_lab.training import style
from bptt_lab.training.style import LineStyle

INCHES = (12.4, 3.9)
EXACT = 1e-5  # below such an error nothing is drawn: that is rounding
# Modes often coincide: the first lies below, wide, with the others, ever narrower, on it.
WIDEST, LARGEST, NARROWER = 3.0, 8.5, 0.78


class _Panel(NamedTuple):
    """What one panel shows."""

    title: str
    value: Callable[[Measurement], float]
    lag: Sequence[float]  # at every k from 1 on, where the lag spectrum knows it
    is_bias: bool = True


@style.styled
def draw(comparison: Comparison, title: str, path: Path) -> None:
    """Write the figure; the same comparison gives the same bytes."""
    figure = Figure(figsize=INCHES, layout="constrained")
    L, N, _, H = comparison.shape
    heading = f"Bias and cost against k: {title}, {L} steps, {N} sequences, {H} units"
    style.heading(figure, heading)
    styles = _styles(comparison)
    for axes, panel in zip(figure.subplots(1, 3), _panels(comparison), strict=True):
        axes.set(title=panel.title, xlabel="k (steps that a loss's credit travels)")
        _draw_levels(axes, comparison, styles, panel)
        _draw_modes(axes, comparison, styles, panel)
        _scale(axes, L)
    error, cosine, _ = figure.axes
    if error.get_yscale() == "log":
        error.set_ylim(bottom=max(EXACT, error.get_ylim()[0]))
    low, high = cosine.get_ylim()
    cosine.set_ylim(low, max(high, 1 + 0.03 * (1 - low)) if high < 1 else 1 + 0.03 * (1 - low))
    handles = [line.key(label, line.marker) for label, line in styles.items()]
    figure.legend(handles=handles, loc="outside lower left", ncols=7, handlelength=3.2)
    style.save(figure, path)


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


def _modes(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(row.option.mode for row in comparison.curve))


def _styles(comparison: Comparison) -> dict[str, LineStyle]:
    """A style for each mode that was measured, then for each strategy without one."""
    modes, styles = _modes(comparison), {}
    for number, mode in enumerate(modes):
        option = next(row.option for row in comparison.curve if row.option.mode == mode)
        styles[option.label] = LineStyle(
            style.shade(style.colour(option.name), number, len(modes)),
            style.DASHES[number % len(style.DASHES)],
            style.MARKERS[number % len(style.MARKERS)],
            WIDEST * NARROWER**number,
        )
    for row in comparison.strategies:
        if not row.option.mode:
            styles[row.option.label] = LineStyle(style.colour(row.option.name), marker="")
    return styles


def _draw_modes(
    axes: Axes, comparison: Comparison, styles: dict[str, LineStyle], panel: _Panel
) -> None:
    for number, mode in enumerate(_modes(comparison)):
        rows = [row for row in comparison.curve if row.option.mode == mode]
        line = styles[rows[0].option.label]
        at = [(row.option.k, panel.value(row)) for row in rows]
        if panel.is_bias:
            at = [(k, value) for k, value in at if value > EXACT or "cosine" in panel.title]
        curve, order = [*enumerate(panel.lag, 1)] if mode == "lag" and panel.lag else at, 3 + number
        if curve:
            axes.plot(*zip(*curve, strict=True), zorder=order, **line.line())
        if at:
            size: Any = {"markersize": LARGEST * NARROWER**number, "zorder": order}
            axes.plot(*zip(*at, strict=True), line.marker, color=line.colour, **size)


def _draw_levels(
    axes: Axes, comparison: Comparison, styles: dict[str, LineStyle], panel: _Panel
) -> None:
    for row in comparison.strategies:
        exact = row.claims == "exact" and row.option.name != "full"
        value = panel.value(row)
        if row.option.mode or (panel.is_bias and (exact or not value > EXACT)):
            continue
        axes.axhline(value, zorder=2, **styles[row.option.label].line())
    style.take_turns(axes.lines)


def _scale(axes: Axes, num_steps: int) -> None:
    ticks = [2**i for i in range(num_steps.bit_length())]
    style.powers_of_two(axes.xaxis, ticks[:: -(-len(ticks) // 12)])
    axes.set_xlim(0.88, max(num_steps, 2))
    heights = [y for line in axes.lines for y in np.asarray(line.get_ydata(), float).tolist()]
    if style.spans_decades(heights):
        style.logarithmic(axes.yaxis, min(heights), max(heights))
    elif "cosine" not in axes.get_title("left"):
        axes.set_ylim(bottom=0)
