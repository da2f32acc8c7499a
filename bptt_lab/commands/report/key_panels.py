"""The final metric of one dataset against each swept key: seeds as dots, their means joined."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from bptt_lab.commands.report import panel, results, scores
from bptt_lab.commands.report.line_styles import OTHERS, Styles, in_order, legend, line_styles
from bptt_lab.commands.report.panel import Picture
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

    @property
    def number(self) -> float | None:
        """Its place on an axis of numbers."""
        return float(self.value) if isinstance(self.value, int | float) else None


Series = Mapping[SweptValues, Sequence[_Point]]  # by the setting with the key left blank


@style.styled
def against(
    keys: Sequence[str], key: str, ranking: Ranking, styles: Styles, path: Path
) -> Picture | None:
    """Draw the panel of one swept key; None where it does not vary or nothing has completed.

    Numbers are the axis, logarithmic where they span decades; settings without the key, such as
    full BPTT without a k, are level lines. Other values stand side by side.
    """
    series = _series(ranking, keys.index(key))
    points = [point for line in series.values() for point in line]
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
        entries = _numbers(axes, series, keys)
    else:
        entries = _categories(axes, points, styles)
    panel.draw_references(axes, ranking.references(ranking.metric))
    if len(entries) > MOST:
        entries[MOST - 1 :] = [(f"{len(entries) - MOST + 1} more", OTHERS)]
    legend(figure, entries, markers=True)
    style.save(figure, path)
    return Picture(path, title)


def _series(ranking: Ranking, place: int) -> Series:
    """Collect the settings that differ in one key only."""
    series: dict[SweptValues, list[_Point]] = {}
    for group in (score.group for score in ranking.scores):
        finals = [v for job in group.jobs if (v := scores.final(job, ranking.metric)) is not None]
        finals = [v for v in finals if math.isfinite(v)]
        if finals:
            rest = tuple(None if i == place else v for i, v in enumerate(group.values))
            series.setdefault(rest, []).append(_Point(group.values[place], finals, group))
    return series


def _numbers(axes: Axes, series: Series, keys: Sequence[str]) -> Entries:
    """Join the means of settings that differ in the key only; return the legend."""
    numbers = sorted({x for line in series.values() for p in line if (x := p.number) is not None})
    if numbers[0] > 0 and numbers[-1] / numbers[0] >= 8:
        style.logarithmic(axes.xaxis, numbers[0], numbers[-1])
    if len(numbers) <= MOST_TICKS:
        axes.set_xticks(numbers, [f"{number:g}" for number in numbers])
        axes.minorticks_off()
    strategy_of = {rest: line[0].group.strategy for rest, line in series.items()}
    if len(series) > MOST and sum(map(len, series.values())) < 2 * len(series):
        # Hardly two to join, as in a random search: strategies are all there is to tell apart.
        plain = {s: LineStyle(style.colour(s)) for s in sorted(set(strategy_of.values()))}
        for rest, line in series.items():
            for point in line:
                _line(axes, [point], plain[strategy_of[rest]])
        return list(plain.items())
    styles, names = line_styles(keys, strategy_of), results.short_names(keys)
    entries = []
    for rest in in_order(series):
        others = {k: v for k, v in zip(keys, rest, strict=True) if k != "dataset"}
        _line(axes, series[rest], styles[rest])
        entries.append((results.describe(others, names) or strategy_of[rest], styles[rest]))
    style.take_turns(axes.lines)
    return entries


def _line(axes: Axes, points: Sequence[_Point], line: LineStyle) -> None:
    """Draw the dots and the joined means of one series; level lines for those without the key."""
    at = sorted((x, p.finals) for p in points if (x := p.number) is not None)
    for x, finals in at:
        axes.plot([x] * len(finals), finals, line.marker, **line.dots())
    axes.plot([x for x, _ in at], [fmean(finals) for _, finals in at], **line.line())
    for finals in (p.finals for p in points if p.value is None):
        axes.axhline(fmean(finals), zorder=1.7, **line.line())
        axes.axhspan(min(finals), max(finals), color=line.colour, alpha=0.08, linewidth=0)


def _categories(axes: Axes, points: Sequence[_Point], styles: Styles) -> Entries:
    """Give each value a column, in it each setting a place of its own, and a bar for its mean."""
    points = sorted(points, key=lambda p: p.group.jobs[0].run.folder.name)  # numbered
    values = list(dict.fromkeys(p.value for p in points))
    by_setting = {p.group.values: p for p in points}
    for column, value in enumerate(values):
        here = [s for s in in_order(by_setting) if by_setting[s].value == value]
        for i, setting in enumerate(here):
            line, x = styles[setting], column + 0.8 * ((i + 0.5) / len(here) - 0.5)
            half, finals = min(0.12, 0.3 / len(here)), by_setting[setting].finals
            axes.plot([x] * len(finals), finals, line.marker, **line.dots())
            bar = [x - half, x + half], [fmean(finals)] * 2
            axes.plot(*bar, color=line.colour, linewidth=2.4)
    labels = [results.short(value, ROOM // 2) or "none" for value in values]
    crowded = (max(map(len, labels)) + 1) * len(labels) > ROOM
    turned: Any = {"rotation": 20, "ha": "right"} if crowded else {}
    axes.set_xticks(range(len(values)), labels, **turned)
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.grid(axis="x", visible=False)
    if len(points) == len(values):  # the columns' own labels say it all
        return []
    return [(by_setting[setting].group.label, styles[setting]) for setting in in_order(by_setting)]
