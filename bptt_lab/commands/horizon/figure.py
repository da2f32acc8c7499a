"""The longest delay solved against k, a panel a task, with the line delay = k.

Every seed is a dot, and a line joins their medians. Above the line delay = k the gradient does
not reach the beginning of the sequence.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bptt_lab.commands.horizon.longest import CRITERIA, Line
from bptt_lab.training import naming, style
from bptt_lab.training.style import LineStyle

INCHES = 3.6  # of a panel
NONE = 1.3  # how far below the shortest delay "none" stands


@style.styled
def draw(lines: Sequence[Line], path: Path) -> None:
    """Write the figure of one line or more, a PNG."""
    tasks = list(dict.fromkeys(line.task for line in lines))
    size = style.ACROSS, INCHES * len(tasks) + 0.6
    figure = Figure(figsize=size, layout="constrained")
    question = "How long a delay is still learnt with credit cut at lag k?"
    style.heading(figure, f"{question}\nA dot is a seed, a line joins the medians.")
    panels = figure.subplots(len(tasks), squeeze=False)[:, 0]
    for axes, task in zip(panels, tasks, strict=True):
        _panel(axes, task, [line for line in lines if line.task == task])
    naming.name(*panels)
    style.save(figure, path)


def _panel(axes: Axes, task: str, lines: Sequence[Line]) -> None:
    criterion = CRITERIA[task]
    delays = sorted({delay for line in lines for tried in line.tried.values() for delay in tried})
    ks = sorted({k for line in lines for k in line.ks if k is not None}) or [1]
    none, top = delays[0] / NONE, delays[-1] * 1.15
    axes.set_title(style.wrapped(f"{task.replace('_', ' ')}: {criterion.words}", 50))
    axes.set_xlabel("truncation lag k (steps that a loss's credit travels)")
    axes.set_ylabel(f"longest delay solved, in steps\n(dataset.{criterion.delay})")
    style.powers_of_two(axes.xaxis, ks)
    style.powers_of_two(axes.yaxis, [none, *delays], ["none", *map(str, delays)])
    left, right = ks[0] / 1.25, ks[-1] * 1.25
    axes.set(xlim=(left, right), ylim=(none / 1.12, top))
    reach = [left, right]
    axes.fill_between(reach, reach, [top, top], color=style.WASH, linewidth=0, zorder=0)
    dashed: Any = {"color": style.INK, "linewidth": 1.2, "dashes": (5, 3), "zorder": 1.5}
    axes.plot(reach, reach, label="delay = k", **dashed)
    for line in lines:
        look, label = LineStyle(style.colour(line.strategy)), line.label
        if line.ks == [None]:  # as full BPTT: what the net itself can learn
            axes.axhline(line.typical(None) or none, label=label, zorder=2.5, **look.line())
            continue
        numbers = [k for k in line.ks if k is not None]
        for k in numbers:
            found = [delay or none for delay in line.longest[k].values()]
            axes.plot([k] * len(found), found, "o", zorder=4, **look.dots())
        medians = [line.typical(k) or none for k in numbers]
        axes.plot(numbers, medians, label=label, zorder=3, **look.line())
