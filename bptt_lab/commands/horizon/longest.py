"""From a sweep's folder to the longest delay solved, for each task, strategy, k and seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import NamedTuple, TypeGuard

from bptt_lab.commands.report import results, settings
from bptt_lab.commands.report.results import SweepResults
from bptt_lab.commands.report.settings import Value
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import Run
from bptt_lab.runs.sweep import higher_is_better

LONGEST = 10**9  # of k and delays, which are axes of a picture


class Criterion(NamedTuple):
    """A test metric and the value from which on a run has solved the task."""

    delay: str  # the dataset's setting that makes the task longer
    metric: str  # on the test split
    limit: float
    words: str

    def solved(self, run: Run) -> bool | None:
        """Whether a run solved its task; None where it has no value, as of a run that failed."""
        value = run.metrics.get(f"test/{self.metric}")
        if value is None or run.status != "completed":
            return None
        more = higher_is_better(self.metric)
        return float(value) > self.limit if more else float(value) < self.limit


# Far from chance, and from half a solution: one of two numbers, one of two symbols.
CRITERIA: Mapping[str, Criterion] = {
    "adding": Criterion("num_steps", "loss", 1 / 60, "squared error below 1/60 (chance 1/6)"),
    "temporal_order": Criterion("num_steps", "accuracy", 0.9, "accuracy above 0.9 (chance 0.25)"),
    "copy_memory": Criterion(
        "delay", "recall", 0.9, "recall of the symbols above 0.9 (chance 0.125)"
    ),
}


@dataclass(frozen=True)
class Line:
    """One setting's results on one task."""

    task: str
    strategy: str  # option of the group `gradient`
    mode: str  # of truncation; empty without one
    others: str  # whatever else the sweep varied, as "lr=0.1"
    longest: dict[int | None, dict[Value, int]]  # delay solved, by k and seed; 0 for none
    tried: dict[int | None, set[int]]  # delays, by k

    @property
    def label(self) -> str:
        """The strategy, with its mode where it has one, and what else was varied."""
        name = f"{self.strategy} {self.mode}".rstrip()
        return f"{name}, {self.others}" if self.others else name

    @property
    def ks(self) -> list[int | None]:
        """The truncation lags, in order; [None] for a strategy without one."""
        return sorted(self.longest, key=results.order)

    def seeds(self, k: int | None) -> list[tuple[Value, int]]:
        """Each seed and the longest delay that it solved, in the order of the seeds."""
        return sorted(self.longest[k].items(), key=lambda pair: results.order(pair[0]))

    def typical(self, k: int | None) -> int:
        """The median over seeds of the longest delay, the lower of two; 0 where that is none."""
        return median_low(self.longest[k].values())


def lines(sweep: SweepResults) -> list[Line]:
    """Return the lines of a sweep over k and delay; jobs that did not complete are left out.

    Raises:
        ConfigError: where no completed job has a task with a delay.
    """
    found: dict[tuple[str, str, str, str], Line] = {}
    for job in sweep.jobs:
        criterion = CRITERIA.get(job.dataset)
        if criterion is None:
            continue
        solved = criterion.solved(job.run)
        facts, of_delay = settings.facts(job.run), f"dataset.{criterion.delay}"
        delay, k, mode = map(facts.get, (of_delay, "gradient.k", "gradient.mode"))
        if solved is None or not _fits(delay) or not (k is None or _fits(k)):
            continue
        own = {"dataset", "gradient", "gradient.k", "gradient.mode", of_delay}
        others = results.describe(sweep.keys, job.values, left_out=own)
        key = job.dataset, job.strategy, str(mode or ""), others
        line = found.setdefault(key, Line(*key, {}, {}))
        seeds = line.longest.setdefault(k, {})
        seeds[job.seed] = max(seeds.get(job.seed, 0), delay * solved)
        line.tried.setdefault(k, set()).add(delay)
    if not found:
        tasks = ", ".join(CRITERIA)
        raise ConfigError(f"{sweep.folder}: no completed job is of {tasks}; see experiment=horizon")
    return list(found.values())


def _fits(value: Value) -> TypeGuard[int]:
    return isinstance(value, int) and 0 < value <= LONGEST


def rows(lines: Sequence[Line]) -> list[list[str]]:
    """The table: a head, then a row for each task, strategy, k and seed."""
    head = ["task", "gradient", "mode", "k", "seed", "longest_delay_solved", "longest_tried"]
    table = [[*head, "other_settings"]]
    for line in lines:
        for k in line.ks:
            for seed, delay in line.seeds(k):
                numbers = map(results.show, (k, seed, delay or None, max(line.tried[k])))
                table.append([line.task, line.strategy, line.mode, *numbers, line.others])
    return table


def overview(lines: Sequence[Line]) -> list[list[str]]:
    """The table for a screen: a head, then a row for each task, strategy and k."""
    table = [["task", "strategy", "k", "longest delay solved (median)", "by each seed"]]
    for line in lines:
        for k in line.ks:
            each = " ".join(str(delay or "none") for _, delay in line.seeds(k))
            median = str(line.typical(k) or "none")
            table.append([line.task, line.label, results.show(k), median, each])
    return table
