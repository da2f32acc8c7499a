"""The names of lines in a picture: beside their ends, or in a legend under it."""

from collections.abc import Sequence
from copy import copy
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from bptt_lab.training import style

ROW = 1.28 * style.SMALL  # from one name to the next, in points
SHORT = 21  # letters of a name that has room beside its line
OPTIONS = 62  # letters in a row of a legend


def name(*panels: Axes, title: str = "") -> None:
    """Name lines beside their ends, or once for all panels where a name is too long for that."""
    lines = {str(line.get_label()): line for axes in panels for line in named(axes)}
    if all(len(label) <= SHORT for label in lines):
        for axes in panels:
            name_lines(axes)
    else:
        legend(panels[0].figure, [*lines.values()], title)


def name_lines(axes: Axes) -> None:
    """Write the label of each line at the right of the axes, as near to its end as there is room.

    It takes the place of a legend. To be called last, once the axes have their limits; a figure
    that is too low for all names becomes higher.
    """
    lines = named(axes)
    if not lines:
        return
    figure: Any = axes.figure
    axes.get_ylim()  # which settles them
    for _ in range(2):
        if layout := figure.get_layout_engine():
            layout.execute(figure)
        room = axes.bbox.height * 72 / figure.dpi
        if room >= ROW * len(lines):
            break
        figure.set_figheight(figure.get_figheight() + (ROW * len(lines) - room) / 72 + 0.02)
    ends = [_end(axes, line) for line in lines]
    order = sorted(range(len(lines)), key=lambda i: ends[i][1])
    wanted = [ends[i][1] * room for i in order]
    for i, place in zip(order, apart(wanted, ROW, ROW / 2, room - ROW / 2), strict=True):
        text, (x, y) = style.readable(to_hex(lines[i].get_color())), ends[i]
        leader = {"arrowstyle": "-", "color": text, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 0}
        axes.annotate(
            str(lines[i].get_label()),
            (x, y),
            (1, place / room),
            xycoords="axes fraction",
            textcoords=axes.transAxes + ScaledTranslation(1 / 6, 0, figure.dpi_scale_trans),
            va="center",
            fontsize=style.SMALL,
            color=text,
            annotation_clip=False,
            arrowprops={**leader, "relpos": (0, 0.5)},
        )


def inches(axes: Axes) -> float:
    """Return how high axes must be for the names of all their lines."""
    return ROW * len(named(axes)) / 72


def apart(wanted: Sequence[float], gap: float, least: float, most: float) -> list[float]:
    """Move rising places as little as it takes to have a gap between each two, within limits."""
    count = len(wanted)
    level = [place - gap * i for i, place in enumerate(wanted)]
    rising = [  # isotonic regression
        max(min(fmean(level[j : k + 1]) for k in range(i, count)) for j in range(i + 1))
        for i in range(count)
    ]
    top = max(least, most - gap * (count - 1))
    return [min(max(place, least), top) + gap * i for i, place in enumerate(rising)]


def named(axes: Axes) -> list[Line2D]:
    """Return the lines that have a name."""
    return [line for line in axes.lines if not str(line.get_label()).startswith("_")]


def _end(axes: Axes, line: Line2D) -> tuple[float, float]:
    """Return where a line ends, in shares of the axes and within them."""
    points = np.asarray(line.get_xydata(), float)
    seen = line.get_transform().transform(points[np.isfinite(points).all(1)])
    x, y = axes.transAxes.inverted().transform(seen[-1]) if len(seen) else (1.0, 0.0)
    return float(np.clip(x, 0, 1)), float(np.clip(y, 0, 1))


def legend(figure: Any, handles: Sequence[Any], title: str = "") -> None:
    """Put a legend under a figure, where it hides nothing: for names that have no room elsewhere.

    The figure grows by as much.
    """
    if not handles:
        return
    handles = [copy(handle) for handle in handles]
    for handle in handles:
        if handle.get_gid() == style.TURN:  # it is whole here
            handle.set_linestyle("-")
    labels = [style.wrapped(str(handle.get_label()), OPTIONS - 6) for handle in handles]
    longest = max(len(line) for label in labels for line in label.splitlines())
    columns = max(1, min(3, len(labels), OPTIONS // (longest + 8)))
    rows = -(len(labels) // -columns) + sum(label.count("\n") for label in labels) + bool(title)
    figure.set_figheight(figure.get_figheight() + 1.5 * style.SMALL * (1 + rows) / 72)
    where: Any = {"loc": "outside lower left", "ncols": columns, "handlelength": 2.6}
    figure.legend(handles, labels, title=title or None, alignment="left", **where)
