"""How long each setting took to a target loss: a row a setting, every seed a dot."""

import math
from pathlib import Path
from statistics import fmean
from typing import Any

from bptt_lab.commands.report import panel
from bptt_lab.commands.report.panel import Picture, Styles
from bptt_lab.commands.report.scores import Ranking
from bptt_lab.training import style

MOST = 20  # rows
ROOM = 34  # letters in a line of a row's label
UNITS = {"steps": "optimizer steps", "seconds": "seconds of training"}


@style.styled
def arrivals(unit: str, ranking: Ranking, styles: Styles, path: Path) -> Picture | None:
    """Draw the time to the target loss in one of UNITS; None where no one got there."""
    place = list(UNITS).index(unit)
    found = [(group, [a[place] for a in ranking.arrivals(group)]) for group in ranking.groups]
    rows = [(group, [a for a in all_ if a is not None], len(all_)) for group, all_ in found if all_]
    everything = [value for _, values, _ in rows for value in values]
    if not everything:
        return None
    rows.sort(key=lambda row: fmean(row[1]) if row[1] else math.inf)
    rows = rows[:MOST]
    title = f"{ranking.dataset}: {unit} to a validation loss of {ranking.target:.4g}"
    figure, axes = panel.new(title, UNITS[unit], "", height=1.3 + 0.27 * len(rows))
    axes.set_yticks(range(len(rows)), [style.wrapped(group.label, ROOM, 2) for group, *_ in rows])
    axes.grid(axis="y", visible=False)
    if style.spans_decades(everything):
        style.logarithmic(axes.xaxis, min(everything), max(everything))
    else:
        axes.set_xlim(0, max(everything) * 1.05 or 1)
    for y, (group, values, jobs) in enumerate(rows):
        line = styles[group.values]
        axes.plot(values, [y] * len(values), line.marker, **line.dots())
        if values:
            bar: Any = {"markersize": 13, "markeredgewidth": 2.4, "zorder": 4}
            axes.plot(fmean(values), y, "|", color=line.colour, **bar)
        if len(values) < jobs:
            some = f"{len(values)} of {jobs} seeds" if values else "not reached"
            panel.note(axes, y, some, data=True)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    style.save(figure, path)
    return Picture(path, title)
