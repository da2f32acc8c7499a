"""The final metric of one dataset against each swept key: seeds as dots, their means joined."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from matplotlib.axes import Axes

from bptt_lab.commands.report import canvas, palette, scores, tidy
from bptt_lab.commands.report.canvas import Picture
from bptt_lab.commands.report.palette import Look
from bptt_lab.commands.report.scores import Standing
from bptt_lab.commands.report.tidy import Group, Setting, Value

MOST = 24  # entries of a legend
MOST_TICKS = 8  # values that each have a label on the axis


class _Point(NamedTuple):
    """One setting's final values, at its value of the key."""

    value: Value
    finals: Sequence[float]
    group: Group


@canvas.styled
def against(
    standing: Standing,
    keys: Sequence[str],
    key: str,
    looks: Mapping[Setting, Look],
    path: Path,
) -> Picture | None:
    """Draw the panel of one key; None where the key does not vary or nothing has completed.

    Numbers are the axis, logarithmic where they span decades; settings without the key, such as
    full BPTT without a k, are level lines. Other values stand side by side.

    Args:
        standing: the dataset's.
        keys: all swept keys, as the settings order them.
        key: one of them.
        looks: of the settings.
        path: where to write.
    """
    place = keys.index(key)
    series: dict[Setting, list[_Point]] = {}  # by the setting with the key left blank
    for score in standing.scores:
        group, metric = score.group, standing.metric
        finals = [v for job in group.jobs if (v := scores.final(job, metric)) is not None]
        finals = [v for v in finals if math.isfinite(v)]
        if finals:
            rest = tuple(None if i == place else v for i, v in enumerate(group.setting))
            series.setdefault(rest, []).append(_Point(group.setting[place], finals, group))
    points = [point for line in series.values() for point in line]
    values = {point.value for point in points if point.value is not None}
    if len({point.value for point in points}) < 2:
        return None
    title = f"{standing.dataset}: test {standing.metric.replace('_', ' ')} against {key}"
    figure, axes = canvas.new(title, key, f"test {standing.label(standing.metric)}")
    finals = [v for point in points for v in point.finals]
    if canvas.spans_decades(finals):
        canvas.logarithmic(axes.yaxis, min(finals), max(finals))
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        entries = _numbers(axes, series, keys, key)
    else:
        entries = _categories(axes, points, looks)
    canvas.draw_references(axes, standing.references(standing.metric))
    if len(entries) > MOST:
        entries[MOST - 1 :] = [(f"{len(entries) - MOST + 1} more", None)]
    canvas.legend(figure, entries, markers=True)
    canvas.save(figure, path)
    return Picture(path, title)


def _numbers(
    axes: Axes, series: Mapping[Setting, Sequence[_Point]], keys: Sequence[str], key: str
) -> list[tuple[str, Look | None]]:
    """Join the means of settings that differ in the key only; return the legend."""
    numbers = sorted({x for line in series.values() for p in line if (x := _number(p)) is not None})
    if numbers[0] > 0 and numbers[-1] / numbers[0] >= 8:
        canvas.logarithmic(axes.xaxis, numbers[0], numbers[-1])
    if len(numbers) <= MOST_TICKS:
        axes.set_xticks(numbers, [f"{number:g}" for number in numbers])
        axes.minorticks_off()
    names = tidy.short_names(keys)
    strategy_of = {rest: line[0].group.strategy for rest, line in series.items()}
    if len(series) > MOST and sum(map(len, series.values())) < 2 * len(series):
        # Hardly two to join, as in a random search: strategies are all there is to tell apart.
        plain = {s: Look(palette.colour(s)) for s in sorted(set(strategy_of.values()))}
        for rest, line in series.items():
            for point in line:
                _line(axes, [point], plain[strategy_of[rest]])
        return list(plain.items())
    entries: list[tuple[str, Look | None]] = []
    for rest, look in palette.looks(keys, strategy_of).items():
        others = {k: v for k, v in zip(keys, rest, strict=True) if k != "dataset"}
        _line(axes, series[rest], look)
        entries.append((tidy.describe(others, names) or strategy_of[rest], look))
    return sorted(entries, key=lambda entry: entry[0])


def _line(axes: Axes, points: Sequence[_Point], look: Look) -> None:
    """Draw the dots and the joined means of one series; level lines for those without the key."""
    at = sorted((x, p.finals) for p in points if (x := _number(p)) is not None)
    for x, finals in at:
        _dots(axes, x, finals, look)
    means = [fmean(finals) for _, finals in at]
    (joined,) = axes.plot([x for x, _ in at], means, color=look.colour, linewidth=look.width)
    for finals in (p.finals for p in points if p.value is None):
        joined = axes.axhline(fmean(finals), color=look.colour, linewidth=look.width, zorder=1.7)
        axes.axhspan(min(finals), max(finals), color=look.colour, alpha=0.08, linewidth=0)
    if look.dashes:
        joined.set_dashes(look.dashes)


def _dots(axes: Axes, x: float, finals: Sequence[float], look: Look) -> None:
    axes.plot(
        [x] * len(finals),
        finals,
        look.marker,
        color=look.colour,
        alpha=0.55,
        markersize=5,
        markeredgewidth=0,
    )


def _number(point: _Point) -> float | None:
    return float(point.value) if isinstance(point.value, int | float) else None


def _categories(
    axes: Axes, points: Sequence[_Point], looks: Mapping[Setting, Look]
) -> list[tuple[str, Look | None]]:
    """Give each value a column, in it each setting a place of its own, and a bar for its mean."""
    points = sorted(points, key=lambda p: p.group.jobs[0].run.folder.name)  # numbered
    values = list(dict.fromkeys(p.value for p in points))
    for column, value in enumerate(values):
        here = [p for p in points if p.value == value]
        for i, point in enumerate(here):
            x = column + 0.8 * ((i + 0.5) / len(here) - 0.5)
            look = looks[point.group.setting]
            half = min(0.12, 0.3 / len(here))
            _dots(axes, x, point.finals, look)
            mean = fmean(point.finals)
            axes.plot([x - half, x + half], [mean, mean], color=look.colour, linewidth=2.4)
    labels = [tidy.show(value) or "none" for value in values]
    axes.set_xticks(range(len(values)), labels)
    if sum(map(len, labels)) > 32:
        axes.tick_params(axis="x", rotation=20)
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.grid(axis="x", visible=False)
    if len(points) == len(values):  # the columns' own labels say it all
        return []
    return [(p.group.label, looks[p.group.setting]) for p in points]
