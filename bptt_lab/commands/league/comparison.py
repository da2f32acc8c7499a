"""Which of two rules is better on a stream: every pair, over the seeds that both have.

Errors are compared by the logarithm of their ratio, alignments by their difference. All pairs of a
stream and a quantity are one family of tests.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bptt_lab.commands.league import statistics
from bptt_lab.commands.league.statistics import ALPHA, Effect
from bptt_lab.commands.league.streams import Rule, Stream

Quantity = Literal["error", "alignment"]
DIGITS = 6  # of a cosine; beyond is rounding of float32
LEAST = 1e-300  # an error of 0 has a logarithm, too


class Pair(NamedTuple):
    """Two rules, the first of which has the lesser median error."""

    one: Rule
    other: Rule
    seeds: int
    p: float
    holm: float
    effect: Effect  # of error: one's over the other's; of alignment: one's less the other's
    rank_biserial: float  # -1 where one's is the lesser in every seed
    least: float  # p after Holm that so many seeds can reach

    @property
    def is_decided(self) -> bool:
        """Whether the two differ, at 5 % for the whole family."""
        return self.holm <= ALPHA

    @property
    def is_lower(self) -> bool:
        """Whether one's is the lesser."""
        return self.rank_biserial < 0


@dataclass(frozen=True)
class Comparison:
    """All pairs of a stream that have a seed in common."""

    quantity: Quantity
    pairs: Sequence[Pair]

    @property
    def seeds(self) -> int:
        """The most that a pair has in common."""
        return max((pair.seeds for pair in self.pairs), default=0)

    @property
    def least(self) -> float:
        """The least p that any pair can reach."""
        return statistics.least_p(self.seeds, len(self.pairs))

    @property
    def decided(self) -> list[Pair]:
        """The pairs that differ."""
        return [pair for pair in self.pairs if pair.is_decided]

    def beside(self, rule: Rule) -> tuple[list[str], list[str]]:
        """Return the rules whose quantity is above this one's, and those whose is below."""
        above: list[str] = []
        below: list[str] = []
        for pair in self.decided:
            if rule is pair.one:
                (above if pair.is_lower else below).append(pair.other.name)
            elif rule is pair.other:
                (below if pair.is_lower else above).append(pair.one.name)
        return above, below


def compare(stream: Stream, quantity: Quantity) -> Comparison:
    """Compare all pairs of rules, in the stream's order."""
    drafts = []
    for one, other in itertools.combinations(stream.rules, 2):
        mine, its = _values(one, quantity), _values(other, quantity)
        shared = [seed for seed in mine if seed in its]
        if shared:
            d = statistics.differences([mine[s] for s in shared], [its[s] for s in shared])
            drafts.append((one, other, d, statistics.wilcoxon(d)))
    adjusted = statistics.holm([p for *_, p in drafts])
    pairs = [
        Pair(
            one,
            other,
            len(d),
            p,
            holm,
            _effect(quantity, d),
            statistics.rank_biserial(d),
            statistics.least_p(len(d), len(drafts)),
        )
        for (one, other, d, p), holm in zip(drafts, adjusted, strict=True)
    ]
    return Comparison(quantity, pairs)


def correlation(stream: Stream) -> tuple[int, float, float] | None:
    """Return over how many rules alignment and error have which Kendall's tau, and its p.

    Both are medians over seeds. None with fewer than three rules, or without an order.
    """
    points = [
        (rule.alignment, rule.error)
        for rule in stream.rules
        if rule.alignment is not None and rule.error is not None
    ]
    if len(points) < 3:
        return None
    tau, p = statistics.kendall([round(a, DIGITS) for a, _ in points], [e for _, e in points])
    return None if math.isnan(tau) else (len(points), tau, p)


def _values(rule: Rule, quantity: Quantity) -> dict[object, float]:
    if quantity == "alignment":
        return {seed: round(x, DIGITS) for seed, x in rule.alignments().items()}
    return {seed: math.log(max(x, LEAST)) for seed, x in rule.errors().items()}


def _effect(quantity: Quantity, d: Sequence[float]) -> Effect:
    found = statistics.hodges_lehmann(d)
    if quantity == "alignment":
        return found
    middle, low, high = (math.exp(min(x, 700.0)) if x < math.inf else x for x in found[:3])
    return Effect(middle, low, high, found.level)
