"""The results of a sweep, read from its folder: a row a job, a group a setting, curves over steps.

Curves have mean and spread over the seeds.
"""

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from bptt_lab import runs
from bptt_lab.commands.report import settings
from bptt_lab.commands.report.settings import SEED, Facts, SweptValues, Value, is_group
from bptt_lab.config import schema
from bptt_lab.core.messages import printable
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import Damaged, Run, files

LONGEST = 60  # letters of a value in a label
Reference = tuple[str, float]  # "chance", 0.1
LARGEST = 1e100  # beyond, sums overflow and pictures have no room
VAL_LOSS = "val/loss"
GRADIENT_NORM = "gradient_norm/total"
ALIGNMENT = "alignment/cosine_training"  # of a strategy that is not exact
EFFECTIVE_LAG = "effective_lag/90_percent"
LYAPUNOV = "recurrence/lyapunov_l0"
# And all of the validation split.
DRAWN = ("train/loss", GRADIENT_NORM, ALIGNMENT, EFFECTIVE_LAG, LYAPUNOV)
Points = Mapping[int, float]  # value by step, finite ones only, steps rising
Reader = Callable[[Path], Mapping[str, Points]]  # of a run's folder, by tag


class Band(NamedTuple):
    """One point of a curve over several seeds."""

    step: int
    mean: float
    sd: float | None  # None where only one seed got there


@dataclass(frozen=True)
class JobResult:
    """A run within its sweep."""

    run: Run
    dataset: str
    strategy: str  # option chosen in the group `gradient`
    seed: Value
    values: SweptValues
    curves: Mapping[str, Points]  # by tag

    @property
    def metrics(self) -> Mapping[str, float]:
        """Final metrics by tag, as pictures can show them; NaN and inf among them."""
        return {tag: drawable(value) for tag, value in self.run.metrics.items()}


@dataclass(frozen=True)
class Group:
    """The jobs of one setting, which differ in their seeds."""

    values: SweptValues
    strategy: str
    label: str  # within its dataset, as "truncated, k=8"
    jobs: Sequence[JobResult]

    @property
    def done(self) -> list[JobResult]:
        """The jobs that completed."""
        return [job for job in self.jobs if job.run.status == "completed"]

    def finals(self, metric: str) -> list[float]:
        """The values on the test split of the jobs that completed, as far as they have one."""
        tag = f"test/{metric}"
        return [job.metrics[tag] for job in self.done if tag in job.metrics]

    def result(self, metric: str) -> tuple[float, float | None] | None:
        """Mean and standard deviation of the finals; None where there are none."""
        finals = self.finals(metric)
        return mean_sd(finals) if finals else None

    def references(self, metric: str) -> list[Reference]:
        """What the task says of a metric, mean over the seeds, whose data may differ."""
        by_name: dict[str, list[float]] = {}
        for job in self.jobs:
            for name, values in job.run.references.items():
                level = drawable(values.get(metric, math.nan))
                if math.isfinite(level):
                    by_name.setdefault(name, []).append(level)
        return [(name, fmean(levels)) for name, levels in by_name.items()]


@dataclass(frozen=True)
class SweepResults:
    """All jobs of a sweep."""

    folder: Path
    command: str
    began: float  # seconds since 1970: when sweep.json was written
    keys: Sequence[str]  # what was varied, seed left out
    jobs: Sequence[JobResult]

    @property
    def datasets(self) -> list[str]:
        """The datasets, in the order of the jobs."""
        return list(dict.fromkeys(job.dataset for job in self.jobs))

    @property
    def has_means(self) -> bool:
        """Whether a setting has several seeds, and so a mean and a spread."""
        return any(len(group.jobs) > 1 for name in self.datasets for group in self.groups(name))

    def groups(self, dataset: str) -> list[Group]:
        """The settings of one dataset, in the order of the jobs."""
        jobs: dict[SweptValues, list[JobResult]] = {}
        for job in self.jobs:
            if job.dataset == dataset:
                jobs.setdefault(job.values, []).append(job)
        groups = []
        for values, members in jobs.items():
            strategy = members[0].strategy
            groups.append(Group(values, strategy, describe(self.keys, values) or strategy, members))
        return groups


def read(folder: Path, curves: Reader | None = None) -> SweepResults:
    """Read a sweep's folder.

    Args:
        folder: the sweep's.
        curves: reads what a run logged; None for `read_curves`.

    Raises:
        ConfigError: where it is none.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{folder}: there is no such folder; give a sweep's, as outputs/..._sweep"
        )
    listed = folder / runs.SWEEP
    if not os.path.lexists(listed):
        problem = "this is no sweep's folder, but perhaps a single run's folder"
        raise ConfigError(f"{folder}: {problem}; give one that `bptt-train -m` made")
    command = runs.read_sweep_file(folder).get("command", "")
    # A sweeper that chooses as it goes may list no jobs.
    found = runs.read_sweep(folder) or [
        runs.read_job(manifest.parent) for manifest in sorted(folder.glob(f"*/{runs.MANIFEST}"))
    ]
    if not found:
        raise ConfigError(f"{folder}: no job of this sweep has begun; wait for the first")
    keys, facts = settings.swept(found)
    reader = curves or read_curves
    jobs = [_job(run, its, keys, facts, reader) for run, its in zip(found, facts, strict=True)]
    return SweepResults(folder, command, listed.lstat().st_mtime, keys, jobs)


def show(value: Value) -> str:
    """Write a value shortly: 0.001, 1e-05, true; nothing for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else schema.show(value)


def short(value: Value, longest: int) -> str:
    """Write a value in no more letters than a picture has room for."""
    text = printable(show(value))
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def describe(
    keys: Sequence[str], values: Sequence[Value], left_out: Collection[str] = ("dataset",)
) -> str:
    """Say a setting in words: options of groups by themselves, other values after their names.

    A key is named by its last part, where no other key ends like it.
    """
    ends = [key.rpartition(".")[2] for key in keys]
    words = []
    for key, end, value in zip(keys, ends, values, strict=True):
        if value is not None and key not in left_out:
            shown = short(value, LONGEST)
            name = short(end if ends.count(end) == 1 else key, LONGEST)
            words.append(shown if is_group(key) else f"{name}={shown}")
    return ", ".join(words)


def order(value: Value) -> tuple[int, float, str]:
    """Sort numbers by size, before texts, before nothing."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (0, value if math.isfinite(value) else math.inf, "")
    return (2, 0.0, "") if value is None else (1, 0.0, show(value))


def _job(
    run: Run, facts: Facts, keys: Sequence[str], jobs: Sequence[Facts], curves: Reader
) -> JobResult:
    def choice(group: str) -> str:
        # One that has not started and does not name it has the default, as all others then have.
        known = (its.get(group) for its in (facts, *jobs))
        return next((str(option) for option in known if option is not None), "")

    try:
        logged = {} if files.no_folder(run.folder) else curves(run.folder)
    except Damaged as error:
        run, logged = run.unreadable(str(error)), {}
    values = tuple(facts.get(key) for key in keys)
    seed = facts.get(SEED, run.manifest.get(SEED))
    return JobResult(run, choice("dataset"), choice("gradient"), seed, values, logged)


def read_curves(folder: Path) -> dict[str, Points]:
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
