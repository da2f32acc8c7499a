"""Curves over training: mean over the seeds, with a band of one standard deviation around it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.lines import Line2D

from bptt_lab.commands.report import curves, panel
from bptt_lab.commands.report.curves import ALIGNMENT, GRADIENT_NORM
from bptt_lab.commands.report.panel import OTHERS, Picture, Styles, in_order, legend
from bptt_lab.commands.report.results import Group, Reference
from bptt_lab.commands.report.scores import LOSS, Ranking
from bptt_lab.training import style

MOST = 10  # settings told apart in one panel; more are drawn in grey
STEPS = "optimizer steps"


class Curve(NamedTuple):
    """One setting's curve over the steps."""

    label: str
    steps: Sequence[int]
    low: Any  # of the band, an array; as the middle where only one seed is
    middle: Any
    high: Any


def loss(ranking: Ranking, styles: Styles, path: Path) -> Picture | None:
    """Draw the loss on the validation split; None where none was logged."""
    return _validation(ranking, LOSS, styles, path)


def metric(ranking: Ranking, styles: Styles, path: Path) -> Picture | None:
    """Draw the task's own metric on the validation split; None where it has no other than loss."""
    return None if ranking.metric == LOSS else _validation(ranking, ranking.metric, styles, path)


def gradient_norm(ranking: Ranking, styles: Styles, path: Path) -> Picture | None:
    """Draw the norm of the whole gradient; None where nothing above zero was logged."""
    words = "gradient norm", "norm of the whole gradient"
    return _over_steps(ranking, GRADIENT_NORM, words, styles, path, geometric=True)


def alignment(ranking: Ranking, styles: Styles, path: Path) -> Picture | None:
    """Draw each inexact strategy's cosine with full BPTT; None where none was logged."""
    words = "alignment with full BPTT", "cosine of the two gradients"
    return _over_steps(ranking, ALIGNMENT, words, styles, path, [("full BPTT", 1.0)])


def _validation(ranking: Ranking, metric: str, styles: Styles, path: Path) -> Picture | None:
    title, ylabel = f"validation {metric.replace('_', ' ')}", f"validation {ranking.label(metric)}"
    levels = ranking.references(metric)
    return _over_steps(ranking, f"val/{metric}", (title, ylabel), styles, path, levels)


@style.styled
def _over_steps(
    ranking: Ranking,
    tag: str,
    words: tuple[str, str],
    styles: Styles,
    path: Path,
    references: Sequence[Reference] = (),
    *,
    geometric: bool = False,
) -> Picture | None:
    """Draw what was logged under a tag; `geometric`: mean and deviation are of the logarithms."""
    drawn = {
        group.values: curve
        for group in ranking.groups
        if (curve := _curve(group, tag, geometric)) is not None
    }
    if not drawn:
        return None
    title = f"{ranking.dataset}: {words[0]}"
    figure, axes = panel.new(title, STEPS, words[1])
    middles = np.concatenate([curve.middle for curve in drawn.values()])
    lowest, highest = float(middles.min()), float(middles.max())
    log = geometric or style.spans_decades((lowest, highest))
    if log:
        style.logarithmic(axes.yaxis, lowest, highest)
    told = in_order([*drawn][:MOST])
    for curve in (drawn[setting] for setting in drawn if setting not in told):
        axes.plot(curve.steps, curve.middle, zorder=1.8, **OTHERS.line())
    lines: dict[Line2D, Curve] = {}
    for curve, line in ((drawn[setting], styles[setting]) for setting in told):
        mark = line.marker if len(curve.steps) == 1 else ""
        (plotted,) = axes.plot(curve.steps, curve.middle, marker=mark, **line.line())
        lines[plotted] = curve
    for first, *_ in style.take_turns(lines):  # whose bands cover each other, too
        curve = lines[first]
        low = np.maximum(curve.low, lowest) if log else curve.low
        band: Any = {"color": first.get_color(), "alpha": 0.15, "linewidth": 0, "zorder": 1.9}
        axes.fill_between(curve.steps, low, curve.high, **band)
    panel.draw_references(axes, references)
    entries = [(drawn[setting].label, styles[setting]) for setting in told]
    if more := len(drawn) - len(told):
        entries.append((f"{more} more settings", OTHERS))
    legend(figure, entries, markers=False)
    style.save(figure, path)
    several = any(len(group.jobs) > 1 for group in ranking.groups if group.values in drawn)
    return Picture(path, f"{title} against {STEPS}" + ", mean and spread over seeds" * several)


def _curve(group: Group, tag: str, geometric: bool) -> Curve | None:
    """Return a setting's curve; None where it has none."""
    band_of = curves.log_band if geometric else curves.band
    band = band_of(job.curves.get(tag, {}) for job in group.jobs)
    if not band:
        return None
    mean, sd = np.array([(point.mean, point.sd or 0) for point in band]).T
    bounds = [mean - sd, mean, mean + sd]
    if geometric:
        bounds = [np.exp(np.minimum(each, 700)) for each in bounds]  # beyond, there is no more room
    return Curve(group.label, [point.step for point in band], *bounds)
