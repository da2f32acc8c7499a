"""Claims, each what a source says and whether it holds here; modules of `claims` are topics."""

import importlib
import math
import pkgutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bptt_lab.commands.reproduce import claims
from bptt_lab.core.validation import ConfigError

# Where the expected number comes from. Published: the source states it, as a number or as a law.
# Derived: we computed it from the source's definitions. Regression: it is ours alone; the source
# describes the task or the effect. Tolerances are always ours.
Kind = Literal["published", "derived", "regression"]
SEEDS: Any = {"set_on": range(3), "tested_on": range(10, 13)}
MORE_SEEDS: Any = {"set_on": range(8), "tested_on": range(10, 13)}


class Trial(NamedTuple):
    """What a claim is tested with."""

    seeds: Sequence[int]
    file: Path = Path()  # the claim's file of data, where it has one


class Result(NamedTuple):
    """Whether the claim holds, and the numbers that were found."""

    passed: bool
    measured: str


Measure = Callable[[Trial], Result]


@dataclass(frozen=True)
class Claim:
    """One result that can be measured."""

    name: str  # a few words joined by "_", unique within its topic
    kind: Kind
    source: str  # who published or defined it
    expected: str  # the number or the law, and the tolerance
    measure: Measure
    set_on: Sequence[int] = ()  # seeds of the threshold; empty where chance plays no part in it
    tested_on: Sequence[int] = (10,)  # empty where nothing is drawn
    seconds: float = 0.3  # of the processor, about
    slow: bool = False  # whether it takes minutes
    file: str = ""  # data that it needs, below the data folder

    @property
    def seeds(self) -> str:
        """The seeds in words: "10-12; set on 0-2"; "none" where nothing is drawn."""
        tested = _words(self.tested_on) or "none"
        return f"{tested}; set on {_words(self.set_on)}" if self.set_on else tested


def claim(
    kind: Kind, source: str, expected: str, *, name: str = "", **more: Any
) -> Callable[[Measure], Claim]:
    """Make a claim of the function that measures; it has the function's name by default."""
    return lambda measure: Claim(name or measure.__name__, kind, source, expected, measure, **more)


def greatest(*values: float) -> float:
    """Return the greatest; nan where one is nan, which Python's max passes over."""
    return math.nan if any(map(math.isnan, values)) else max(values)


def _words(seeds: Sequence[int]) -> str:
    joined = isinstance(seeds, range) and len(seeds) > 1
    return f"{seeds[0]}-{seeds[-1]}" if joined else ", ".join(map(str, seeds))


def entries() -> Iterator[Claim]:
    """All claims by their full names."""
    for topic in names_of_topics():
        found = importlib.import_module(f"{claims.__name__}.{topic}").CLAIMS
        yield from (replace(each, name=f"{topic}.{each.name}") for each in found)


def named(names: Sequence[str], *, slow: bool) -> list[Claim]:
    """Choose claims.

    Args:
        names: topics, claims by their full name; all for none. A claim named in full is there
            even if it is slow.
        slow: whether slow claims of the topics are wanted.

    Raises:
        ConfigError: for a name that is neither.
    """
    known = list(entries())  # with torch
    refuse_unknown(names, [*names_of_topics(), *(claim.name for claim in known)])
    return [
        claim
        for claim in known
        if claim.name in names
        or ((not names or topic_of(claim.name) in names) and (slow or not claim.slow))
    ]


def names_of_topics() -> list[str]:
    """The names of all topics; no topic is imported for that."""
    return [module.name for module in pkgutil.iter_modules(claims.__path__)]


def topic_of(name: str) -> str:
    """The topic in a claim's full name."""
    return name.partition(".")[0]


def refuse_unknown(names: Iterable[str], known: Collection[str]) -> None:
    """Raise a ConfigError for the first name that is not known."""
    for name in names:
        if name not in known:
            listed = ", ".join(names_of_topics())
            raise ConfigError(f"{name}: must be a claim, as --list shows them, or among {listed}")
