"""Error against alignment, a panel a stream, a point a rule.

A point is the median over seeds, its bars go from quartile to quartile, and every seed is a faint
dot. Where no alignment was measured, each rule has a row.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from bptt_lab.commands.league.statistics import quartiles
from bptt_lab.commands.league.streams import Rule, Stream
from bptt_lab.commands.report.panel import Styles
from bptt_lab.training import style
from bptt_lab.training.style import LineStyle

INCHES = 3.6  # of a panel
ROW = 0.27  # inches of a rule's row
NARROW = 3  # an axis that spans less is linear, for the sake of its ticks
LETTERS = 26  # of a name beside its point
ALIGNMENT = "alignment: mean cosine with the exact gradient"
AROUND = [(r, a) for r in (9, 14, 20, 28, 38, 50) for a in range(0, 360, 30)]  # points, degrees


@style.styled
def draw(streams: Sequence[Stream], styles: Styles, *paths: Path) -> str:
    """Write the picture to every path, and return in words what it shows."""
    heights = [_height(stream) for stream in streams]
    figure = Figure(figsize=(style.ACROSS, sum(heights) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(streams), squeeze=False, height_ratios=heights)[:, 0]
    words = "Error against alignment" if any(map(_placed, streams)) else "Error by rule"
    style.heading(figure, words)
    for axes, stream in zip(panels, streams, strict=True):
        axes.set_title(style.wrapped(stream.name, 60))
        (_against if _placed(stream) else _rows)(axes, stream, styles)
    figure.draw_without_rendering()  # settles where points are, so that names can go beside them
    figure.set_layout_engine("none")
    for axes, stream in zip(panels, streams, strict=True):
        if _placed(stream):
            _name(axes, stream, styles)
        elif not any(map(_finite, stream.rules)):
            axes.text(0.5, 0.5, "no error to show", transform=axes.transAxes, ha="center")
            axes.set_xticks([])
    for path in paths:
        style.save(figure, path)
    return f"{words}: {', '.join(stream.name for stream in streams)}"


def _placed(stream: Stream) -> list[Rule]:
    """Return the rules that have a place in a panel of both."""
    return [rule for rule in stream.rules if rule.alignment is not None and _finite(rule)]


def _spread(rule: Rule) -> tuple[list[float], list[float]]:
    """Return the alignments and errors that bars stand for."""
    return [*rule.alignments().values()], _finite(rule)


def _finite(rule: Rule) -> list[float]:
    """Return the errors that have a place, where their median does."""
    is_there = rule.error is not None and math.isfinite(rule.error)
    return [x for x in rule.errors().values() if math.isfinite(x)] if is_there else []


def _height(stream: Stream) -> float:
    return INCHES if _placed(stream) else 0.9 + ROW * len(stream.rules)


def _scaled(axis: Any, values: Sequence[float]) -> None:
    positive = [x for x in values if x > 0]
    if positive and len(positive) == len(values) and max(positive) > NARROW * min(positive):
        style.logarithmic(axis, min(positive), max(positive))


def _against(axes: Axes, stream: Stream, styles: Styles) -> None:
    axes.set(xlabel=ALIGNMENT, ylabel=stream.unit)
    _scaled(axes.yaxis, [x for rule in _placed(stream) for x in _finite(rule)])
    for rule in _placed(stream):
        look, errors, cosines = styles[rule.values], rule.errors(), rule.alignments()
        both = [(cosines[s], errors[s]) for s in errors if s in cosines]
        both = [(x, y) for x, y in both if math.isfinite(y)]
        faint = look.dots() | {"alpha": 0.28, "markersize": 4}
        axes.plot(*zip(*both, strict=True), look.marker, linestyle="none", **faint)
        _cross(axes, look, (rule.alignment, rule.error), *_spread(rule))
    axes.margins(0.08, 0.1)


def _rows(axes: Axes, stream: Stream, styles: Styles) -> None:
    axes.set(xlabel=stream.unit)
    labels = [style.wrapped(_label(rule), 38, 2) for rule in stream.rules]
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    _scaled(axes.xaxis, [x for rule in stream.rules for x in _finite(rule)])
    for y, rule in enumerate(stream.rules):
        if errors := _finite(rule):
            look = styles[rule.values]
            faint = look.dots() | {"alpha": 0.28, "markersize": 4}
            axes.plot(errors, [y] * len(errors), look.marker, **faint)
            _cross(axes, look, (rule.error, y), errors, [y])


def _cross(
    axes: Axes, look: LineStyle, at: Any, across: Sequence[float], up: Sequence[float]
) -> None:
    """Draw a median and the quartiles in both directions."""
    x, y = at
    edge: Any = {"markeredgecolor": "white", "markeredgewidth": 0.8, "zorder": 4}
    line: Any = {"color": look.colour, "elinewidth": 1.3, "markersize": 8}
    bars: Any = {"xerr": _to_quartiles(x, across), "yerr": _to_quartiles(y, up)}
    axes.errorbar(x, y, fmt=look.marker, **bars, **line, **edge)


def _to_quartiles(middle: float, values: Sequence[float]) -> Any:
    low, high = quartiles(values)
    return [[max(0.0, middle - low)], [max(0.0, high - middle)]]


def _label(rule: Rule) -> str:
    return f"{rule.name} ({rule.diverged} diverged)" if rule.diverged else rule.name


def _name(axes: Axes, stream: Stream, styles: Styles) -> None:
    """Write each name at the nearest place beside its point that is free, with a line to it."""
    figure: Any = axes.figure
    renderer, point = figure.canvas.get_renderer(), figure.dpi / 72
    rules = _placed(stream)
    medians: Any = [(rule.alignment, rule.error) for rule in rules]
    places = axes.transData.transform(medians)
    taken = [Bbox([[x, y], [x, y]]).padded(5 * point) for x, y in places]
    for rule, (x, y) in zip(rules, places, strict=True):
        across, up = map(quartiles, _spread(rule))
        (left, low), (right, high) = axes.transData.transform([*zip(across, up, strict=True)])
        taken += [Bbox([[left, y], [right, y]]).padded(1), Bbox([[x, low], [x, high]]).padded(1)]
    inside = axes.get_window_extent(renderer).padded(4 * point)
    for rule, _ in sorted(zip(rules, places, strict=True), key=lambda pair: -pair[1][1]):
        colour = style.readable(styles[rule.values].colour)
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
        name: Any = axes.annotate(
            style.wrapped(_label(rule), LETTERS, 2),
            (rule.alignment, rule.error),
            (0, 0),
            textcoords="offset points",
            fontsize=style.SMALL,
            color=colour,
            zorder=5,
            annotation_clip=False,
            arrowprops=line,
        )

        def badness(place: tuple[float, float], name: Any = name) -> float:
            box = _put(name, place, renderer)
            outside = Bbox.union([inside, box]).bounds != inside.bounds
            return float(1000 * outside + 100 * sum(map(box.overlaps, taken)) + place[0])

        taken.append(_put(name, min(AROUND, key=badness), renderer))


def _put(name: Any, place: tuple[float, float], renderer: Any) -> Bbox:
    """Move a name to a distance and an angle from its point, and return the room it takes."""
    radius, angle = place
    right, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    name.set(ha="left" if right > 0.3 else "right" if right < -0.3 else "center")
    name.set(va="bottom" if up > 0.3 else "top" if up < -0.3 else "center")
    name.xyann = (radius * right, radius * up)
    name.update_positions(renderer)
    return Text.get_window_extent(name, renderer)
