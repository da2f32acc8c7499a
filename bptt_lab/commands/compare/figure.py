"""Bias and cost against k: three panels, a line for each mode of truncation.

Modes with the same gradient share a line in the panels of bias; a sentence says which they are.
Strategies without a k are level lines; of the exact ones, only full BPTT has one in the panels of
bias. A mode's times have a band: the middle half of the rounds.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bptt_lab.commands.compare.measurement import Comparison, Measurement
from bptt_lab.training import naming, style
from bptt_lab.training.style import LineStyle

INCHES = 2.4  # of a panel at least
EXACT = 1e-5  # below such an error nothing is drawn: that is rounding


class _Panel(NamedTuple):
    """What one panel shows."""

    title: str
    value: Callable[[Measurement], float]
    least: float = -math.inf  # nothing that is not above it is drawn
    is_bias: bool = True


PANELS = (
    _Panel("relative error of the gradient", lambda row: row.aligned.relative_error.value, EXACT),
    _Panel("cosine with full BPTT's gradient", lambda row: row.aligned.cosine.value),
    _Panel("time, forward + backward, over full BPTT's", lambda row: row.times_full, 0, False),
)


@style.styled
def draw(comparison: Comparison, title: str, path: Path) -> None:
    """Write the figure; the same comparison gives the same bytes."""
    figure = Figure(figsize=(style.ACROSS, 1), layout="constrained")
    L, N, _, H = comparison.shape
    heading = f"Bias and cost against k: {title}, {L} steps, {N} sequences, {H} units"
    style.heading(figure, heading)
    styles = _styles(comparison)
    panels = figure.subplots(len(PANELS), sharex=True)
    for axes, panel in zip(panels, PANELS, strict=True):
        axes.set_title(panel.title)
        _draw_levels(axes, comparison, styles, panel)
        _draw_modes(axes, comparison, styles, panel)
        _scale(axes, L, panel)
    notes = [style.wrapped(text, 46, 9) for text in comparison.alike.sentences]
    panels[-1].set_xlabel("\n".join(["k (steps that a loss's credit travels)", *notes]))
    heights = [max(INCHES, naming.inches(axes)) for axes in panels]
    panels[0].get_gridspec().set_height_ratios(heights)
    figure.set_figheight(
        sum(heights) + 0.9 + 0.35 * len(panels) + 0.2 * "\n".join(notes).count("\n")
    )
    for axes in panels:
        naming.name_lines(axes)
    style.save(figure, path)


def _styles(comparison: Comparison) -> dict[str, LineStyle]:
    """A strategy's colour; the modes of truncation differ in dashes and marker."""
    rows = [*comparison.curve, *comparison.strategies]
    modes = list(dict.fromkeys(row.option.mode for row in comparison.curve))
    styles = {}
    for row in sorted(rows, key=lambda row: not row.option.mode):
        line = LineStyle(style.colour(row.option.name), marker="")
        if row.option.mode:
            number = modes.index(row.option.mode)
            dashes = style.DASHES[number % len(style.DASHES)]
            line = line._replace(dashes=dashes, marker=style.MARKERS[number % len(style.MARKERS)])
        styles[row.option.label] = line
    return styles


def _draw_modes(
    axes: Axes, comparison: Comparison, styles: dict[str, LineStyle], panel: _Panel
) -> None:
    modes = list(dict.fromkeys(row.option.mode for row in comparison.curve))
    if panel.is_bias:
        covered = {mode for group in comparison.alike.modes for mode in group[1:]}
        modes = [mode for mode in modes if mode not in covered]
    for mode in modes:
        rows = [row for row in comparison.curve if row.option.mode == mode]
        rows = [row for row in rows if panel.value(row) > panel.least]
        if not rows:
            continue
        line = styles[rows[0].option.label]
        xs, ys = [row.option.k or 1 for row in rows], [panel.value(row) for row in rows]
        label = rows[0].option.label
        axes.plot(xs, ys, marker=line.marker, markersize=5, zorder=3, label=label, **line.line())
        if not panel.is_bias:
            low, high = zip(*(row.quartiles for row in rows), strict=True)
            axes.fill_between(xs, low, high, color=line.colour, alpha=0.12, linewidth=0)


def _draw_levels(
    axes: Axes, comparison: Comparison, styles: dict[str, LineStyle], panel: _Panel
) -> None:
    for row in comparison.strategies:
        exact = row.claims == "exact" and row.option.name != "full"
        value = panel.value(row)
        if row.option.mode or (panel.is_bias and exact) or not value > panel.least:
            continue
        line = styles[row.option.label]
        axes.axhline(value, zorder=2, label=row.option.label, **line.line())
    style.take_turns(axes.lines)


def _scale(axes: Axes, num_steps: int, panel: _Panel) -> None:
    ticks = [2**i for i in range(num_steps.bit_length())]
    style.powers_of_two(axes.xaxis, ticks)
    axes.set_xlim(0.88, max(num_steps, 2))
    heights = [y for line in axes.lines for y in np.asarray(line.get_ydata(), float).tolist()]
    if style.spans_decades(heights):
        style.logarithmic(axes.yaxis, min(heights), max(heights))
    elif panel.least >= 0:
        axes.set_ylim(bottom=0)
    else:
        low, _ = axes.get_ylim()
        axes.set_ylim(low, 1 + 0.03 * (1 - low))
