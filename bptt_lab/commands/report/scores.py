"""How well each setting of a dataset did: means and spreads over seeds, best first."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median_high
from typing import Any

from bptt_lab.commands.report.results import VAL_LOSS, Group, JobResult, Reference, SweepResults
from bptt_lab.config import signatures
from bptt_lab.core.validation import ConfigError

LOSS = "loss"
HIGHER_IS_BETTER = ("accuracy", "recall", "correlation", "score", "f1", "r2")
UNITS = {
    "cross_entropy": "nats",
    "binary_cross_entropy": "nats",
    "mse": "squared error",
    "softmax_mse": "squared error of the softmax",
}
Arrival = tuple[float | None, float | None]  # steps and seconds; None where never or not known


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
    losses = {_loss(job) for job in jobs if job.run.config}
    unit = UNITS.get(losses.pop(), "") if len(losses) == 1 else ""
    groups.sort(key=lambda group: place(metric, group.result(metric)))
    return Ranking(dataset, metric, unit, target, groups)


def place(metric: str, result: tuple[float, float | None] | None) -> tuple[int, float]:
    """Sort numbers, best first, before what is not finite, before what there is none of."""
    if result is None or not math.isfinite(result[0]):
        return (2 if result is None else 1, 0.0)
    return (0, -result[0] if higher_is_better(metric) else result[0])


def higher_is_better(metric: str) -> bool:
    """Whether more of a metric is better; of a loss, an error, a perplexity it is not."""
    return any(word in metric for word in HIGHER_IS_BETTER)


def _metric(jobs: Sequence[JobResult]) -> str:
    """Return the first metric beside the loss that the task reports of itself."""
    tags = [tag.partition("/") for job in jobs for tag in job.metrics]
    names = [name for stage, _, name in tags if stage == "test"]
    references = [name for job in jobs for v in job.run.references.values() for name in v]
    known = [name for name in (*references, *names) if name != LOSS and name in names]
    return known[0] if known else LOSS


def _loss(job: JobResult) -> str:
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
