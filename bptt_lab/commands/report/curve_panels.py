"""Curves over training: mean over the seeds, with a band of one standard deviation around it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from bptt_lab.commands.report import curves, panel
from bptt_lab.commands.report.curves import ALIGNMENT, GRADIENT_NORM
from bptt_lab.commands.report.line_styles import OTHERS, Styles, in_order, legend
from bptt_lab.commands.report.panel import Picture
from bptt_lab.commands.report.scores import LOSS, Ranking, Reference
from bptt_lab.commands.report.settings import SweptValues
from bptt_lab.training import style

MOST = 10  # settings told apart in one panel; more are drawn in grey
STEPS = "optimizer steps"


Seen = tuple[tuple[int, str], ...]


class Curve(NamedTuple):
    """One setting's curve over the steps."""

    label: str
    steps: Sequence[int]
    middle: Sequence[float]
    low: Sequence[float]  # of the band; as the middle where only one seed is
    high: Sequence[float]

    @property
    def shown(self) -> Seen:
        """What one can see of it: two curves with the same cover each other."""
        return tuple((s, f"{m:.3g}") for s, m in zip(self.steps, self.middle, strict=True))


Curves = Mapping[SweptValues, Curve]
Alike = Mapping[Seen, Sequence[SweptValues]]  # settings whose curves cover each other


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
    drawn = _curves(ranking, tag, geometric)
    if not drawn:
        return None
    title = f"{ranking.dataset}: {words[0]}"
    figure, axes = panel.new(title, STEPS, words[1])
    middles = [value for curve in drawn.values() for value in curve.middle]
    lowest, highest = min(middles), max(middles)
    if geometric or style.spans_decades((lowest, highest)):
        style.logarithmic(axes.yaxis, lowest, highest)
    alike = _alike(drawn)
    _draw(axes, drawn, styles, alike, lowest)
    panel.draw_references(axes, references)
    told = in_order(list(drawn)[:MOST])
    entries = [(drawn[setting].label, styles[setting]) for setting in told]
    if more := len(drawn) - len(told):
        entries.append((f"{more} more settings", OTHERS))
    legend(figure, entries, markers=False)
    style.save(figure, path)
    alt = f"{title} against {STEPS}, mean and spread over seeds"
    return Picture(path, alt, _coincide(drawn, alike))


def _curves(ranking: Ranking, tag: str, geometric: bool) -> Curves:
    """Return the curve of each setting that has any, best setting first."""
    band_of = curves.log_band if geometric else curves.band
    shown = _exp if geometric else float
    found = {}
    for score in ranking.scores:
        logged = (job.curves.get(tag) for job in score.group.jobs)
        band = band_of([points for points in logged if points])
        if band:
            found[score.group.values] = Curve(
                score.group.label,
                [b.step for b in band],
                [shown(b.mean) for b in band],
                [shown(b.mean - (b.sd or 0)) for b in band],
                [shown(b.mean + (b.sd or 0)) for b in band],
            )
    return found


def _draw(axes: Axes, drawn: Curves, styles: Styles, alike: Alike, lowest: float) -> None:
    log, lines = axes.get_yscale() == "log", []
    for setting, curve in drawn.items():
        same = alike.get(curve.shown, [])
        if setting not in same:
            axes.plot(curve.steps, curve.middle, zorder=1.8, **OTHERS.line())
            continue
        line = styles[setting]
        lines += axes.plot(curve.steps, curve.middle, **line.line())
        if len(curve.steps) == 1:
            lines[-1].set_marker(line.marker)
        if setting == same[0]:
            low = [max(v, lowest) for v in curve.low] if log else curve.low
            band: Any = {"color": line.colour, "alpha": 0.15, "linewidth": 0, "zorder": 1.9}
            axes.fill_between(curve.steps, low, curve.high, **band)
    style.take_turns(lines)


def _alike(drawn: Curves) -> Alike:
    alike: dict[Seen, list[SweptValues]] = {}
    for setting in list(drawn)[:MOST]:
        alike.setdefault(drawn[setting].shown, []).append(setting)
    return alike


def _coincide(drawn: Curves, alike: Alike) -> str:
    """Name the settings whose curves cover each other."""
    parts = []
    for same in alike.values():
        labels = [drawn[setting].label for setting in in_order(same)]
        if len(labels) > 4:
            labels[3:] = [f"{len(labels) - 3} more"]
        if len(labels) > 1:
            parts.append("; ".join(labels))
    return f"On top of one another: {'. Also: '.join(parts)}." if parts else ""


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))  # beyond, a double has no more room
