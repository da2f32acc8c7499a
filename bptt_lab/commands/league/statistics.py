"""Paired comparisons over seeds: Wilcoxon's signed-rank test, Holm's correction, effects.

Everything is a function of the paired differences d_1 ... d_n. One may be infinite, as that of a
run which diverged: it has the largest rank. Two that diverged are equal.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

ALPHA = 0.05  # of a family of tests


class Effect(NamedTuple):
    """A median of paired differences, and the interval that holds it at a level."""

    middle: float
    low: float
    high: float
    level: float


def differences(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Return a_i - b_i; 0 where both are the same infinity."""
    return [0.0 if x == y else x - y for x, y in zip(a, b, strict=True)]


def wilcoxon(d: Sequence[float]) -> float:
    """Return the exact two-sided p of Wilcoxon's signed-rank test, with ties as well.

    Differences of zero are left out, as Wilcoxon did; tied ones share their mean rank, and the
    distribution is that of these ranks.

        (1) W = sum of the ranks of |d_i| where d_i > 0
        (2) p = P(|W' - E W'| >= |W - E W|),   W' with each sign + or - with probability 1/2

    Examples:
        >>> wilcoxon([1, 2, 3, 4, 5])
        0.0625
    """
    signs, doubled = _ranked(d)
    total = int(doubled.sum())
    w = int(doubled[signs > 0].sum())
    at = np.arange(total + 1)
    far = np.abs(2 * at - total) >= abs(2 * w - total)
    return min(1.0, float(_null(doubled)[far].sum()))  # Eq. (2)


def rank_biserial(d: Sequence[float]) -> float:
    """Return the matched-pairs rank-biserial correlation, (W+ - W-) / (W+ + W-).

    It is 1 where all differences are above zero, -1 where all are below, 0 where all are zero.
    """
    signs, doubled = _ranked(d)
    return float(signs @ doubled / doubled.sum()) if len(signs) else 0.0


def hodges_lehmann(d: Sequence[float], level: float = 1 - ALPHA) -> Effect:
    """Return the median of the Walsh averages (d_i + d_j) / 2, i <= j, and its exact interval.

    The interval goes from the c-th smallest average to the c-th largest. It is the narrowest whose
    level 1 - 2 P(W <= c - 1) is at least the one asked for, or else the widest there is: five
    seeds reach .9375, and one reaches nothing.

    Examples:
        >>> hodges_lehmann([1, 2, 3, 4, 5])
        Effect(middle=3.0, low=1.0, high=5.0, level=0.9375)
    """
    n = len(d)
    walsh = sorted(_between(d[i], d[j]) for i in range(n) for j in range(i, n))
    below = np.cumsum(_null(2 * np.arange(1, n + 1))[::2])  # P(W <= 0), P(W <= 1), ...
    c = max(1, int((2 * below <= 1 - level + 1e-12).sum()))
    reached = float(1 - 2 * below[c - 1])
    return Effect(float(statistics.median(walsh)), walsh[c - 1], walsh[-c], reached)


def holm(ps: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p of each: it controls the error of the whole family.

        p'_(k) = max over j <= k of min(1, (m - j + 1) p_(j)),   p_(1) <= ... <= p_(m)

    Examples:
        >>> holm([0.25, 0.125, 0.5])
        [0.5, 0.375, 0.5]
    """
    adjusted, largest = [0.0] * len(ps), 0.0
    for place, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - place) * ps[index]))
        adjusted[index] = largest
    return adjusted


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the first and the third quartile, interpolated; infinite where one is next to them.

    Examples:
        >>> quartiles([1, 2, 3, 4, math.inf])
        (2.0, 4.0)
    """
    ranked = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ranked) - 1)
        low, high = ranked[math.floor(place)], ranked[math.ceil(place)]
        return float(low) if low == high else low + (place - math.floor(place)) * (high - low)

    return at(0.25), at(0.75)


def least_p(seeds: int, pairs: int) -> float:
    """Return the least p after Holm that so many seeds can reach, with so many pairs.

    Examples:
        >>> least_p(10, 21)
        0.041015625
    """
    return min(1.0, pairs * 2.0 ** (1 - seeds))


def seeds_needed(pairs: int) -> int:
    """Return how many seeds let a pair be significant at all.

    Examples:
        >>> seeds_needed(21)
        10
    """
    return next(n for n in range(1, 1000) if least_p(n, pairs) <= ALPHA)


def kendall(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Return Kendall's tau and its two-sided p, exact without ties; NaN without an order."""
    found = stats.kendalltau(x, y)
    return float(found.statistic), float(found.pvalue)


def _ranked(d: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return signs and doubled mid-ranks, whole numbers, of the differences that are not zero."""
    kept = np.array([x for x in d if x != 0], float)
    return np.sign(kept), np.rint(2 * stats.rankdata(np.abs(kept))).astype(int)


def _null(doubled: np.ndarray) -> np.ndarray:
    """Return the probabilities of 2 W = 0, 1, 2, ... where every sign is a coin's."""
    p = np.zeros(int(doubled.sum()) + 1)
    p[0] = 1
    for rank in doubled:
        moved = p[: len(p) - rank] / 2
        p /= 2
        p[rank:] += moved
    return p


def _between(x: float, y: float) -> float:
    return 0.0 if x == -y else x if math.isinf(x) else y if math.isinf(y) else (x + y) / 2
