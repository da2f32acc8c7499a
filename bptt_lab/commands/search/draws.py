"""How Optuna draws values, and where it keeps them.

Each is drawn from the seed, the trial's number and the results so far, by a stream of its own. From
one stream, a search that was stopped and continued would draw the first trials' values once more.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

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


class Draws:
    """Draws for a study: by a sampler of SAMPLERS, made anew for every draw; one seed for all."""

    def __init__(self, study: Study, sampler: str, seed: int) -> None:
        self.study, self.sampler, self.seed = study, sampler, seed

    def trial(self, left: FrozenTrial | None = None) -> Trial:
        """Ask for a trial, or take up one that was left without a result."""
        self._begin(len(self.study.get_trials(deepcopy=False)) if left is None else left.number)
        # Only by this id does Optuna give back a trial that was asked for.
        trial = self.study.ask() if left is None else Trial(self.study, left._trial_id)
        _ = trial.relative_params  # drawn now, and not with its first setting
        return trial

    def suggest(self, trial: Trial, key: str, values: Values) -> str:
        """Draw one of a trial's values, or return the one that it drew before a restart."""
        if len(values.ends) == 1:
            return values.ends[0]
        self._begin(trial.number, key)
        if isinstance(values, Choice):
            return str(trial.suggest_categorical(key, values.ends))
        low, high, step = values.low, values.high, values.step
        if not values.integer:
            return values.text(trial.suggest_float(key, low, high, step=step, log=values.log))
        whole = trial.suggest_int(key, int(low), int(high), step=int(step or 1), log=values.log)
        return values.text(whole)

    def _begin(self, number: int, key: str = "") -> None:
        digest = hashlib.sha256(f"{self.seed}/{number}/{key}".encode()).digest()
        self.study.sampler = SAMPLERS[self.sampler](seed=int.from_bytes(digest[:4], "big"))
