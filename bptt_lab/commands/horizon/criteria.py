"""When a task counts as solved, and what its delay is. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from bptt_lab.runs import Run


class Criterion(NamedTuple):
    """A test metric and the value from which on a run has solved the task."""

    delay: str  # the dataset's setting that makes the task longer
    metric: str  # on the test split
    limit: float
    higher_is_better: bool
    words: str

    def solved(self, run: Run) -> bool | None:
        """Whether a run solved its task; None where it has no value, as of a run that failed."""
        value = run.metrics.get(f"test/{self.metric}")
        if value is None or run.status != "completed":
            return None
        return float(value) > self.limit if self.higher_is_better else float(value) < self.limit


# Far from chance, and from half a solution: one of two numbers, one of two symbols.
CRITERIA: Mapping[str, Criterion] = {
    "adding": Criterion(
        "num_steps", "loss", 1 / 60, False, "squared error below 1/60 (chance 1/6)"
    ),
    "temporal_order": Criterion(
        "num_steps", "accuracy", 0.9, True, "accuracy above 0.9 (chance 0.25)"
    ),
    "copy_memory": Criterion(
        "delay", "recall", 0.9, True, "recall of the symbols above 0.9 (chance 0.125)"
    ),
}
