"""A search space, written as Hydra writes sweeps.

    optimizer.lr=tag(log,interval(1e-4,1e-1))    a number, drawn evenly over its logarithm
    model.leak=interval(0.1,1)                   a number
    gradient.k=range(1,33)                       an integer; so is int(interval(1,32))
    model.hidden_size=choice(32,64,128)          one of several
    gradient=full,truncated                      so is this

A setting with one value is fixed. A setting that not every option has, such as gradient.k here, is
drawn only where the drawn option has it.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from bptt_lab.config.compose import Compose
from bptt_lab.core.validation import ConfigError
from bptt_lab.training.sweeper import applicable

EXAMPLE = "'optimizer.lr=tag(log,interval(1e-4,1e-1))'"
_DIGITS = 6  # significant ones, of a drawn number: more would only fill tables and folder names


@dataclass(frozen=True)
class Choice:
    """One of several texts, in no order."""

    ends: tuple[str, ...]  # the values to try before all others, which are all of them

    def text(self, value: str) -> str:
        """Return a value as it is written in an override."""
        return value

    read = text

    def __str__(self) -> str:
        return ",".join(self.ends)


@dataclass(frozen=True)
class Numbers:
    """A number from `low` to `high`, both included."""

    low: float
    high: float
    step: float | None = None  # None: every number between them
    log: bool = False

    @property
    def integer(self) -> bool:
        """Whether only integers are drawn."""
        return isinstance(self.low, int)

    @property
    def ends(self) -> tuple[str, ...]:
        """The values to try before all others."""
        return tuple(dict.fromkeys((self.text(self.low), self.text(self.high))))

    def text(self, value: float) -> str:
        """Write a number as in an override, to six significant digits where the limits allow it."""
        if self.integer:
            return str(value)
        rounded = float(f"{value:.{_DIGITS}g}")
        return repr(rounded if self.low <= rounded <= self.high else value)

    def read(self, text: str) -> float:
        """Return the number that is written so."""
        value = int(text) if self.integer else float(text)
        if self.step is None:
            return value
        return self.low + round((value - self.low) / self.step) * self.step

    def __str__(self) -> str:
        step = "" if self.step in (None, 1) else f" by {self.step}"
        return f"{self.low} to {self.high}{step}{' (log)' if self.log else ''}"


Values: TypeAlias = Choice | Numbers
Suggest = Callable[[str, Values], str]  # a setting's key, its values -> one of them


class Space:
    """The settings that are fixed, and the values from which the others are drawn.

    Args:
        overrides: parsed; of two for the same key the later one holds.
        compose: from overrides to a configuration; may raise HydraException.

    Raises:
        ConfigError: where nothing is left to search, or an interval or tag makes no sense.
    """

    def __init__(self, overrides: Sequence[Override], compose: Compose) -> None:
        self.fixed: dict[str, str] = {}
        self.drawn: dict[str, Values] = {}
        for override in overrides:
            key = override.get_key_element()
            self.fixed.pop(key, None), self.drawn.pop(key, None)
            if override.is_sweep_override():
                self.drawn[key] = _values(override)
            else:
                self.fixed[key] = str(override.input_line)
        if all(len(values.ends) < 2 for values in self.drawn.values()):
            raise ConfigError(
                "hydra/sweeper=search: every setting has one value, so there is nothing to "
                f"search; give one several, as {EXAMPLE}"
            )
        self._groups = [g for g in self.drawn if any(key.startswith(f"{g}.") for key in self.drawn)]
        self._known = self._settings_of_options(compose)

    def draw(self, suggest: Suggest) -> list[str]:
        """Return a trial's overrides; `suggest` draws each setting that applies, groups first."""
        values = {group: suggest(group, self.drawn[group]) for group in self._groups}
        known = self._known[tuple(values.values())]
        for key, kinds in self.drawn.items():
            if key not in values and key in known:
                values[key] = suggest(key, kinds)
        return [*self.fixed.values(), *(f"{k}={values[k]}" for k in self.drawn if k in values)]

    def corners(self) -> list[list[str]]:
        """Return overrides that between them have every option with every other end of a setting.

        Each of them must be possible; what lies between may still be refused, by its own job.
        """
        jobs = []
        width = max(len(values.ends) for values in self.drawn.values())
        for options, turn in itertools.product(self._known, range(width)):
            chosen = dict(zip(self._groups, options, strict=True))
            jobs.append(self.draw(partial(_end, chosen, turn)))
        return [list(job) for job in dict.fromkeys(map(tuple, jobs))]

    def described(self) -> dict[str, str]:
        """Return each key with the text of its value or values, for people to read and compare."""
        fixed = {key: line.partition("=")[2] for key, line in self.fixed.items()}
        return fixed | {key: str(values) for key, values in self.drawn.items()}

    def _settings_of_options(self, compose: Compose) -> dict[tuple[str, ...], set[str]]:
        """For each combination of options, the drawn settings that apply."""
        options = list(itertools.product(*(self.drawn[group].ends for group in self._groups)))
        first = {key: values.ends[0] for key, values in self.drawn.items()}
        settings = (first | dict(zip(self._groups, chosen, strict=True)) for chosen in options)
        jobs = [[f"{key}={value}" for key, value in job.items()] for job in settings]
        kept = applicable(jobs, compose)  # in order; options differ, so all are kept
        known = ({line.partition("=")[0] for line in job} for job in kept)
        return dict(zip(options, known, strict=True))


def _end(chosen: Mapping[str, str], turn: int, key: str, values: Values) -> str:
    return chosen.get(key) or values.ends[min(turn, len(values.ends) - 1)]


def _values(override: Override) -> Values:
    value, line = override.value(), override.input_line
    # A parsed sweep is not among the types that Hydra declares for a value.
    tags: set[str] = getattr(value, "tags", set())
    if unknown := sorted(tags - {"log"}):
        raise ConfigError(f"{line}: the tag {unknown[0]} means nothing here; leave it out, or log")
    log = "log" in tags
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        assert low is not None and high is not None
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigError(f"{line}: must go from a number to a greater one; correct it")
        found = Numbers(low, high, 1 if isinstance(low, int) else None, log)
    elif isinstance(value, RangeSweep):
        numbers = sorted(value.range())
        step = abs(value.step)
        integer = isinstance(numbers[0], int)
        if log and not (integer and step == 1):
            raise ConfigError(f"{line}: cannot be log with a step; use tag(log,int(interval(...)))")
        if len(numbers) == 1:
            return Choice((str(numbers[0]),))
        found = Numbers(numbers[0], numbers[-1], step if integer else float(step), log)
    elif log:
        raise ConfigError(f"{line}: a choice has no order, so it cannot be log; leave the tag out")
    else:
        return Choice(tuple(map(str, override.sweep_string_iterator())))
    if log and found.low <= 0:
        raise ConfigError(f"{line}: log needs numbers greater than 0; raise {found.low}")
    return found
