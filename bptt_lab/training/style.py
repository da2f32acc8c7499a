"""The style of all pictures: width, colours, lines, names, ticks, files. It imports no torch.

A strategy's colour follows from its name, so that it is the same in every picture and a new
strategy needs no entry anywhere. Every picture is ACROSS inches wide and its text has SMALL points
or more, which makes 9 pixels on a phone of 390.
"""

import hashlib
import math
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

# Twelve hues in four lightnesses, even steps of OKLCH at a chroma of .18 or what sRGB has of it;
# the lightest have a contrast of 3 with white.
_TABLE = """
#6D0130 #6A1600 #542F00 #453801 #2F4001 #004625 #02433D #02414D #013C62 #271E93 #500081 #640058
#9E0148 #992501 #7A4702 #655401 #475F00 #016739 #01635B #026071 #01598F #3E42B6 #6D2EA3 #8C197C
#C23565 #C63C18 #A36102 #887103 #618001 #01894E #04857A #008197 #0279BE #5863DA #8C4FC5 #AF3F9C
#E35580 #E75C39 #C97902 #A88D00 #789E03 #01AA61 #01A598 #039FBA #0095EA #7180FA #A96CE5 #CE5DB9
"""
COLOURS = _TABLE.split()
# Of 6 million numbers the one that keeps the package's strategies farthest apart, for colour-blind
# readers too, with full and truncated among the lighter half. Another would change every picture.
_SALT = 5989469
# For what is no strategy: Okabe and Ito's colours, made for colour-blind readers.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
INK, GREY, FAINT, WASH = "#222222", "#666666", "#C8C8C8", "#F2F2F2"

WIDTH = 1.8  # of a line, in points
_DASH, _DOT = (5, 2), (1, 1.5)  # on and off, in widths of the line
DASHES = ((), _DASH, _DOT, (*_DASH, *_DOT), (10, 3), (*_DASH, *_DOT, *_DOT))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

ACROSS = 5.2  # inches
SMALL = 9  # points
LINE_CONTRAST, TEXT_CONTRAST = 3, 4.5  # with white, at least: WCAG 2.2, 1.4.11 and 1.4.3

TURN = "turn"  # of a line that shares its place with others
PIECE = 4  # of a line that shares its place with others, in widths

DPI = 160
DECADES = 1.5  # an axis that spans more is logarithmic
_RC: Any = {  # matplotlib's keys are a Literal of hundreds
    "font.family": "DejaVu Sans",  # matplotlib brings it; a user's own may be missing
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=(BLUE, VERMILION, GREEN, PURPLE)),
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "legend.title_fontsize": SMALL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "lines.linewidth": WIDTH,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "text.parse_math": False,  # labels hold what users typed, dollars included
    "svg.hashsalt": "bptt_lab",  # the same picture has the same bytes
}
styled = rc_context(_RC)  # decorates what draws; nothing of it stays behind


class LineStyle(NamedTuple):
    """How a line and its dots are drawn."""

    colour: str
    dashes: tuple[float, ...] = ()
    marker: str = "o"
    width: float = WIDTH

    def line(self) -> dict[str, Any]:
        """Return matplotlib's arguments for the line."""
        dashes = self.dashes or (None, None)
        return {"color": self.colour, "linewidth": self.width, "dashes": dashes}

    def dots(self) -> dict[str, Any]:
        """Return matplotlib's arguments for dots, a seed each, which may overlap."""
        return {"color": self.colour, "markersize": 5, "alpha": 0.55, "markeredgewidth": 0}


@styled
def blank(title: str, x: str, y: str, height: float = 3.6) -> Axes:
    """Return the axes of a new picture of pyplot, as notebooks show it, `height` inches high."""
    from matplotlib import pyplot  # what draws without a notebook needs none

    _, axes = pyplot.subplots(figsize=(ACROSS, height), layout="constrained")
    axes.set_title(title)
    axes.set(xlabel=x, ylabel=y)
    return axes


def plain(index: int) -> LineStyle:
    """Return how the `index`-th line of a picture is drawn that is no strategy's."""
    four = (BLUE, VERMILION, GREEN, PURPLE)
    turn = index // len(four)
    dashes, marker = DASHES[turn % len(DASHES)], MARKERS[index % len(MARKERS)]
    return LineStyle(four[index % len(four)], dashes, marker)


def colour(name: str) -> str:
    """Return the colour of a strategy.

    It follows from the name alone: it depends neither on the other strategies of a picture nor on
    those that are installed.

    Examples:
        >>> colour("full")
        '#0279BE'
    """
    digest = hashlib.sha256(f"{name}{_SALT}".encode()).digest()
    return COLOURS[int.from_bytes(digest[:4]) % len(COLOURS)]


def shade(base: str, index: int, number: int) -> str:
    """Return a colour's `index`-th of `number` shades, from dark to light; a lone one is itself.

    All of them are seen on white: the lighter a colour is, the more of its shades are darker.
    """
    if number == 1:
        return base
    width = 0.6 if number == 2 else 0.9  # of the way from black to white
    lightest = next(
        share
        for share in np.arange(width / 2, -1, -0.01)
        if share <= 0 or contrast(_mixed(base, share)) >= LINE_CONTRAST
    )
    return _mixed(base, lightest - width * (1 - index / (number - 1)))


def readable(base: str) -> str:
    """Return a colour for a text on white: the colour itself, or as much darker as it must be."""
    shares = np.arange(0, 1, 0.02)
    dark = (_mixed(base, -share) for share in shares)
    return next(colour for colour in dark if contrast(colour) >= TEXT_CONTRAST)


def contrast(one: str, other: str = "#FFFFFF") -> float:
    """Return the contrast of two colours as WCAG 2.2 defines it, from 1 to 21."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _mixed(base: str, amount: float) -> str:
    """Mix a colour with so much of white, or of black below zero."""
    end, share = 255 if amount > 0 else 0, abs(amount)
    parts = (int(base[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round((1 - share) * part + share * end):02X}" for part in parts)


def take_turns(lines: Iterable[Line2D]) -> list[list[Line2D]]:
    """Show lines that cover each other piece by piece, and return those that do together.

    Lines with dashes of their own stay.
    """
    alike: dict[str, list[Line2D]] = {}
    for line in lines:
        points = np.asarray(line.get_xydata(), float).ravel()
        alike.setdefault(" ".join(f"{number:.3g}" for number in points), []).append(line)
    for same in alike.values():
        whole = [line for line in same if line.get_linestyle() == "-"]
        for turn, line in enumerate(whole[1:], 1):  # the first one lies below, whole
            period = PIECE * len(whole)
            line.set_linestyle((period - PIECE * turn, (PIECE, period - PIECE)))
            line.set_gid(TURN)
    return [*alike.values()]


def wrapped(text: str, width: int, lines: int = 3) -> str:
    """Break a text into lines, few enough for a picture."""
    return textwrap.fill(text, width, max_lines=lines, placeholder=" …")


def heading(figure: Figure, text: str) -> None:
    """Write a figure's title from its left edge on."""
    width = int(11.2 * figure.get_figwidth())  # letters
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=11, fontweight="bold")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, SVG or PDF; the same figure gives the same bytes."""
    undated: Any = {".png": {"Software": None}, ".svg": {"Date": None}}
    metadata = undated.get(path.suffix.lower(), {"CreationDate": None})
    FigureCanvasAgg(figure)
    with warnings.catch_warnings(), rc_context(_RC):
        # A letter that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(path, dpi=DPI, metadata=metadata)


def spans_decades(values: Iterable[float]) -> bool:
    """Whether values, all above zero, span so much that their logarithms are what one reads."""
    values = list(values)
    return bool(values) and min(values) > 0 and math.log10(max(values) / min(values)) > DECADES


def height(axes: Axes, y: float) -> float:
    """Return where a value of y stands: 0 at the bottom of the axes, 1 at the top."""
    axes.autoscale_view()
    return float(axes.transLimits.transform(axes.transScale.transform((1, y)))[1])


def logarithmic(axis: Axis, low: float, high: float) -> None:
    """Make an axis logarithmic, with plain numbers for values between `low` and `high`."""
    _set_log(axis, 10)
    if math.log10(high / low) <= DECADES:
        between = (1, 2, 5) if high / low > 4 else (1, 1.5, 2, 3, 5, 7)
        axis.set_major_locator(LogLocator(subs=between))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # not in TeX


def powers_of_two(axis: Axis, ticks: Sequence[float], labels: Sequence[str] | None = None) -> None:
    """Make an axis logarithmic with base 2 and plain numbers at the ticks."""
    _set_log(axis, 2)
    tick_at(axis, ticks, labels)


def tick_at(axis: Axis, places: Sequence[float], labels: Sequence[str] | None = None) -> None:
    """Put ticks at rising places of an axis, as many as have room for their labels."""
    labels = labels or [f"{place:g}" for place in places]
    across = axis is axis.axes.xaxis
    room, letter, line = (0.6 * ACROSS * 72, 0.65 * SMALL, 0) if across else (170, 0, 1.1 * SMALL)
    scaled = np.log(places) if axis.get_scale() == "log" else np.asarray(places, float)
    points = (scaled - scaled[0]) * room / ((scaled[-1] - scaled[0]) or 1)
    kept: list[int] = []
    free = -math.inf
    for index, (point, label) in enumerate(zip(points, labels, strict=True)):
        half = (letter * len(label) + line) / 2
        if point - half >= free:
            kept.append(index)
            free = point + half
    axis.set_ticks([places[index] for index in kept], [labels[index] for index in kept])
    axis.set_minor_locator(NullLocator())


def _set_log(axis: Axis, base: float) -> None:
    axes: Axes = axis.axes
    (axes.set_yscale if axis is axes.yaxis else axes.set_xscale)("log", base=base)
    axis.set_minor_locator(NullLocator())
