"""From a sweep's folder to streams, the rules that learn them, and what each run reached.

Settings of the dataset tell streams apart. All other settings but the seed tell rules apart.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, median

from bptt_lab import runs
from bptt_lab.commands.report import results, scores
from bptt_lab.commands.report.results import JobResult, Points, SweepResults, drawable
from bptt_lab.commands.report.settings import Facts, SweptValues, Value, facts
from bptt_lab.config.schema import key_of
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import Run

LOSS = "train/loss"
SHADOW = "exact_shadow/"
COSINE = f"{SHADOW}cosine"
SHARE = 0.2  # of the steps, the last ones, over which the error is the mean
LAST = 5  # records of the published protocol's error
ERRORS = {"mse": "squared error", "": "loss"}  # by the loss's name
UNITS = {"cross_entropy": "nats", "binary_cross_entropy": "nats"}


@dataclass(frozen=True)
class Entry:
    """What one run reached; None where it has no such figure."""

    job: JobResult

    @property
    def diverged(self) -> bool:
        """Whether it left the numbers, so that it is worse than any run that did not."""
        return self.job.run.status == "diverged"

    @cached_property
    def error(self) -> float | None:
        """The mean of the records over the last fifth of the steps; infinite if it diverged.

        It is the last record where none is in that fifth.
        """
        records = self.job.curves.get(LOSS, {})
        steps = self.job.run.steps or max(records, default=0)
        late = [x for step, x in records.items() if step > (1 - SHARE) * steps]
        return self._mean(late or [*records.values()][-1:])

    @cached_property
    def last_records(self) -> float | None:
        """The mean of the last five records, as published tables have it."""
        return self._mean([*self.job.curves.get(LOSS, {}).values()][-LAST:])

    @cached_property
    def alignment(self) -> float | None:
        """The mean cosine with the exact gradient, of a run that completed."""
        return self.observed("cosine") if self.job.run.is_done else None

    def observed(self, what: str) -> float | None:
        """The mean of the finite values that an exact shadow logged."""
        found = self.job.curves.get(SHADOW + what, {}).values()
        finite = [x for x in found if math.isfinite(x)]
        return fmean(finite) if finite else None

    def _mean(self, values: Sequence[float]) -> float | None:
        if self.diverged:
            return math.inf
        if not self.job.run.is_done or not values:
            return None
        mean = sum(x / len(values) for x in values)
        return mean if math.isfinite(mean) else math.inf  # it went on, as divergence=record has it


@dataclass(frozen=True)
class Rule:
    """A setting of a sweep on one stream, with a run a seed."""

    name: str  # "sketched_rtrl, rank=4"
    values: SweptValues  # of all the sweep's keys
    strategy: str
    entries: Mapping[Value, Entry]  # by seed

    def errors(self) -> dict[Value, float]:
        """The errors by seed, of the runs that completed or diverged."""
        return {seed: e.error for seed, e in self.entries.items() if e.error is not None}

    def alignments(self) -> dict[Value, float]:
        """The alignments by seed, of the runs that completed."""
        found = {seed: e.alignment for seed, e in self.entries.items()}
        return {seed: x for seed, x in found.items() if x is not None}

    @property
    def error(self) -> float | None:
        """The median over seeds."""
        return median(self.errors().values()) if self.errors() else None

    @property
    def alignment(self) -> float | None:
        """The median over seeds."""
        return median(self.alignments().values()) if self.alignments() else None

    @property
    def diverged(self) -> int:
        """How many of its runs did."""
        return sum(entry.diverged for entry in self.entries.values())


@dataclass(frozen=True)
class Stream:
    """What is learnt, and who learns it, least median error first."""

    name: str
    loss: str  # its name; empty where the runs do not agree, or do not say
    rules: Sequence[Rule]
    repeated: int = 0  # runs that have the setting and the seed of a later one

    @property
    def error(self) -> str:
        """What the error is."""
        return ERRORS.get(self.loss, self.loss.replace("_", " "))

    @property
    def unit(self) -> str:
        """What it is in, for an axis."""
        return f"{self.error} ({UNITS[self.loss]})" if self.loss in UNITS else self.error

    @property
    def epochs(self) -> int:
        """How often the longest run went through its data."""
        runs = [entry.job.run for rule in self.rules for entry in rule.entries.values()]
        return max((run.epochs or 1 for run in runs), default=1)

    def references(self) -> dict[str, float]:
        """Return the median test losses of predictors without a network, such as the last value."""
        found: dict[str, list[float]] = {}
        for entry in (entry for rule in self.rules for entry in rule.entries.values()):
            for name, metrics in entry.job.run.references.items():
                level = drawable(metrics.get("loss", math.nan))
                if math.isfinite(level):
                    found.setdefault(name, []).append(level)
        return {name: median(levels) for name, levels in found.items()}

    def mean_ranks(self) -> dict[str, float]:
        """The mean rank of each rule's error over the seeds that all have an error of."""
        errors = {rule.name: rule.errors() for rule in self.rules if rule.errors()}
        shared = set.intersection(*map(set, errors.values())) if errors else set()
        return {
            name: fmean(
                _rank(mine[seed], [its[seed] for its in errors.values()]) for seed in shared
            )
            for name, mine in errors.items()
            if shared
        }


def read(folder: Path) -> tuple[SweepResults, list[Stream]]:
    """Read a sweep's folder.

    Raises:
        ConfigError: where it is none, or no run of it logged a training loss.
    """
    sweep = results.read(folder, _curves)
    if not any(job.curves.get(LOSS) for job in sweep.jobs):
        problem = f"no run of it has logged {LOSS}"
        way_out = "give a sweep of runs that learn a stream, or wait for the first"
        ended = [job.run for job in sweep.jobs if job.run.status not in ("running", "waiting")]
        if any(run.is_done for run in ended):
            way_out = "a run of fewer steps than trainer.log_every_n_steps logs none"
        elif len(ended) == len(sweep.jobs) and (reason := ended[0].reason):
            way_out = f"all of them ended before, the first as {reason}"
        raise ConfigError(f"{folder}: {problem}; {way_out}")
    own = [_of_stream(key) for key in sweep.keys]
    found: dict[tuple[str, SweptValues], dict[SweptValues, list[JobResult]]] = {}
    for job in sweep.jobs:
        key = tuple(value for value, is_its in zip(job.values, own, strict=True) if is_its)
        rules = found.setdefault((job.dataset, key), {})
        rules.setdefault(job.values, []).append(job)
    all_streams = [_stream(sweep, *key, rules) for key, rules in found.items()]
    names = _distinct(stream.name for stream in all_streams)
    return sweep, [replace(s, name=name) for s, name in zip(all_streams, names, strict=True)]


def _stream(
    sweep: SweepResults,
    dataset: str,
    values: SweptValues,
    found: Mapping[SweptValues, Sequence[JobResult]],
) -> Stream:
    keys = [key for key in sweep.keys if _of_stream(key)]
    fixed = _fixed(next(iter(found.values()))[0], sweep.keys)
    described = results.describe([*keys, *fixed], [*values, *fixed.values()])
    rules = []
    names = _distinct(
        results.describe(sweep.keys, own, left_out=keys) or jobs[0].strategy or "a rule"
        for own, jobs in found.items()
    )
    for name, (own, jobs) in zip(names, found.items(), strict=True):
        entries = {job.seed: Entry(job) for job in jobs}
        rules.append(Rule(name, own, jobs[0].strategy, entries))
    rules.sort(key=lambda rule: (rule.error is None, rule.error or 0.0))
    losses = {scores.loss_name(job) for jobs in found.values() for job in jobs if job.run.config}
    loss = losses.pop() if len(losses) == 1 else ""
    repeated = sum(map(len, found.values())) - sum(len(rule.entries) for rule in rules)
    return Stream(
        name=", ".join(filter(None, (dataset, described))),
        loss="" if loss == "None" else loss,
        rules=rules,
        repeated=repeated,
    )


def _distinct(names: Iterable[str]) -> list[str]:
    """Number the names that have been there before, as long values look alike when shortened."""
    found: list[str] = []
    for name in names:
        numbered = (f"{name} ({number})" for number in itertools.count(2))
        found.append(next(n for n in itertools.chain([name], numbered) if n not in found))
    return found


def _of_stream(key: str) -> bool:
    return key == "dataset" or key.startswith("dataset.")


def _fixed(job: JobResult, keys: Sequence[str]) -> Facts:
    """Return the words that a sweep sets for its stream and does not vary, as the one series."""
    given = {key_of(line) for line in job.run.overrides}
    return {
        key: value
        for key, value in facts(job.run).items()
        if _of_stream(key) and key in given and key not in keys and isinstance(value, str)
    }


def _curves(folder: Path) -> dict[str, Points]:
    """Return what a run logged of loss and shadow; of two values of a step the later counts."""
    found: dict[str, dict[int, float]] = {}
    for line in runs.read_metrics(folder):
        for tag, value in line.items():
            if tag == LOSS or tag.startswith((SHADOW, "val/")):
                found.setdefault(tag, {})[line["step"]] = drawable(value)
    return {tag: dict(sorted(points.items())) for tag, points in found.items()}


def _rank(mine: float, all_errors: Sequence[float]) -> float:
    below, same = sum(x < mine for x in all_errors), sum(x == mine for x in all_errors)
    return below + (same + 1) / 2


def representative(rule: Rule) -> Run | None:
    """Return a run of the rule that says how it was set up."""
    return next((e.job.run for e in rule.entries.values() if e.job.run.config), None)
