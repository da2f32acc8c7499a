"""What metrics.jsonl says over a run's steps, and its mean and spread over the seeds."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bptt_lab import runs

Points = Mapping[int, float]  # value by step, finite ones only, steps rising


class Band(NamedTuple):
    """One point of a curve over several seeds."""

    step: int
    mean: float
    sd: float | None  # None where only one seed got there


def read(folder: Path, tags: Collection[str]) -> dict[str, Points]:
    """Return a run's curves: for each of the tags that occurs, its finite values by step.

    Of two values at one step, the later counts. Without metrics.jsonl, or with half a last line,
    there is less to read.
    """
    curves: dict[str, dict[int, float]] = {}
    for line in runs.read_metrics(folder):
        step = line.get("step")
        if not isinstance(step, int):
            continue
        for tag in tags & line.keys():
            if math.isfinite(line[tag]):
                curves.setdefault(tag, {})[step] = line[tag]
    return {tag: dict(sorted(points.items())) for tag, points in curves.items()}


def band(curves: Iterable[Points]) -> list[Band]:
    """Return mean and sample standard deviation at every step, over the seeds that have it."""
    at: dict[int, list[float]] = {}
    for points in curves:
        for step, value in points.items():
            at.setdefault(step, []).append(value)
    return [Band(step, *mean_sd(values)) for step, values in sorted(at.items())]


def log_band(curves: Iterable[Points]) -> list[Band]:
    """Return the band of the natural logarithms of what is above zero."""
    return band({s: math.log(v) for s, v in points.items() if v > 0} for points in curves)


def mean_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and sample standard deviation; the latter is None of one, NaN of not finite."""
    number = len(values)
    if not all(map(math.isfinite, values)):
        return math.nan, None if number == 1 else math.nan
    mean = sum(value / number for value in values)  # no sum of large values that overflows
    return mean, math.dist(values, [mean] * number) / (number - 1) ** 0.5 if number > 1 else None


def first_step_at(points: Points, target: float) -> int | None:
    """Return the first step whose value is `target` or less."""
    return next((step for step, value in points.items() if value <= target), None)
