"""A claim: what a source says, and a function that measures whether it holds here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

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
        tested = _range(self.tested_on) or "none"
        return f"{tested}; set on {_range(self.set_on)}" if self.set_on else tested


def claim(
    kind: Kind, source: str, expected: str, *, name: str = "", **more: Any
) -> Callable[[Measure], Claim]:
    """Make a claim of the function that measures; it has the function's name by default."""
    return lambda measure: Claim(name or measure.__name__, kind, source, expected, measure, **more)


def greatest(*values: float) -> float:
    """Return the greatest; nan where one is nan, which Python's max passes over."""
    return math.nan if any(map(math.isnan, values)) else max(values)


def _range(seeds: Sequence[int]) -> str:
    """Write seeds with their runs joined: "0-2, 10"."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(f"{run[0]}-{run[-1]}" if run[1:] else str(run[0]) for run in runs)
