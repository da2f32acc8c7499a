"""What metrics.jsonl says over a run's steps, and its mean and spread over the seeds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bptt_lab import runs

LARGEST = 1e100  # beyond, sums overflow and pictures have no room
VAL_LOSS = "val/loss"
GRADIENT_NORM = "gradient_norm/total"
ALIGNMENT = "alignment/cosine_training"  # of a strategy that is not exact
DRAWN = ("train/loss", GRADIENT_NORM, ALIGNMENT)  # and all of the validation split
Points = Mapping[int, float]  # value by step, finite ones only, steps rising


class Band(NamedTuple):
    """One point of a curve over several seeds."""

    step: int
    mean: float
    sd: float | None  # None where only one seed got there


def read(folder: Path) -> dict[str, Points]:
    """Return a run's finite values by step, for each tag that is drawn; of two, the later counts.

    Raises:
        Damaged: at a line that no run wrote.
    """
    found: dict[str, dict[int, float]] = {}
    for line in runs.read_metrics(folder):
        for tag, value in line.items():
            if (tag in DRAWN or tag.startswith("val/")) and math.isfinite(drawable(value)):
                found.setdefault(tag, {})[line["step"]] = float(value)
    return {tag: dict(sorted(points.items())) for tag, points in found.items()}


def drawable(value: float) -> float:
    """Return a number, infinity for what no picture has room for."""
    return float(value) if not abs(value) > LARGEST else math.copysign(math.inf, value)


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
