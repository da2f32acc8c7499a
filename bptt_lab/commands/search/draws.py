"""How Optuna draws trials. A search is its folder: a batch is drawn from what the folder holds.

Each trial is drawn from the seed, its number and the results so far. So a search that was stopped
and continued draws what it would have drawn.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from bptt_lab.commands.search import record
from bptt_lab.commands.search.space import Choice, Suggest, Values
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import Run

# TPE with Optuna's own settings: random for 10 trials, then the settings of a trial together, and
# away from those that are still running.
SAMPLERS: dict[str, Callable[..., BaseSampler]] = {"tpe": TPESampler, "random": RandomSampler}


def next_trial(study: Study, sampler: str, seed: int) -> Suggest:
    """Ask for a trial, and return what draws its values; the sampler is one of SAMPLERS."""
    number = len(study.get_trials(deepcopy=False))
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    study.sampler = SAMPLERS[sampler](seed=int.from_bytes(digest[:4], "big"))
    return partial(_suggest, study.ask())


def ended(run: Run, drawn: Mapping[str, Values], metric: str) -> FrozenTrial:
    """Return a run as a trial that has ended, with the values that its overrides say.

    Raises:
        ConfigError: where such values are not drawn.
    """
    value = record.value(run, metric)
    if value is None and run.status != "diverged":
        return create_trial(state=TrialState.FAIL)
    lines = dict(line.split("=", 1) for line in run.overrides)
    own = {key: kinds for key, kinds in drawn.items() if key in lines and len(kinds.ends) > 1}
    try:
        return create_trial(
            state=TrialState.PRUNED if value is None else TrialState.COMPLETE,
            value=value,
            params={key: kinds.read(lines[key]) for key, kinds in own.items()},
            distributions={key: _distribution(kinds) for key, kinds in own.items()},
        )
    except ValueError as error:
        raise ConfigError(f"{run.folder}: is no trial ({error}); start a new search") from error


def _suggest(trial: Trial, key: str, values: Values) -> str:
    if len(values.ends) == 1:
        return values.ends[0]
    return values.text(trial._suggest(key, _distribution(values)))


def _distribution(values: Values) -> BaseDistribution:
    if isinstance(values, Choice):
        return CategoricalDistribution(values.ends)
    low, high, step = values.low, values.high, values.step
    if values.integer:
        return IntDistribution(int(low), int(high), log=values.log, step=int(step or 1))
    return FloatDistribution(low, high, log=values.log, step=step)
