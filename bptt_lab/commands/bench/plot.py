"""How many times as fast as nn.RNN, by shape, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from bptt_lab.commands.bench.implementations import BASELINE
from bptt_lab.commands.bench.results import Row
from bptt_lab.commands.bench.workload import PASSES
from bptt_lab.training import style


@style.styled
def draw(rows: Sequence[Row], titles: Sequence[str], machine: str, path: Path) -> None:
    """Write a PNG: a row of panels for each pass, a column for each title.

    Args:
        rows: with nn.RNN among the implementations.
        titles: names of the settings, in the order in which they appear in `rows`.
        machine: a line on what it was measured on.
        path: where to write.
    """
    shapes = list(dict.fromkeys(row.shape for row in rows))
    settings = list(dict.fromkeys((row.precision, row.threads) for row in rows))
    width = max(8.0, 2.0 + len(settings) * (1.2 + 0.72 * len(shapes)))
    figure = Figure(figsize=(width, 8), layout="constrained")
    panels = figure.subplots(len(PASSES), len(settings), sharex=True, sharey=True, squeeze=False)
    for line, which in zip(panels, PASSES, strict=True):
        for axes, setting, title in zip(line, settings, titles, strict=True):
            here = [r for r in rows if (r.precision, r.threads) == setting and r.which == which]
            _panel(axes, here)
            axes.set_title(f"{which.replace('+', ' + ')}, {title}")
            axes.set_xticks(range(len(shapes)), list(map(str, shapes)), rotation=35, ha="right")
        line[0].set_ylabel("times as fast as nn.RNN")
    # All panels share one scale, known only now.
    low, high = panels[0][0].get_ylim()
    ticks = [m * 10.0**e for e in range(-3, 4) for m in (1, 2, 5) if low < m * 10.0**e < high]
    panels[0][0].set_yticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    for axes in panels[-1]:
        axes.set_xlabel("L,N,I,H: steps, sequences, inputs, hidden units")
    handles, labels = panels[0][0].get_legend_handles_labels()
    columns = min(len(labels), int(width / 1.9))
    figure.legend(handles, labels, loc="outside lower left", ncols=columns)
    lines = ["One recurrent layer against torch.nn.RNN; higher is faster"]
    style.heading(figure, "\n".join([*lines, machine]))
    style.save(figure, path)


def _panel(axes: Any, rows: Sequence[Row]) -> None:
    shapes = list(dict.fromkeys(row.shape for row in rows))
    # What makes no claim computes no gradient: it is a floor, of one pass alone.
    labels = {row.implementation: row.label for row in rows if row.claims}
    names = [name for name in labels if name != BASELINE]
    axes.set_yscale("log")
    axes.axhline(1, color=style.INK, linewidth=1.2, label=BASELINE)
    for i, name in enumerate(names):
        mine = {row.shape: row.times_as_fast_min for row in rows if row.implementation == name}
        # Side by side within a shape's band, or they would hide each other.
        offset = 0.7 * ((i + 0.5) / len(names) - 0.5)
        at = [k + offset for k, shape in enumerate(shapes) if shape in mine]
        axes.plot(
            at,
            [mine[shape] for shape in shapes if shape in mine],
            style.MARKERS[i % len(style.MARKERS)],
            color=style.colour(name),
            markersize=6,
            label=labels[name],
        )
    baseline = {row.shape: row for row in rows if row.implementation == BASELINE}
    axes.hlines(
        [baseline[shape].times_floor for shape in shapes],
        [k - 0.42 for k in range(len(shapes))],
        [k + 0.42 for k in range(len(shapes))],
        color=style.GREY,
        linestyle="dotted",
        linewidth=1.5,
        label="the products alone (floor)",
    )
    for k in range(len(shapes) + 1):
        axes.axvline(k - 0.5, color=style.WASH, linewidth=0.8, zorder=0)
    axes.grid(axis="x", visible=False)
    axes.set_xlim(-0.5, len(shapes) - 0.5)
    axes.minorticks_off()
