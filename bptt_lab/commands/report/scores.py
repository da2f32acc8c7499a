"""How well each setting of a dataset did: means and spreads over seeds, best first, and a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median_high
from typing import Any, NamedTuple

from bptt_lab.commands.report.results import (
    ALIGNMENT,
    VAL_LOSS,
    Group,
    JobResult,
    Reference,
    SweepResults,
)
from bptt_lab.commands.report.settings import SweptValues
from bptt_lab.config import signatures
from bptt_lab.core.messages import rounded
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs.sweep import higher_is_better

LOSS = "loss"
UNITS = {
    "cross_entropy": "nats",
    "binary_cross_entropy": "nats",
    "mse": "squared error",
    "softmax_mse": "squared error of the softmax",
}
Arrival = tuple[float | None, float | None]  # steps and seconds; None where never or not known


class ScoreRow(NamedTuple):
    """A setting, or a reference: what a trivial predictor, or a known floor, reaches."""

    name: str
    setting: SweptValues | None  # None for a reference
    cells: Sequence[str]


@dataclass(frozen=True)
class Ranking:
    """One dataset's settings, best first, and what belongs to all of them."""

    dataset: str
    metric: str  # the task's own, such as "accuracy"; "loss" where it has no other
    loss_unit: str
    target: float | None
    groups: Sequence[Group]

    @property
    def metrics(self) -> list[str]:
        """The task's own metric, and the loss."""
        return list(dict.fromkeys((self.metric, LOSS)))

    def label(self, metric: str) -> str:
        """Name a metric with its unit."""
        words = metric.replace("_", " ")
        return f"{words} ({self.loss_unit})" if metric == LOSS and self.loss_unit else words

    def references(self, metric: str) -> list[Reference]:
        """Return what trivial predictors and floors reach, where all settings have the same."""
        by_name: dict[str, list[float]] = {}
        for group in self.groups:
            for name, level in group.references(metric):
                by_name.setdefault(name, []).append(level)
        return [
            (name, fmean(levels))
            for name, levels in by_name.items()
            if math.isclose(min(levels), max(levels), rel_tol=0.02)
        ]

    def arrivals(self, group: Group) -> list[Arrival]:
        """Return when each job got to the target loss; seconds by the run's own mean pace.

        Jobs without a validation loss are left out.
        """
        found: list[Arrival] = []
        for run, points in ((job.run, job.curves.get(VAL_LOSS)) for job in group.jobs):
            if self.target is not None and points:
                step = next((step for step, loss in points.items() if loss <= self.target), None)
                pace = run.seconds / run.steps if run.seconds and run.steps else None
                found.append((step, None if step is None or pace is None else step * pace))
        return found


def rank(sweep: SweepResults, dataset: str, target_loss: float | None) -> Ranking:
    """Rank a dataset's settings."""
    groups = sweep.groups(dataset)
    jobs = [job for group in groups for job in group.jobs]
    metric = _metric(jobs)
    target = target_loss if target_loss is not None else _target(groups)
    losses = {loss_name(job) for job in jobs if job.run.config}
    unit = UNITS.get(losses.pop(), "") if len(losses) == 1 else ""
    groups.sort(key=lambda group: place(metric, group.result(metric)))
    return Ranking(dataset, metric, unit, target, groups)


def place(metric: str, result: tuple[float, float | None] | None) -> tuple[int, float]:
    """Sort numbers, best first, before what is not finite, before what there is none of."""
    if result is None or not math.isfinite(result[0]):
        return (2 if result is None else 1, 0.0)
    return (0, -result[0] if higher_is_better(metric) else result[0])


def _metric(jobs: Sequence[JobResult]) -> str:
    """Return the first metric beside the loss that the task reports of itself."""
    tags = [tag.partition("/") for job in jobs for tag in job.metrics]
    names = [name for stage, _, name in tags if stage == "test"]
    references = [name for job in jobs for v in job.run.references.values() for name in v]
    known = [name for name in (*references, *names) if name != LOSS and name in names]
    return known[0] if known else LOSS


def loss_name(job: JobResult) -> str:
    """Name the job's loss: a setting of some tasks, a fixed literal of the others' classes."""
    dataset: Mapping[str, Any] = job.run.config.get("dataset", {})
    if "loss" in dataset:
        return str(dataset["loss"])
    try:
        return str(signatures.read(dataset.get("_target_", "")).claims.get("loss"))
    except ConfigError:  # a class that is not installed here
        return ""


def _target(groups: Sequence[Group]) -> float | None:
    """Return a loss that about half of the settings reach with all their seeds, or chance's."""
    chance = [level for group in groups for _, level in group.references(LOSS)[:1]]
    lowest = []
    for group in groups:
        points = [job.curves[VAL_LOSS] for job in group.jobs if VAL_LOSS in job.curves]
        if points:
            lowest.append(max(min(values.values()) for values in points))
    # One setting alone would be measured by itself.
    return min([median_high(lowest), *chance]) if len(lowest) > 1 else None


def spread(result: tuple[float, float | None] | None) -> str:
    """Write a mean and, where there is one, its standard deviation."""
    if result is None:
        return ""
    mean, sd = result
    return rounded(mean) + ("" if sd is None or math.isnan(sd) else f" ± {rounded(sd)}")


def table(ranking: Ranking) -> tuple[list[str], list[ScoreRow]]:
    """Return a dataset's heads and rows; columns that would be empty are left out."""
    cells = [_cells(ranking, group) for group in ranking.groups]
    heads = [head for head in cells[0] if any(row[head] for row in cells)]
    rows = []
    for group, row in zip(ranking.groups, cells, strict=True):
        shown = [row[head] for head in heads]
        result = group.result(ranking.metric)
        rows.append((result, ScoreRow(group.label, group.values, shown)))
    levels = {
        _head(ranking, metric): dict(ranking.references(metric)) for metric in ranking.metrics
    }
    own = levels[_head(ranking, ranking.metric)]
    for name in dict.fromkeys(name for known in levels.values() for name in known):
        found = [levels.get(head, {}).get(name) for head in heads]
        shown = ["" if level is None else rounded(level) for level in found]
        rows.append(((own[name], None) if name in own else None, ScoreRow(name, None, shown)))
    rows.sort(key=lambda row: place(ranking.metric, row[0]))
    return heads, [row for _, row in rows]


def _head(ranking: Ranking, metric: str) -> str:
    return f"test {ranking.label(metric)}"


def _cells(ranking: Ranking, group: Group) -> dict[str, str]:
    """Return what the table says of a setting, by the heads of the columns."""

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return fmean(known) if known else None

    runs, jobs = [job.run for job in group.done], len(group.jobs)
    cells = {"seeds": str(jobs) if len(runs) == jobs else f"{len(runs)} of {jobs}"}
    for metric in ranking.metrics:
        cells[_head(ranking, metric)] = spread(group.result(metric))
    common = dict(ranking.references(ranking.metric))
    apart = [
        f"{name} {rounded(at)}"
        for name, at in group.references(ranking.metric)
        if name not in common
    ]
    seconds, steps = mean([run.seconds for run in runs]), mean([run.steps for run in runs])
    cosine = mean([v for job in group.jobs for v in job.curves.get(ALIGNMENT, {}).values()])
    return cells | {
        f"references, {ranking.metric.replace('_', ' ')}": "\n".join(apart),
        "mean cosine with full BPTT": "" if cosine is None else rounded(cosine),
        "seconds": "" if seconds is None else f"{seconds:.1f}",
        "steps": "" if steps is None else f"{steps:.0f}",
        "ms a step": f"{1000 * seconds / steps:.2f}" if seconds and steps else "",
        f"steps to val loss {ranking.target or 0:.4g}": _arrivals(ranking, group),
    }


def _arrivals(ranking: Ranking, group: Group) -> str:
    steps = [step for step, _ in ranking.arrivals(group)]
    reached = [step for step in steps if step is not None]
    if not reached:
        return "not reached" if steps else ""
    of = "" if len(reached) == len(steps) else f" ({len(reached)} of {len(steps)})"
    return f"{fmean(reached):.0f}{of}"
