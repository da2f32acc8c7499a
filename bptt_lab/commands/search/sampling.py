"""How values are drawn: each from the seed, the trial's number and the results so far.

Every draw has a stream of its own. From one stream, a search that was stopped and continued would
draw the first trials' values once more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from bptt_lab.commands.search.space import Choice, Values

# TPE with Optuna's own settings: random for 10 trials, then the settings of a trial together, and
# away from those that are still running.
SAMPLERS: dict[str, Callable[..., BaseSampler]] = {"tpe": TPESampler, "random": RandomSampler}


class SeededSampler(BaseSampler):
    """Another sampler, by its name in SAMPLERS, made anew for every draw; one seed for all."""

    def __init__(self, name: str, seed: int) -> None:
        self._make = SAMPLERS[name]
        self._seed = seed

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the settings that are drawn together."""
        return self._at(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw the settings that are drawn together."""
        return self._at(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw a setting by itself."""
        sampler = self._at(trial, param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def _at(self, trial: FrozenTrial, key: str = "") -> BaseSampler:
        digest = hashlib.sha256(f"{self._seed}/{trial.number}/{key}".encode()).digest()
        return self._make(seed=int.from_bytes(digest[:4], "big"))


def suggestions(trial: Trial) -> Callable[[str, Values], str]:
    """Return a function that draws a trial's values, or returns those it drew before a restart."""

    def suggest(key: str, values: Values) -> str:
        if len(values.ends) == 1:
            return values.ends[0]
        if isinstance(values, Choice):
            return str(trial.suggest_categorical(key, values.ends))
        low, high, step = values.low, values.high, values.step
        if values.integer:
            whole = trial.suggest_int(key, int(low), int(high), step=int(step or 1), log=values.log)
            return values.text(whole)
        return values.text(trial.suggest_float(key, low, high, step=step, log=values.log))

    return suggest
