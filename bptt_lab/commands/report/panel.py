"""What all panels of the report share: size, title, names, styles, lines that name a level.

A setting has its strategy's colour. The strategy's own keys, such as its k, shade it in their
order; all other keys choose dashes and marker.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bptt_lab.commands.report import results
from bptt_lab.commands.report.results import Reference
from bptt_lab.commands.report.settings import SweptValues
from bptt_lab.training import style
from bptt_lab.training.style import LineStyle

HEIGHT = 3.0  # inches
OTHERS = LineStyle(style.FAINT, marker="", width=1.2)  # of settings that are not told apart
LEVEL = LineStyle("#555555", (4, 3), "", width=1)  # of what a trivial predictor reaches
Styles = Mapping[SweptValues, LineStyle]


class Picture(NamedTuple):
    """A written PNG, and in words what it shows."""

    path: Path
    alt: str

    @property
    def url(self) -> str:
        """The picture itself as an address."""
        return f"data:image/png;base64,{base64.b64encode(self.path.read_bytes()).decode()}"


def new(title: str, xlabel: str, ylabel: str, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Return a figure of one panel, outside pyplot's list of figures."""
    figure = Figure(figsize=(style.ACROSS, height), layout="constrained")
    axes = figure.subplots()
    style.heading(figure, title)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure, axes


def draw_references(axes: Axes, levels: Sequence[Reference]) -> None:
    """Draw a dashed line a level, with its name; one that is far is named at the edge."""
    # The axis may grow by two thirds for them; beyond that the curves would be flat.
    near = [-0.33 < style.height(axes, level) < 1.33 for _, level in levels]
    for (name, level), is_near in zip(levels, near, strict=True):
        label = f"{name} {level:.3g}"
        if is_near:
            axes.axhline(level, zorder=1.5, label=label, **LEVEL.line())
        else:
            up = style.height(axes, level) > 0
            axes.plot(
                1, up, transform=axes.transAxes, label=f"{label} {'↑↓'[not up]}", **LEVEL.line()
            )


def line_styles(keys: Sequence[str], strategy_of: Mapping[SweptValues, str]) -> Styles:
    """Give each setting of a page or panel its style, from the swept keys and its strategy.

    Where no key of a strategy was varied, the others shade its colour too.
    """
    own = [i for i, key in enumerate(keys) if key.startswith("gradient.")]
    apart = ("dataset", "gradient")
    rest = [i for i, key in enumerate(keys) if i not in own and key not in apart]
    shading = own or rest
    numbers = in_order({_part(setting, rest) for setting in strategy_of})
    names = sorted(set(strategy_of.values()))
    styles = {}
    for name in names:
        colour = style.colour(name)
        its = [setting for setting, strategy in strategy_of.items() if strategy == name]
        shades = in_order({_part(setting, shading) for setting in its})
        # Of two names one may have the other's colour, and differs in its dashes.
        first = [other for other in names if style.colour(other) == colour].index(name)
        for setting in its:
            number = first + numbers.index(_part(setting, rest))
            styles[setting] = LineStyle(
                style.shade(colour, shades.index(_part(setting, shading)), len(shades)),
                style.DASHES[number % len(style.DASHES)],
                style.MARKERS[number % len(style.MARKERS)],
            )
    return styles


def in_order(settings: Iterable[SweptValues]) -> list[SweptValues]:
    """Sort settings by their values, numbers by size."""
    return sorted(settings, key=lambda setting: [results.order(value) for value in setting])


def _part(setting: SweptValues, indices: Sequence[int]) -> SweptValues:
    return tuple(setting[i] for i in indices)
