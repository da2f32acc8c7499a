"""The style of all pictures: colours, lines, fonts, ticks and files. It imports no torch.

A strategy's colour follows from its name, so that it is the same in every picture and a new
strategy needs no entry anywhere.
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

# Twelve hues in four lightnesses, even steps of OKLCH at a chroma of .18 or what sRGB has of it.
_TABLE = """
#73013A #760A03 #5B3106 #4B3B05 #384301 #064A20 #01483E #05454E #044262 #1F2899 #4F0E8A #670463
#B21F41 #A14206 #865901 #6D6603 #3B7402 #007654 #017272 #116D8A #0961BB #5E4BC3 #8838A8 #A4277A
#D74C82 #DD503F #C46D01 #A38207 #7C9209 #03A14A #0F9B89 #0E97A9 #0A8FD1 #5D7BF1 #9867E1 #BF56B9
#FF7C8A #FE8449 #E39A07 #BAAF0C #76C341 #05C992 #0CC3C3 #02BCED #6EADFE #A29DFC #D583F8 #F776C4
"""
COLOURS = _TABLE.split()
# Of 19 million numbers the one that keeps the package's strategies farthest apart, for colour-blind
# readers too. Another number would change every picture.
_SALT = 15349728
# For what is no strategy: Okabe and Ito's colours, made for colour-blind readers.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
INK, GREY, FAINT, WASH = "#222222", "#666666", "#C8C8C8", "#F2F2F2"

WIDTH = 1.8  # of a line, in points
_DASH, _DOT = (5, 2), (1, 1.5)  # on and off, in widths of the line
DASHES = ((), _DASH, _DOT, (*_DASH, *_DOT), (10, 3), (*_DASH, *_DOT, *_DOT))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

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
    "legend.fontsize": 9,
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

    def key(self, label: str, marker: str = "") -> Line2D:
        """Return an entry of a legend."""
        return Line2D([], [], marker=marker, markersize=5, label=label, **self.line())


def colour(name: str) -> str:
    """Return the colour of a strategy.

    It follows from the name alone: it depends neither on the other strategies of a picture nor on
    those that are installed.

    Examples:
        >>> colour("full")
        '#5D7BF1'
    """
    digest = hashlib.sha256(f"{name}{_SALT}".encode()).digest()
    return COLOURS[int.from_bytes(digest[:4]) % len(COLOURS)]


def shade(base: str, index: int, number: int) -> str:
    """Return a colour's `index`-th of `number` shades, from dark to light; a lone one is itself."""
    if number == 1:
        return base
    widest = 0.3 if number == 2 else 0.45  # share of black at one end, of white at the other
    amount = widest * (2 * index / (number - 1) - 1)
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
    return [*alike.values()]


def wrapped(text: str, width: int, lines: int = 3) -> str:
    """Break a text into lines, few enough for a picture."""
    return textwrap.fill(text, width, max_lines=lines, placeholder=" …")


def heading(figure: Figure, text: str, size: float = 11) -> None:
    """Write a figure's title from its left edge on."""
    width = int(11.2 * figure.get_figwidth())
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=size, fontweight="bold")


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
    axis.set_ticks(ticks, labels or [f"{tick:g}" for tick in ticks])


def _set_log(axis: Axis, base: float) -> None:
    axes: Axes = axis.axes
    (axes.set_yscale if axis is axes.yaxis else axes.set_xscale)("log", base=base)
    axis.set_minor_locator(NullLocator())
