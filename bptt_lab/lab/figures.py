"""Pictures of a run and of a sweep, in the style of all others."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bptt_lab.core.validation import ConfigError
from bptt_lab.training import naming, style

LOSSES = ("train/loss", "val/loss")
NAMED = 16  # lines that can be named
MOST_TICKS = 8  # values that each have one
BAR: Any = {"linewidth": 0, "marker": "|", "markersize": 13, "markeredgewidth": 2.4}  # at a mean


class Picture(Figure):
    """A figure that a notebook shows, though no pyplot has it open."""

    def _repr_png_(self) -> bytes:
        FigureCanvasAgg(self)
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def _blank(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Picture(figsize=(style.ACROSS, 3.6), dpi=130, layout="constrained")
    style.heading(figure, title)
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y)
    return figure, axes


@style.styled
def curves(title: str, lines: Iterable[Mapping[str, Any]], tags: Sequence[str]) -> Figure:
    """Draw scalars against steps; `lines` are those of metrics.jsonl.

    Raises:
        ConfigError: for a tag that there is not.
    """
    points: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for tag, value in line.items():
            if tag != "step":
                points.setdefault(tag, []).append((line["step"], value))
    for tag in tags:
        if tag not in points:
            raise ConfigError(f"{tag}: was not logged; choose from {', '.join(sorted(points))}")
    shown = tags[0] if len(tags) == 1 else "" if tags else "loss"
    figure, axes = _blank(title, "optimizer step", shown)
    for index, tag in enumerate(tags or [tag for tag in LOSSES if tag in points]):
        look = style.plain(index)
        axes.plot(*zip(*points[tag], strict=True), label=tag, **look.line())
    if len(axes.lines) > 1:
        naming.name(axes)
    return figure


@style.styled
def against(
    title: str, rows: Sequence[Mapping[str, Any]], x: str, y: str, by: Sequence[str]
) -> Figure:
    """Draw rows: y against x, a dot each, and a line through the means of those alike in `by`."""
    known = [row for row in rows if x in row and row.get(y) is not None]
    number = all(_is_number(row[x]) for row in known)
    groups: dict[tuple[str, ...], dict[Any, list[float]]] = {}
    for row in known:
        alike = tuple(str(row.get(key)) for key in by)
        place = row[x] if number else str(row[x])
        groups.setdefault(alike, {}).setdefault(place, []).append(row[y])
    values: list[Any] = list(dict.fromkeys(row[x] if number else str(row[x]) for row in known))
    places = {v: v for v in values} if number else {v: i for i, v in enumerate(values)}
    figure, axes = _blank(title, *((x, y) if number else (y, "")))
    for index, (alike, found) in enumerate(sorted(groups.items(), key=str)):
        named = by == ["gradient"]
        look = style.LineStyle(style.colour(alike[0])) if named else style.plain(index)
        ordered = sorted(found, key=lambda value: places[value])
        means = [(places[value], fmean(found[value])) for value in ordered]
        dots = [(places[value], each) for value in ordered for each in found[value]]
        words = ", ".join(each for each in alike if each != "None")
        label = words if by and len(groups) <= NAMED else "_"
        line, turn = (look.line(), 1) if number else (BAR | {"color": look.colour}, -1)
        axes.plot(*[*zip(*means, strict=True)][::turn], label=label, **line)
        axes.plot(*[*zip(*dots, strict=True)][::turn], look.marker, label="_", **look.dots())
    if number:
        if style.spans_decades(values):
            style.logarithmic(axes.xaxis, min(values), max(values))
        if 0 < len(values) <= MOST_TICKS:
            style.tick_at(axes.xaxis, sorted(values))
        naming.name(axes, title=", ".join(by))
    else:  # a row a value: names have room at the left, not below
        names = [style.wrapped(value, 24) for value in places]
        axes.set_yticks([*places.values()], names)
        axes.set_ylim(len(places) - 0.5, -0.5)
        axes.set_title(f"by {x}")
        lines = max([name.count("\n") for name in names], default=0)
        figure.set_figheight(1.4 + (0.3 + 0.16 * lines) * len(places))
        naming.legend(figure, naming.named(axes), ", ".join(by))
    return figure


def _is_number(value: Any) -> bool:
    """Whether it has a place on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
