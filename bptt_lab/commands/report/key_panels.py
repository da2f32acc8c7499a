"""The final metric of one dataset against each swept key: seeds as dots, their means joined."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from bptt_lab.commands.report import panel, results
from bptt_lab.commands.report.panel import OTHERS, Picture, Styles, in_order, legend, line_styles
from bptt_lab.commands.report.results import Group
from bptt_lab.commands.report.scores import Ranking
from bptt_lab.commands.report.settings import SweptValues, Value
from bptt_lab.training import style
from bptt_lab.training.style import LineStyle

MOST = 24  # entries of a legend
MOST_TICKS = 8  # values that each have a label on the axis
ROOM = 38  # letters along an axis
Entries = list[tuple[str, LineStyle]]


class _Point(NamedTuple):
    """One setting's final values, at its value of the key."""

    value: Value
    finals: Sequence[float]
    group: Group


@style.styled
def against(
    keys: Sequence[str], key: str, ranking: Ranking, styles: Styles, path: Path
) -> Picture | None:
    """Draw the panel of one swept key; None where it does not vary or nothing has completed.

    Numbers are the axis, logarithmic where they span decades; settings without the key, such as
    full BPTT without a k, are level lines. Other values stand side by side.
    """
    place = keys.index(key)
    points = []
    for group in ranking.groups:
        finals = [value for value in group.finals(ranking.metric) if math.isfinite(value)]
        if finals:
            points.append(_Point(group.values[place], finals, group))
    values = {point.value for point in points}
    if len(values) < 2:
        return None
    shown = results.short(key, ROOM)
    title = f"{ranking.dataset}: test {ranking.metric.replace('_', ' ')} against {shown}"
    figure, axes = panel.new(title, shown, f"test {ranking.label(ranking.metric)}")
    finals = [v for point in points for v in point.finals]
    if style.spans_decades(finals):
        style.logarithmic(axes.yaxis, min(finals), max(finals))
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values - {None}):
        entries = _numbers(axes, points, keys, place)
    else:
        entries = _categories(axes, points, styles)
    panel.draw_references(axes, ranking.references(ranking.metric))
    if len(entries) > MOST:
        entries[MOST - 1 :] = [(f"{len(entries) - MOST + 1} more", OTHERS)]
    legend(figure, entries, markers=True)
    style.save(figure, path)
    return Picture(path, title)


def _numbers(axes: Axes, points: Sequence[_Point], keys: Sequence[str], place: int) -> Entries:
    """Join the means of settings that differ in the key only; return the legend."""
    numbers = sorted({float(p.value) for p in points if p.value is not None})
    if numbers[0] > 0 and numbers[-1] / numbers[0] >= 8:
        style.logarithmic(axes.xaxis, numbers[0], numbers[-1])
    if len(numbers) <= MOST_TICKS:
        axes.set_xticks(numbers, [f"{number:g}" for number in numbers])
        axes.minorticks_off()
    series: dict[SweptValues, list[_Point]] = {}
    for point in points:
        rest = (*point.group.values[:place], None, *point.group.values[place + 1 :])
        series.setdefault(rest, []).append(point)
    strategy_of = {rest: line[0].group.strategy for rest, line in series.items()}
    if len(series) > MOST:  # as in a random search: strategies are all that can be told apart
        plain = {name: LineStyle(style.colour(name)) for name in sorted({*strategy_of.values()})}
        styles: Styles = {rest: plain[name] for rest, name in strategy_of.items()}
        entries = [*plain.items()]
    else:
        styles = line_styles(keys, strategy_of)
        labels = {rest: results.describe(keys, rest) or strategy_of[rest] for rest in series}
        entries = [(labels[rest], styles[rest]) for rest in in_order(series)]
    for rest in in_order(series):
        _line(axes, series[rest], styles[rest])
    style.take_turns(axes.lines)
    return entries


def _line(axes: Axes, points: Sequence[_Point], line: LineStyle) -> None:
    """Draw the dots and the joined means of one series; level lines for those without the key."""
    at = sorted((float(p.value), p.finals) for p in points if p.value is not None)
    for x, finals in at:
        axes.plot([x] * len(finals), finals, line.marker, **line.dots())
    axes.plot([x for x, _ in at], [fmean(finals) for _, finals in at], **line.line())
    for finals in (p.finals for p in points if p.value is None):
        axes.axhline(fmean(finals), zorder=1.7, **line.line())
        axes.axhspan(min(finals), max(finals), color=line.colour, alpha=0.08, linewidth=0)


def _categories(axes: Axes, points: Sequence[_Point], styles: Styles) -> Entries:
    """Give each value a column, in it each setting a place of its own, and a bar for its mean."""
    by_setting = {point.group.values: point for point in points}
    numbered = sorted(points, key=lambda point: point.group.jobs[0].run.folder.name)
    values = list(dict.fromkeys(point.value for point in numbered))
    for column, value in enumerate(values):
        here = [s for s in in_order(by_setting) if by_setting[s].value == value]
        for i, setting in enumerate(here):
            line, x = styles[setting], column + 0.8 * ((i + 0.5) / len(here) - 0.5)
            half, finals = min(0.12, 0.3 / len(here)), by_setting[setting].finals
            axes.plot([x] * len(finals), finals, line.marker, **line.dots())
            axes.hlines(fmean(finals), x - half, x + half, color=line.colour, linewidth=2.4)
    labels = [results.short(value, ROOM // 2) or "none" for value in values]
    crowded = (max(map(len, labels)) + 1) * len(labels) > ROOM
    turned: Any = {"rotation": 20, "ha": "right"} if crowded else {}
    axes.set_xticks(range(len(values)), labels, **turned)
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.grid(axis="x", visible=False)
    if len(points) == len(values):  # the columns' own labels say it all
        return []
    return [(by_setting[setting].group.label, styles[setting]) for setting in in_order(by_setting)]
