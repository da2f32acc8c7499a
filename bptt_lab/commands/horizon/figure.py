"""The longest delay solved against k, a panel a task, with the line delay = k.

A circle stands for every delay tried, filled as far as its seeds solved it; the curve joins the
median over seeds of the longest one, its band reaches from the worst seed to the best. Above the
line delay = k the gradient does not reach the beginning of the sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bptt_lab.commands.horizon.longest import CRITERIA, Line
from bptt_lab.training import style

PANEL, HEIGHT = 5.0, 4.6  # inches
NONE = 1.3  # how far below the shortest delay "none" stands


@style.styled
def draw(lines: Sequence[Line], path: Path) -> None:
    """Write the figure of one line or more, a PNG."""
    tasks = list(dict.fromkeys(line.task for line in lines))
    figure = Figure(figsize=(PANEL * len(tasks) + 0.4, HEIGHT), layout="constrained")
    style.heading(figure, "How long a delay is still learnt with credit cut at lag k?")
    handles: dict[str, Artist] = {}
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        here = [line for line in lines if line.task == task]
        _panel(axes, task, here, handles)
    figure.legend(
        handles=[*handles.values()], loc="outside lower left", ncols=min(2 * len(tasks), 4)
    )
    style.save(figure, path)


def _panel(axes: Axes, task: str, lines: Sequence[Line], handles: dict[str, Artist]) -> None:
    criterion = CRITERIA[task]
    delays = sorted({delay for line in lines for delay in line.delays})
    ks = sorted({k for line in lines for k in line.ks if k is not None}) or [1]
    none, top = delays[0] / NONE, delays[-1] * 1.15
    axes.set_title(f"{task.replace('_', ' ')}: {criterion.words}")
    axes.set_xlabel("truncation lag k (steps that a loss's credit travels)")
    axes.set_ylabel(f"longest delay solved (dataset.{criterion.delay})")
    style.powers_of_two(axes.xaxis, ks)
    style.powers_of_two(axes.yaxis, [none, *delays], ["none", *map(str, delays)])
    left, right = ks[0] / 1.25, ks[-1] * 1.25
    axes.set(xlim=(left, right), ylim=(none / 1.12, top))
    reach = [left, right]
    axes.fill_between(reach, reach, [top, top], color=style.WASH, linewidth=0, zorder=0)
    (handles["delay = k"],) = axes.plot(
        reach, reach, color=style.INK, linewidth=1.2, dashes=(5, 3), zorder=1.5, label="delay = k"
    )
    for line in lines:
        if line.ks == [None]:
            _level(axes, line, none, handles)
        else:
            _curve(axes, line, none, handles)


def _curve(axes: Axes, line: Line, none: float, handles: dict[str, Artist]) -> None:
    """A strategy with a k: circles, curve and band."""
    colour = style.colour(line.strategy)
    ks = [k for k in line.ks if k is not None]
    found = [[line.longest(k, seed) or none for seed in line.seeds(k)] for k in ks]
    band: Any = {"color": colour, "alpha": 0.18, "linewidth": 0, "zorder": 2}
    lowest, highest = [min(each) for each in found], [max(each) for each in found]
    handles["band"] = axes.fill_between(ks, lowest, highest, label="worst to best seed", **band)
    label = f"{line.strategy} {line.mode}".rstrip()
    medians = [line.typical(k) or none for k in ks]
    drawn: Any = {"color": colour, "linewidth": 2.4, "label": f"{label}, median seed"}
    (handles[label],) = axes.plot(ks, medians, zorder=3, **drawn)
    for k in ks:
        for delay in line.delays:
            share = line.share(k, delay)
            if share is not None:
                axes.plot(k, delay, "o", zorder=4, markeredgewidth=1.1, **_circle(colour, share))
    shares = {"solved by all seeds": 1.0, "by some": 0.5, "by none": 0.0}
    for label, share in shares.items():
        more: Any = {"marker": "o", "linestyle": "", **_circle(colour, share)}
        handles[label] = Line2D([], [], label=label, **more)


def _level(axes: Axes, line: Line, none: float, handles: dict[str, Artist]) -> None:
    """A strategy without a k, such as full BPTT: a level line, what the net itself can learn."""
    level, colour = line.typical(None) or none, style.colour(line.strategy)
    drawn: Any = {"color": colour, "linewidth": 2.4, "label": f"{line.strategy}, median seed"}
    handles[line.strategy] = axes.axhline(level, zorder=2.5, **drawn)


def _circle(colour: str, share: float) -> dict[str, Any]:
    filled = style.mix("#FFFFFF", colour, share)
    return {"markersize": 7, "markerfacecolor": filled, "markeredgecolor": colour}
