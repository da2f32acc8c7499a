"""How Optuna draws values, and where it keeps them.

Each is drawn from the seed, the trial's number and the results so far, by a stream of its own. From
one stream, a search that was stopped and continued would draw the first trials' values once more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from bptt_lab.commands.search.space import Choice, Values
from bptt_lab.runs import files

JOURNAL = "search.journal"
# TPE with Optuna's own settings: random for 10 trials, then the settings of a trial together, and
# away from those that are still running.
SAMPLERS: dict[str, Callable[..., BaseSampler]] = {"tpe": TPESampler, "random": RandomSampler}
Kinds = dict[str, BaseDistribution]


class _Held(JournalFileOpenLock):
    """No lock: that of the sweep's folder is held, and Optuna's files outlive a killed process."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def journal(sweep_dir: Path) -> JournalStorage:
    """Open a search's journal, or a new one, in a sweep folder that this process holds.

    A last line cut short by a power failure is cut off; nobody has acted on it yet.
    """
    path = sweep_dir / JOURNAL
    files.writing(path, "append").close()
    with files.writing(path, "over") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
    return JournalStorage(JournalFileBackend(str(path), _Held(str(path))))


class SeededSampler(BaseSampler):
    """Another sampler, by its name in SAMPLERS, made anew for every draw; one seed for all."""

    def __init__(self, name: str, seed: int) -> None:
        self._make = SAMPLERS[name]
        self._seed = seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Kinds:
        """Return the settings that are drawn together."""
        return self._at(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Kinds
    ) -> dict[str, Any]:
        """Draw the settings that are drawn together."""
        return self._at(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """Draw a setting by itself."""
        sampler = self._at(trial, param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def _at(self, trial: FrozenTrial, key: str = "") -> BaseSampler:
        digest = hashlib.sha256(f"{self._seed}/{trial.number}/{key}".encode()).digest()
        return self._make(seed=int.from_bytes(digest[:4], "big"))


def suggest(trial: Trial, key: str, values: Values) -> str:
    """Draw one of a trial's values, or return the one that it drew before a restart."""
    if len(values.ends) == 1:
        return values.ends[0]
    if isinstance(values, Choice):
        return str(trial.suggest_categorical(key, values.ends))
    low, high, step = values.low, values.high, values.step
    if values.integer:
        whole = trial.suggest_int(key, int(low), int(high), step=int(step or 1), log=values.log)
        return values.text(whole)
    return values.text(trial.suggest_float(key, low, high, step=step, log=values.log))
