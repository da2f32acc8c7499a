"""How long a metric of validation has been no better than before."""

import math

from bptt_lab.runs.sweep import higher_is_better


class Patience:
    """Counts validations since a metric was last better than its best by more than `min_delta`.

    Whether more or less of it is better, its name says. NaN is never better.
    """

    def __init__(self, *, metric: str, patience: int, min_delta: float) -> None:
        self.metric, self.patience, self.min_delta = metric, patience, min_delta
        self._sign = 1.0 if higher_is_better(metric) else -1.0
        self._best = -math.inf  # the more, the better
        self.waited = 0

    @property
    def best(self) -> float:
        """The best value so far."""
        return self._sign * self._best

    def ends(self, value: float) -> bool:
        """Take note of a validation; return whether patience is at its end."""
        if self._sign * value > self._best + self.min_delta:
            self._best, self.waited = self._sign * value, 0
        else:
            self.waited += 1
        return self.waited >= self.patience

    def state_dict(self) -> dict[str, float]:
        """Return what it has seen."""
        return {"best": self._best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from what it has seen."""
        self._best, self.waited = state["best"], int(state["waited"])
