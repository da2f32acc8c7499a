"""How long each setting took to a target loss: a row a setting, every seed a dot."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean
from typing import Any

from bptt_lab.commands.report import panel
from bptt_lab.commands.report.line_styles import Styles
from bptt_lab.commands.report.panel import Picture
from bptt_lab.commands.report.scores import Ranking
from bptt_lab.training import style

MOST = 20  # rows
ROOM = 34  # letters in a line of a row's label
UNITS = {"steps": "optimizer steps", "seconds": "seconds of training"}


@style.styled
def arrivals(unit: str, ranking: Ranking, styles: Styles, path: Path) -> Picture | None:
    """Draw the time to the target loss in one of UNITS; None where no one got there."""
    place = list(UNITS).index(unit)
    begun = [score.group for score in ranking.scores if score.arrivals]
    jobs = {score.group.values: score.arrivals for score in ranking.scores}
    reached = {
        group.values: [a for pair in jobs[group.values] if (a := pair[place]) is not None]
        for group in begun
    }
    means = {setting: fmean(values) for setting, values in reached.items() if values}
    if not means:
        return None
    rows = sorted(begun, key=lambda group: means.get(group.values, math.inf))[:MOST]
    title = f"{ranking.dataset}: {unit} to a validation loss of {ranking.target:.4g}"
    figure, axes = panel.new(title, UNITS[unit], "", height=1.3 + 0.27 * len(rows))
    axes.set_yticks(range(len(rows)), [style.wrapped(group.label, ROOM, 2) for group in rows])
    axes.grid(axis="y", visible=False)
    everything = [value for values in reached.values() for value in values]
    if style.spans_decades(everything):
        style.logarithmic(axes.xaxis, min(everything), max(everything))
    else:
        axes.set_xlim(0, max(everything) * 1.05 or 1)
    for y, group in enumerate(rows):
        line, values = styles[group.values], reached[group.values]
        axes.plot(values, [y] * len(values), line.marker, **line.dots())
        if not values:
            panel.note(axes, y, "not reached", data=True)
        else:
            bar: Any = {"markersize": 13, "markeredgewidth": 2.4, "zorder": 4}
            axes.plot(means[group.values], y, "|", color=line.colour, **bar)
        if 0 < len(values) < len(jobs[group.values]):
            panel.note(axes, y, f"{len(values)} of {len(jobs[group.values])} seeds", data=True)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    style.save(figure, path)
    return Picture(path, title)
