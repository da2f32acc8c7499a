"""How well each setting of a dataset did: means and spreads over seeds, best first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median_high
from typing import Any

from bptt_lab.commands.report import curves
from bptt_lab.commands.report.curves import ALIGNMENT, VAL_LOSS, Points
from bptt_lab.commands.report.results import Group, JobResult, SweepResults
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
Reference = tuple[str, float]  # "chance", 0.1
Arrival = tuple[float | None, float | None]  # steps and seconds; None where never or not known


@dataclass(frozen=True)
class Score:
    """What one setting reached."""

    group: Group
    completed: int
    metric: tuple[float, float | None] | None  # mean and sd over the completed jobs
    loss: tuple[float, float | None] | None
    seconds: float | None  # means over the completed jobs
    steps: float | None
    alignment: float | None  # cosine with full BPTT, mean over the measurements of all jobs
    references: Sequence[Reference]  # of the metric
    arrivals: Sequence[Arrival]  # at the target loss, of each job that has a validation loss


@dataclass(frozen=True)
class Ranking:
    """One dataset's settings, best first, and what belongs to all of them."""

    dataset: str
    metric: str  # the task's own, such as "accuracy"; "loss" where it has no other
    loss_unit: str
    target: float | None
    scores: Sequence[Score]

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
        for score in self.scores:
            for name, level in references(score.group, metric):
                by_name.setdefault(name, []).append(level)
        return [
            (name, fmean(levels))
            for name, levels in by_name.items()
            if math.isclose(min(levels), max(levels), rel_tol=0.02)
        ]


def rank(sweep: SweepResults, dataset: str, target_loss: float | None) -> Ranking:
    """Rank a dataset's settings."""
    groups = sweep.groups(dataset)
    jobs = [job for group in groups for job in group.jobs]
    metric = _metric(jobs)
    target = target_loss if target_loss is not None else _target(groups)
    scores = [_score(group, metric, target) for group in groups]
    scores.sort(key=lambda score: _sort_key(score, metric))
    losses = {_loss(job) for job in jobs if job.run.config}
    unit = UNITS.get(losses.pop(), "") if len(losses) == 1 else ""
    return Ranking(dataset, metric, unit, target, scores)


def higher_is_better(metric: str) -> bool:
    """Whether more of a metric is better; of a loss, an error, a perplexity it is not."""
    return any(word in metric for word in HIGHER_IS_BETTER)


def final(job: JobResult, metric: str) -> float | None:
    """Return a completed job's value on the test split."""
    return job.metrics.get(f"test/{metric}") if job.run.status == "completed" else None


def references(group: Group, metric: str) -> list[Reference]:
    """Return what the task says of a metric, mean over the seeds, whose data may differ."""
    by_name: dict[str, list[float]] = {}
    for job in group.jobs:
        for name, values in job.run.references.items():
            level = curves.drawable(values.get(metric, math.nan))
            if math.isfinite(level):
                by_name.setdefault(name, []).append(level)
    return [(name, fmean(levels)) for name, levels in by_name.items()]


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
    lowest = []
    chance = [level for group in groups for _, level in references(group, LOSS)[:1]]
    for group in groups:
        points = [job.curves.get(VAL_LOSS) for job in group.jobs]
        reached = [min(values.values()) for values in points if values]
        if reached:
            lowest.append(max(reached))
    # One setting alone would be measured by itself.
    return min([median_high(lowest), *chance]) if len(lowest) > 1 else None


def _score(group: Group, metric: str, target: float | None) -> Score:
    def over_seeds(name: str) -> tuple[float, float | None] | None:
        values = [value for job in group.jobs if (value := final(job, name)) is not None]
        return curves.mean_sd(values) if values else None

    done = [job.run for job in group.jobs if job.run.status == "completed"]
    seconds = [run.seconds for run in done if run.seconds is not None]
    steps = [run.steps for run in done if run.steps is not None]
    cosines = [v for job in group.jobs for v in job.curves.get(ALIGNMENT, {}).values()]
    arrivals = [
        _arrival(job, points, target)
        for job in group.jobs
        if target is not None and (points := job.curves.get(VAL_LOSS))
    ]
    return Score(
        group,
        len(done),
        over_seeds(metric),
        over_seeds(LOSS),
        fmean(seconds) if seconds else None,
        fmean(steps) if steps else None,
        fmean(cosines) if cosines else None,
        references(group, metric),
        arrivals,
    )


def _arrival(job: JobResult, points: Points, target: float) -> Arrival:
    """Return steps and seconds to the target; seconds by the run's own mean pace."""
    step = next((step for step, value in points.items() if value <= target), None)
    if step is None or not job.run.seconds or not job.run.steps:
        return step, None
    return step, job.run.seconds * step / job.run.steps


def _sort_key(score: Score, metric: str) -> tuple[int, float]:
    """Sort numbers, best first, before what is not finite, before what there is none of."""
    if score.metric is None:
        return (2, 0.0)
    mean = score.metric[0]
    if not math.isfinite(mean):
        return (1, 0.0)
    return (0, -mean if higher_is_better(metric) else mean)
