"""What all panels of the report share: size, title, legend, styles, lines that name a level.

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

INCHES = (4.2, 3.0)  # at 10 points, 11 pixels on a phone's width and more on half a desktop's
LEGEND_ROW = 0.19  # inches
ROOM = 56  # letters in a row
OTHERS = LineStyle(style.FAINT, marker="", width=1.2)  # of settings that are not told apart
LEVEL = LineStyle("#555555", (4, 3), "", width=1)  # of what a trivial predictor reaches
OFF = LineStyle("white", marker="", width=0)  # of one that is outside
Styles = Mapping[SweptValues, LineStyle]


class Picture(NamedTuple):
    """A written PNG, and in words what it shows."""

    path: Path
    alt: str

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


def draw_references(axes: Axes, levels: Sequence[Reference]) -> list[tuple[str, LineStyle]]:
    """Draw a dashed line a level, and return the entries of a legend; what is far has no line."""
    # The axis may grow by two thirds for them; beyond that the curves would be flat.
    near = [level for _, level in levels if -0.33 < style.height(axes, level) < 1.33]
    for level in near:
        axes.axhline(level, zorder=1.5, **LEVEL.line())
    named = sorted(levels, key=lambda reference: -reference[1])
    return [(f"{name} {level:.3g}", LEVEL if level in near else OFF) for name, level in named]


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


def legend(figure: Figure, entries: Sequence[tuple[str, LineStyle]], *, markers: bool) -> None:
    """Put a legend under the panel, where it hides nothing."""
    if not entries:
        return
    handles = [
        line.key(style.wrapped(label, ROOM), line.marker * markers) for label, line in entries
    ]
    longest = max(len(label) for label, _ in entries)
    columns = max(1, min(3, len(entries), (ROOM + 6) // (longest + 8)))
    rows = -(len(entries) // -columns) + sum(str(h.get_label()).count("\n") for h in handles)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * (1 + rows))
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, handlelength=2.6)


def _part(setting: SweptValues, indices: Sequence[int]) -> SweptValues:
    return tuple(setting[i] for i in indices)
