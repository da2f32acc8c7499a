"""How each setting of a sweep is drawn, and the legend that says so.

A setting has its strategy's colour. The strategy's own keys, such as its k, shade it in their
order; all other keys choose dashes and marker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from matplotlib.figure import Figure

from bptt_lab.commands.report import results
from bptt_lab.commands.report.settings import SweptValues
from bptt_lab.training import style
from bptt_lab.training.style import LineStyle

LEGEND_ROW = 0.19  # inches
ROOM = 56  # letters in a row
OTHERS = LineStyle(style.FAINT, width=1.2)  # of settings that are not told apart
Styles = Mapping[SweptValues, LineStyle]


def line_styles(keys: Sequence[str], strategy_of: Mapping[SweptValues, str]) -> Styles:
    """Give each setting of a page or panel its style, from the swept keys and its strategy.

    Where no key of a strategy was varied, the others shade its colour too.
    """
    own = [i for i, key in enumerate(keys) if key.startswith("gradient.")]
    apart = ("dataset", "gradient")
    rest = [i for i, key in enumerate(keys) if i not in own and key not in apart]
    shading = own or rest
    numbers = _in_order(_part(setting, rest) for setting in strategy_of)
    shades = {
        strategy: _in_order(_part(s, shading) for s, its in strategy_of.items() if its == strategy)
        for strategy in set(strategy_of.values())
    }
    colours = {strategy: style.colour(strategy) for strategy in sorted(shades)}
    styles = {}
    for setting, strategy in strategy_of.items():
        its = shades[strategy]
        # Of two names one may have the other's colour, and differs in its dashes.
        alike = [name for name, colour in colours.items() if colour == colours[strategy]]
        number = numbers[_part(setting, rest)] + alike.index(strategy)
        styles[setting] = LineStyle(
            style.shade(colours[strategy], its[_part(setting, shading)], len(its)),
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
        line.key(style.wrapped(label, ROOM), line.marker if markers and line != OTHERS else "")
        for label, line in entries
    ]
    longest = max(len(label) for label, _ in entries)
    columns = max(1, min(3, len(entries), (ROOM + 6) // (longest + 8)))
    rows = -(len(entries) // -columns) + sum(str(h.get_label()).count("\n") for h in handles)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * (1 + rows))
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, handlelength=2.6)


def _part(setting: SweptValues, indices: Sequence[int]) -> SweptValues:
    return tuple(setting[i] for i in indices)


def _in_order(parts: Iterable[SweptValues]) -> dict[SweptValues, int]:
    return {part: number for number, part in enumerate(in_order(set(parts)))}
