"""One look a setting: its strategy's colour, shaded by the strategy's own settings.

Colours belong to strategies, in every report alike. They are Okabe and Ito's, and Tol's where those
run out, both made for colour-blind readers; line styles and markers tell settings apart in grey.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bptt_lab.commands.report import tidy
from bptt_lab.commands.report.tidy import Setting

COLOURS: Mapping[str, str] = {
    "full": "#0072B2",
    "truncated": "#D55E00",
    "checkpointed": "#CC79A7",
    "autograd": "#009E73",
    "snap1": "#56B4E9",
    "rflo": "#E69F00",
    "rtrl": "#222222",
    "uoro": "#882255",
    "kf_rtrl": "#999933",
    "artbp": "#332288",
    "adaptive": "#44AA99",
    "feedback_alignment": "#777777",
}
# For strategies that have none above.
MORE = ("#AA4499", "#DDCC77", "#661100", "#88CCEE")
# In line widths, on and off.
DASHES: Sequence[tuple[float, ...]] = (
    (),
    (5, 2),
    (1, 1.5),
    (6, 1.5, 1, 1.5),
    (10, 3),
    (4, 1.5, 1, 1.5, 1, 1.5),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# Exact strategies draw the same curve. The widest is drawn first; where no other setting needs the
# dashes, the others leave gaps through which it shows.
WIDTHS: Mapping[str, float] = {"full": 3.2, "checkpointed": 2.4, "autograd": 2.0}
GAPS: Mapping[str, tuple[float, ...]] = {
    "checkpointed": (4, 4),
    "autograd": (0, 5.7, 3, 0.9),  # the same period in points, its dash within the other's gap
}


class Look(NamedTuple):
    """How a setting is drawn wherever it appears."""

    colour: str
    dashes: tuple[float, ...] = ()
    marker: str = "o"
    width: float = 1.8


def colour(strategy: str) -> str:
    """Return a strategy's colour; one unknown here gets one by its name, the same every time."""
    return COLOURS.get(strategy) or MORE[zlib.crc32(strategy.encode()) % len(MORE)]


def looks(keys: Sequence[str], strategy_of: Mapping[Setting, str]) -> dict[Setting, Look]:
    """Give each setting its look.

    The strategy's own keys, such as its k, shade its colour; all others choose dashes and marker.
    Where no key of a strategy was varied, the others do both.

    Args:
        keys: what the values of a setting belong to.
        strategy_of: the settings that share a page or a panel, of all datasets.
    """
    own = [i for i, key in enumerate(keys) if key.startswith("gradient.")]
    apart = ("dataset", "gradient")
    rest = [i for i, key in enumerate(keys) if i not in own and key not in apart]
    strategies: dict[str, list[Setting]] = {}
    for setting, strategy in strategy_of.items():
        strategies.setdefault(strategy, []).append(setting)
    gaps = GAPS if "full" in strategies else {}
    styles = _ranks(_part(setting, rest) for setting in strategy_of)
    given = {}
    for strategy, settings in strategies.items():
        shades = _ranks(_part(setting, own or rest) for setting in settings)
        for setting in settings:
            style = styles[_part(setting, rest)]
            given[setting] = Look(
                shade(colour(strategy), shades[_part(setting, own or rest)], len(shades)),
                DASHES[style % len(DASHES)] if len(styles) > 1 else gaps.get(strategy, ()),
                MARKERS[style % len(MARKERS)],
                WIDTHS.get(strategy, 1.8),
            )
    return given


def shade(base: str, index: int, number: int) -> str:
    """Return a colour's `index`-th of `number` shades, from dark to light; a lone one is itself."""
    if number == 1:
        return base
    widest = 0.3 if number == 2 else 0.45  # share of black at one end, of white at the other
    amount = widest * (2 * index / (number - 1) - 1)
    end = 255 if amount > 0 else 0
    parts = (int(base[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + abs(amount) * (end - part)):02X}" for part in parts)


def _part(setting: Setting, indices: Sequence[int]) -> Setting:
    return tuple(setting[i] for i in indices)


def _ranks(parts: Iterable[Setting]) -> dict[Setting, int]:
    ordered = sorted(set(parts), key=lambda part: [tidy.order(value) for value in part])
    return {part: rank for rank, part in enumerate(ordered)}
