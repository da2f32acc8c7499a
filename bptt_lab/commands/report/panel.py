"""What all panels of the report share: size, title, lines that name a level."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bptt_lab.commands.report.results import Reference
from bptt_lab.training import style

INCHES = (4.2, 3.0)  # at 10 points, 11 pixels on a phone's width and more on half a desktop's
GAP = 0.07  # between two names of levels, as a part of the panel's height


class Picture(NamedTuple):
    """A written PNG, and in words what it shows."""

    path: Path
    alt: str
    caption: str = ""

    @property
    def url(self) -> str:
        """The picture itself as an address."""
        return f"data:image/png;base64,{base64.b64encode(self.path.read_bytes()).decode()}"


def new(title: str, xlabel: str, ylabel: str, height: float = INCHES[1]) -> tuple[Figure, Axes]:
    """Return a figure of one panel, outside pyplot's list of figures."""
    figure = Figure(figsize=(INCHES[0], height), layout="constrained")
    axes = figure.subplots()
    style.heading(figure, title)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure, axes


def draw_references(axes: Axes, levels: Sequence[Reference]) -> None:
    """Draw a dashed line a level, named at the right; where far from the data, an arrow says so."""
    # The axis may grow by two thirds for them; beyond that the curves would be flat.
    near = [level for _, level in levels if -0.33 < style.height(axes, level) < 1.33]
    for level in near:
        axes.axhline(level, color="#555555", linewidth=1, dashes=(4, 3), zorder=1.5)
    texts = []
    for name, level in levels:
        at = style.height(axes, level)
        arrow = "" if level in near else " ↑" if at > 1 else " ↓"
        texts.append((at, f"{name} {level:.3g}{arrow}"))
    lowest = 0.0
    for above, (at, text) in zip(reversed(range(len(texts))), sorted(texts), strict=True):
        at = min(max(at, lowest), 1 - GAP * above)  # none covers another, and the last one fits
        note(axes, at, text)
        lowest = at + GAP


def note(axes: Axes, at: float, text: str, *, data: bool = False) -> None:
    """Write at the right of a panel, at a part of its height or at a value of the y axis."""
    transform = axes.get_yaxis_transform() if data else axes.transAxes
    axes.text(1.01, at, text, transform=transform, fontsize=9, color=style.GREY, va="center")
