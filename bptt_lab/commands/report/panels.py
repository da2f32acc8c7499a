"""The panels of one dataset: learning curves, gradient norms, each swept key, time to a target."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes

from bptt_lab.commands.report import canvas, curves
from bptt_lab.commands.report.canvas import Picture
from bptt_lab.commands.report.curves import Band, Points
from bptt_lab.commands.report.palette import Look
from bptt_lab.commands.report.scores import ALIGNMENT, GRADIENT_NORM, Score, Standing
from bptt_lab.commands.report.tidy import Setting

MOST = 10  # settings told apart in one panel; more are drawn in grey
STEPS = "optimizer steps"
Looks = Mapping[Setting, Look]
Edges = tuple[tuple[float, float], ...]  # of a band, at every step


@canvas.styled
def learning_curve(standing: Standing, metric: str, looks: Looks, path: Path) -> Picture | None:
    """Draw a metric on the validation split over the steps; None where nothing was logged."""
    data = _curves(standing, f"val/{metric}")
    if not data:
        return None
    title = f"{standing.dataset}: validation {metric.replace('_', ' ')}"
    figure, axes = canvas.new(title, STEPS, f"validation {standing.label(metric)}")
    everything = [v for _, seeds in data for points in seeds for v in points.values()]
    if canvas.spans_decades(everything):
        canvas.logarithmic(axes.yaxis, min(everything), max(everything))
    log = axes.get_yscale() == "log"
    low = min(everything) if log else -math.inf  # there, mean - sd may be below zero
    drawn: set[Edges] = set()
    for score, seeds in data:
        band = curves.band(seeds)
        edges = tuple((max(b.mean - (b.sd or 0), low), b.mean + (b.sd or 0)) for b in band)
        _draw(axes, band, [b.mean for b in band], edges, _look(score, data, looks), drawn)
    canvas.draw_references(axes, standing.references(metric))
    canvas.legend(figure, _legend(data, looks), markers=False)
    canvas.save(figure, path)
    return Picture(path, f"{title} against {STEPS}, mean and spread over seeds", _coincide(data))


@canvas.styled
def gradient_norms(standing: Standing, looks: Looks, path: Path) -> Picture | None:
    """Draw the norm of the whole gradient over the steps; None where nothing above zero was."""
    data = _curves(standing, GRADIENT_NORM)
    bands = [(score, seeds, band) for score, seeds in data if (band := curves.log_band(seeds))]
    if not bands:
        return None
    title = f"{standing.dataset}: gradient norm"
    figure, axes = canvas.new(title, STEPS, "norm of the whole gradient")
    drawn: set[Edges] = set()
    for score, _, band in bands:
        edges = tuple((_exp(b.mean - (b.sd or 0)), _exp(b.mean + (b.sd or 0))) for b in band)
        _draw(axes, band, [_exp(b.mean) for b in band], edges, _look(score, data, looks), drawn)
    means = [_exp(b.mean) for *_, band in bands for b in band]
    canvas.logarithmic(axes.yaxis, min(means), max(means))
    canvas.legend(figure, _legend(data, looks), markers=False)
    canvas.save(figure, path)
    return Picture(path, f"{title} against {STEPS}, on a logarithmic axis")


@canvas.styled
def alignment(standing: Standing, looks: Looks, path: Path) -> Picture | None:
    """Draw each inexact strategy's cosine with full BPTT; None where none was logged."""
    data = _curves(standing, ALIGNMENT)
    if not data:
        return None
    title = f"{standing.dataset}: alignment with full BPTT"
    figure, axes = canvas.new(title, STEPS, "cosine of the two gradients")
    drawn: set[Edges] = set()
    for score, seeds in data:
        band = curves.band(seeds)
        edges = tuple((b.mean - (b.sd or 0), b.mean + (b.sd or 0)) for b in band)
        _draw(axes, band, [b.mean for b in band], edges, _look(score, data, looks), drawn)
    axes.set_ylim(top=1.02)
    canvas.legend(figure, _legend(data, looks), markers=False)
    canvas.save(figure, path)
    return Picture(path, f"{title} against {STEPS}, 1 where they agree", _coincide(data))


@canvas.styled
def arrivals(standing: Standing, unit: int, looks: Looks, path: Path) -> Picture | None:
    """Draw how long each setting took to the target loss; None where no one got there.

    Args:
        standing: the dataset's.
        unit: 0 for steps, 1 for seconds.
        looks: of the settings.
        path: where to write.
    """
    reached = {
        score.group.setting: [float(a) for pair in score.arrivals if (a := pair[unit]) is not None]
        for score in standing.scores
        if score.arrivals
    }
    if not any(reached.values()):
        return None
    means = {setting: fmean(values) for setting, values in reached.items() if values}
    begun = [score for score in standing.scores if score.arrivals]
    scores = sorted(begun, key=lambda s: means.get(s.group.setting, math.inf))[: 2 * MOST]
    what = (STEPS, "seconds of training")[unit]
    name = ("Steps", "Seconds")[unit]
    title = f"{standing.dataset}: {name.lower()} to a validation loss of {standing.target:.4g}"
    figure, axes = canvas.new(title, what, "", height=1.3 + 0.27 * len(scores))
    axes.set_yticks(range(len(scores)), [score.group.label for score in scores])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    everything = [value for values in reached.values() for value in values]
    if canvas.spans_decades(everything):
        canvas.logarithmic(axes.xaxis, min(everything), max(everything))
    else:
        axes.set_xlim(0, max(everything) * 1.05 or 1)
    for y, score in enumerate(scores):
        setting, jobs = score.group.setting, len(score.arrivals)
        look, values = looks[setting], reached[setting]
        if setting in means:
            _dots(axes, values, [y] * len(values), look)
            _mean(axes, means[setting], y, look, "|")
        if len(values) < jobs:
            axes.text(
                1.01,
                y,
                "not reached" if not values else f"{len(values)} of {jobs} seeds",
                transform=axes.get_yaxis_transform(),
                fontsize=8,
                color="#666666",
                va="center",
            )
    axes.set_ylim(len(scores) - 0.5, -0.5)
    canvas.save(figure, path)
    return Picture(path, title)


def _curves(standing: Standing, tag: str) -> list[tuple[Score, list[Points]]]:
    """Return the seeds' curves of each setting that has any, best setting first."""
    data = []
    for score in standing.scores:
        logged = (standing.curves[job.run.folder].get(tag) for job in score.group.jobs)
        if seeds := [points for points in logged if points]:
            data.append((score, seeds))
    return data


def _look(score: Score, data: Sequence[tuple[Score, list[Points]]], looks: Looks) -> Look | None:
    shown = [s.group.setting for s, _ in data[:MOST]]
    return looks[score.group.setting] if score.group.setting in shown else None


def _legend(
    data: Sequence[tuple[Score, list[Points]]], looks: Looks
) -> list[tuple[str, Look | None]]:
    entries: list[tuple[str, Look | None]] = [
        (score.group.label, looks[score.group.setting]) for score, _ in data[:MOST]
    ]
    if len(data) > MOST:
        entries.append((f"{len(data) - MOST} more settings", None))
    return entries


def _draw(
    axes: Axes,
    band: Sequence[Band],
    middle: Sequence[float],
    edges: Edges,
    look: Look | None,
    drawn: set[Edges],
) -> None:
    """Draw a curve, and its band unless another curve's lies there already."""
    steps = [b.step for b in band]
    if look is None:
        axes.plot(steps, middle, color=canvas.OTHERS, linewidth=1.2, zorder=1.8)
        return
    # Wide lines first: narrower ones that say the same then show on top of them.
    order = 3 - look.width / 10
    (line,) = axes.plot(steps, middle, color=look.colour, linewidth=look.width, zorder=order)
    if look.dashes:
        line.set_dashes(look.dashes)
    if len(steps) == 1:
        line.set_marker(look.marker)
    if any(b.sd for b in band) and edges not in drawn:
        drawn.add(edges)
        lows, highs = zip(*edges, strict=True)
        axes.fill_between(
            steps, lows, highs, color=look.colour, alpha=0.15, linewidth=0, zorder=1.9
        )


def _dots(axes: Axes, xs: Sequence[float], ys: Sequence[float], look: Look) -> None:
    axes.plot(xs, ys, look.marker, color=look.colour, markersize=5, alpha=0.55, markeredgewidth=0)


def _mean(axes: Axes, x: float, y: float, look: Look, marker: str) -> None:
    axes.plot([x], [y], marker, color=look.colour, markersize=13, markeredgewidth=2.4, zorder=4)


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))  # beyond, a double has no more room


def _coincide(data: Sequence[tuple[Score, list[Points]]]) -> str:
    """Name the settings whose mean curves are the same, so that no one misses a hidden one."""
    same: dict[tuple[tuple[int, str], ...], list[str]] = {}
    for score, seeds in data[:MOST]:
        key = tuple((b.step, f"{b.mean:.3g}") for b in curves.band(seeds))
        same.setdefault(key, []).append(score.group.label)
    return _sentence(labels for labels in same.values() if len(labels) > 1)


def _sentence(sets: Iterable[Sequence[str]]) -> str:
    parts = []
    for labels in sets:
        more = [f"{len(labels) - 3} more"] if len(labels) > 4 else []
        parts.append("; ".join([*(labels[:3] if more else labels), *more]))
    return f"On top of one another: {'. Also: '.join(parts)}." if parts else ""
