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
from bptt_lab.training import style

LOSSES = ("train/loss", "val/loss")
PALETTE = (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE, *style.COLOURS)
NAMED = 16  # lines that a legend can name


class Picture(Figure):
    """A figure that a notebook shows, though no pyplot has it open."""

    def _repr_png_(self) -> bytes:
        FigureCanvasAgg(self)
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def _blank(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Picture(figsize=(6.4, 4), dpi=110, layout="constrained")
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
    for tag in tags or [tag for tag in LOSSES if tag in points]:
        axes.plot(*zip(*points[tag], strict=True), label=tag)
    if len(axes.lines) > 1:
        axes.legend()
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
    figure, axes = _blank(title, x, y)
    for index, (alike, found) in enumerate(sorted(groups.items(), key=str)):
        named = by == ["gradient"]
        colour = style.colour(alike[0]) if named else PALETTE[index % len(PALETTE)]
        ordered = sorted(found, key=lambda value: places[value])
        means = [fmean(found[value]) for value in ordered]
        dots = [(places[value], each) for value in ordered for each in found[value]]
        words = ", ".join(each for each in alike if each != "None")
        label = words if len(groups) <= NAMED else None
        line = style.LineStyle(colour)
        joined = {} if number else {"linewidth": 0, "marker": "_", "markersize": 24, "mew": 2}
        axes.plot([places[v] for v in ordered], means, label=label, **line.line() | joined)
        axes.plot(*zip(*dots, strict=True), "o", **line.dots())
    if number and style.spans_decades(values):
        style.powers_of_two(axes.xaxis, sorted(values))
    elif not number:
        axes.set_xticks(list(places.values()), [style.wrapped(value, 14) for value in places])
        axes.set_xlim(-0.5, len(places) - 0.5)
    elif len(values) <= NAMED:
        axes.set_xticks(sorted(values))
    if by and 0 < len(groups) <= NAMED:
        axes.legend(title=", ".join(by))
    return figure


def _is_number(value: Any) -> bool:
    """Whether it has a place on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
