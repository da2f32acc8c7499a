"""The panels of the report, each of one dataset: over training, against a key, to a target loss.

A curve is the mean over the seeds, with a band of one standard deviation around it. Where numbers
are no axis, each setting has a row, with a dot a seed and a bar for their mean.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bptt_lab.commands.report import panel, results
from bptt_lab.commands.report.panel import (
    LEVEL,
    OTHERS,
    Picture,
    Styles,
    in_order,
    line_styles,
)
from bptt_lab.commands.report.results import ALIGNMENT, GRADIENT_NORM, Group
from bptt_lab.commands.report.scores import LOSS, Ranking
from bptt_lab.commands.report.settings import SweptValues, Value
from bptt_lab.training import naming, style
from bptt_lab.training.style import LineStyle

MOST_CURVES = 10  # told apart in one panel; more are drawn in grey
MOST_BANDS = 5  # in one panel; more would cover each other
MOST_NAMES = 24
MOST_TICKS = 8  # values that each have a label on the axis
MOST_ROWS = 20
ROOM = 38  # letters along an axis, or in a line of a row's label
STEPS = "optimizer steps"
UNITS = {"steps": STEPS, "seconds": "seconds of training"}
TITLES = {
    GRADIENT_NORM: ("gradient norm", "norm of the whole gradient"),
    ALIGNMENT: ("alignment with full BPTT", "cosine of the two gradients"),
}
Row = tuple[str, Sequence[float], LineStyle, str]  # label, values, style, note at the right


class _Point(NamedTuple):
    """One setting's final values, at its value of the key."""

    value: Value
    finals: Sequence[float]
    group: Group


@style.styled
def over_training(tag: str, ranking: Ranking, styles: Styles, path: Path) -> Picture | None:
    """Draw what was logged under a tag, val/... or one of TITLES; None where nothing was."""
    metric = tag.removeprefix("val/")
    title, ylabel = TITLES.get(tag) or (
        f"validation {metric.replace('_', ' ')}",
        f"validation {ranking.label(metric)}",
    )
    levels = [("full BPTT", 1.0)] if tag == ALIGNMENT else ranking.references(metric)
    found = {group.values: _curve(group, tag) for group in ranking.groups}
    drawn = {setting: curve for setting, curve in found.items() if curve is not None}
    if not drawn:
        return None
    title = f"{ranking.dataset}: {title}"
    figure, axes = panel.new(title, STEPS, ylabel)
    middles = np.concatenate([middle for _, _, middle, _ in drawn.values()])
    lowest, highest = float(middles.min()), float(middles.max())
    log = tag == GRADIENT_NORM or style.spans_decades((lowest, highest))
    if log:
        style.logarithmic(axes.yaxis, lowest, highest)
    told = in_order([*drawn][:MOST_CURVES])
    labels = {group.values: group.label for group in ranking.groups}
    others = [drawn[setting] for setting in drawn if setting not in told]
    for number, (steps, _, middle, _) in enumerate(others):
        name = "_" if number else f"{len(others)} more, grey"
        axes.plot(steps, middle, zorder=1.8, label=name, **OTHERS.line())
    lines: dict[Line2D, SweptValues] = {}
    for setting in told:
        (steps, _, middle, _), line = drawn[setting], styles[setting]
        mark = line.marker if len(steps) == 1 else ""
        (plotted,) = axes.plot(steps, middle, marker=mark, label=labels[setting], **line.line())
        lines[plotted] = setting
    alike = style.take_turns(lines)
    banded = alike if len(alike) <= MOST_BANDS else []
    for first, *_ in banded:
        steps, low, _, high = drawn[lines[first]]
        low = np.maximum(low, lowest) if log else low
        band: Any = {"color": first.get_color(), "alpha": 0.15, "linewidth": 0, "zorder": 1.9}
        axes.fill_between(steps, low, high, **band)
    panel.draw_references(axes, levels)
    naming.name(axes)
    style.save(figure, path)
    several = any(len(group.jobs) > 1 for group in ranking.groups if group.values in drawn)
    shown = f", mean{' and spread' if banded else ''} over seeds" if several else ""
    return Picture(path, f"{title} against {STEPS}{shown}")


def own_metric(ranking: Ranking, styles: Styles, path: Path) -> Picture | None:
    """Draw the task's own metric over training; None where it has no other than loss."""
    tag = f"val/{ranking.metric}"
    return None if ranking.metric == LOSS else over_training(tag, ranking, styles, path)


def _curve(group: Group, tag: str) -> Sequence[Any] | None:
    """Return a setting's steps, low, middle and high as arrays; None where it has none.

    Mean and deviation of a gradient's norm are those of the logarithms.
    """
    geometric = tag == GRADIENT_NORM
    band_of = results.log_band if geometric else results.band
    band = band_of(job.curves.get(tag, {}) for job in group.jobs)
    if not band:
        return None
    steps, mean, sd = np.array([(point.step, point.mean, point.sd or 0) for point in band]).T
    bounds = [mean - sd, mean, mean + sd]
    if geometric:
        bounds = [np.exp(np.minimum(each, 700)) for each in bounds]  # beyond, there is no more room
    return steps, *bounds


@style.styled
def against(
    keys: Sequence[str], key: str, ranking: Ranking, styles: Styles, path: Path
) -> Picture | None:
    """Draw the final metric against a swept key; None where it does not vary or nothing completed.

    Numbers are the axis, logarithmic where they span decades; settings without the key, such as
    full BPTT without a k, are level lines. With other values each setting has a row.
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
    shown, name = results.short(key, ROOM), f"test {ranking.label(ranking.metric)}"
    title = f"{ranking.dataset}: test {ranking.metric.replace('_', ' ')} against {shown}"
    levels = ranking.references(ranking.metric)
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values - {None}):
        points.sort(key=lambda p: [results.order(value) for value in (p.value, *p.group.values)])
        rows: list[Row] = [(p.group.label, p.finals, styles[p.group.values], "") for p in points]
        more = f"{len(rows) - MOST_ROWS} more settings"
        rows[MOST_ROWS:] = [(more, (), OTHERS, "")] * (len(rows) > MOST_ROWS)
        rows += [(reference, [level], LEVEL, "") for reference, level in levels]
        return _draw_rows(title, name, rows, path)
    figure, axes = panel.new(title, shown, name)
    finals = [v for point in points for v in point.finals]
    if style.spans_decades(finals):
        style.logarithmic(axes.yaxis, min(finals), max(finals))
    _draw_points(axes, points, keys, place)
    panel.draw_references(axes, levels)
    naming.name(axes)
    style.save(figure, path)
    return Picture(path, title)


def _draw_points(axes: Axes, points: Sequence[_Point], keys: Sequence[str], place: int) -> None:
    """Join the means of settings that differ in the key only."""
    numbers = sorted({float(p.value) for p in points if p.value is not None})
    if numbers[0] > 0 and numbers[-1] / numbers[0] >= 8:
        style.logarithmic(axes.xaxis, numbers[0], numbers[-1])
    if len(numbers) <= MOST_TICKS:
        style.tick_at(axes.xaxis, numbers)
    series: dict[SweptValues, list[_Point]] = {}
    for point in points:
        rest = (*point.group.values[:place], None, *point.group.values[place + 1 :])
        series.setdefault(rest, []).append(point)
    strategy_of = {rest: line[0].group.strategy for rest, line in series.items()}
    if len(series) > MOST_NAMES:  # as in a random search: only strategies can be told apart
        plain = {name: LineStyle(style.colour(name)) for name in sorted({*strategy_of.values()})}
        styles: Styles = {rest: plain[name] for rest, name in strategy_of.items()}
        first = {name: rest for rest, name in reversed(strategy_of.items())}
        labels = {rest: name for name, rest in first.items()}
    else:
        styles = line_styles(keys, strategy_of)
        labels = {rest: results.describe(keys, rest) or strategy_of[rest] for rest in series}
    for rest in in_order(series):
        _draw_line(axes, series[rest], styles[rest], labels.get(rest, "_"))
    style.take_turns(axes.lines)


def _draw_line(axes: Axes, points: Sequence[_Point], line: LineStyle, label: str) -> None:
    """Draw the dots and the joined means of one series; level lines for those without the key."""
    at = sorted((float(p.value), p.finals) for p in points if p.value is not None)
    for x, finals in at:
        axes.plot([x] * len(finals), finals, line.marker, **line.dots())
    if at:
        means = [fmean(finals) for _, finals in at]
        axes.plot([x for x, _ in at], means, label=label, **line.line())
    for finals in (p.finals for p in points if p.value is None):
        axes.axhline(fmean(finals), zorder=1.7, label="_" if at else label, **line.line())
        axes.axhspan(min(finals), max(finals), color=line.colour, alpha=0.08, linewidth=0)


@style.styled
def to_target(unit: str, ranking: Ranking, styles: Styles, path: Path) -> Picture | None:
    """Draw the time to the target loss in one of UNITS; None where no one got there."""
    place = [*UNITS].index(unit)
    rows: list[Row] = []
    for group in ranking.groups:
        arrivals = [arrival[place] for arrival in ranking.arrivals(group)]
        reached = [time for time in arrivals if time is not None]
        some = f"{len(reached)} of {len(arrivals)} seeds" if reached else "not reached"
        note = some if len(reached) < len(arrivals) else ""
        if arrivals:
            rows.append((group.label, reached, styles[group.values], note))
    if not any(reached for _, reached, _, _ in rows):
        return None
    rows.sort(key=lambda row: fmean(row[1]) if row[1] else math.inf)
    title = f"{ranking.dataset}: {unit} to a validation loss of {ranking.target:.4g}"
    return _draw_rows(title, UNITS[unit], rows[:MOST_ROWS], path)


def _draw_rows(title: str, xlabel: str, rows: Sequence[Row], path: Path) -> Picture:
    figure, axes = panel.new(title, xlabel, "", height=1.3 + 0.27 * len(rows))
    axes.set_yticks(range(len(rows)), [style.wrapped(label, ROOM, 2) for label, *_ in rows])
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=5)
    everything = [value for _, values, _, _ in rows for value in values]
    if style.spans_decades(everything):
        style.logarithmic(axes.xaxis, min(everything), max(everything))
    for y, (_, values, line, note) in enumerate(rows):
        axes.plot(values, [y] * len(values), line.marker, **line.dots())
        if values:
            bar: Any = {"markersize": 13, "markeredgewidth": 2.4, "zorder": 4}
            axes.plot(fmean(values), y, "|", color=line.colour, **bar)
        axes.text(1.01, y, note, transform=axes.get_yaxis_transform(), fontsize=9, va="center")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    style.save(figure, path)
    return Picture(path, title)
