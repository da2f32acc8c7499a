"""The league's statistics against scipy, and against every assignment of signs."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from scipy import stats

from bptt_lab.commands.league.statistics import (
    differences,
    hodges_lehmann,
    holm,
    kendall,
    least_p,
    rank_biserial,
    seeds_needed,
    wilcoxon,
)

INF = math.inf


def by_enumeration(d: list[float]) -> float:
    """Wilcoxon's p by all assignments of signs, ranks counted by hand."""
    kept = [x for x in d if x]
    sizes = [abs(x) for x in kept]
    ranks = [
        sum(other < size for other in sizes) + (sum(other == size for other in sizes) + 1) / 2
        for size in sizes
    ]
    middle = sum(ranks) / 2
    seen = abs(sum(rank for rank, x in zip(ranks, kept, strict=True) if x > 0) - middle)
    signs = [*itertools.product((0, 1), repeat=len(kept))]
    far = [
        abs(sum(rank * sign for rank, sign in zip(ranks, each, strict=True)) - middle) >= seen
        for each in signs
    ]
    return sum(far) / len(signs)


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_wilcoxon_is_scipys_exact_one_without_ties(n: int) -> None:
    for d in np.random.default_rng(n).normal(0.3, 1, (20, n)):
        exact = stats.wilcoxon(d, method="exact").pvalue
        assert wilcoxon(d.tolist()) == pytest.approx(float(exact), abs=1e-14)


TIED = [
    [1.0, 1, 1, -1, 2],
    [0.0, 0, 1, -2, 2, 3],
    [0.0, 0, 0],
    [3.0, 3, 3, 3],
    [INF, 1, -2, 3],
    [INF, INF, -INF, 0.5, 0.0],
    [-1.0],
    [],
]


@pytest.mark.parametrize("d", TIED)
def test_wilcoxon_with_ties_zeros_and_infinities_is_the_enumerated_one(d: list[float]) -> None:
    assert wilcoxon(d) == pytest.approx(by_enumeration(d), abs=1e-14)
    assert wilcoxon([-x for x in d]) == pytest.approx(wilcoxon(d), abs=1e-14)


def test_wilcoxon_of_many_seeds_is_near_the_normal_one() -> None:
    d = np.random.default_rng(0).normal(0.1, 1, 200)
    normal = float(stats.wilcoxon(d, method="asymptotic").pvalue)
    assert wilcoxon(d.tolist()) == pytest.approx(normal, rel=0.01)


def test_holm_by_hand() -> None:
    # 4 * .01, 3 * .02, then 2 * .03 = .06 is not below .06, and 1 * .04 is raised to it.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("n", [7, 9])
def test_the_interval_is_what_the_test_does_not_refuse(n: int) -> None:
    d = np.random.default_rng(n).normal(0.5, 1, n).tolist()
    found = hodges_lehmann(d)
    assert found.level >= 0.95
    inside, outside = 1e-9, -1e-9
    for edge, inward in ((found.low, 1), (found.high, -1)):
        assert by_enumeration([x - edge - inward * inside for x in d]) > 0.05
        assert by_enumeration([x - edge - inward * outside for x in d]) <= 0.05
    averages = [(d[i] + d[j]) / 2 for i in range(n) for j in range(i, n)]
    assert found.middle == pytest.approx(statistics.median(averages))
    coverage = (
        1
        - 2
        * sum(
            sum(each) <= sorted(averages).index(found.low)
            for each in itertools.product(*((0, k) for k in range(1, n + 1)))
        )
        / 2**n
    )
    assert found.level == pytest.approx(coverage)


def test_few_seeds_have_the_widest_interval_and_say_its_level() -> None:
    assert hodges_lehmann([2.0]) == (2.0, 2.0, 2.0, 0.0)
    assert hodges_lehmann([1.0, 3.0]) == (2.0, 1.0, 3.0, 0.5)
    assert hodges_lehmann([1.0, 2, 3, 4, 5]) == (3.0, 1.0, 5.0, 0.9375)
    assert hodges_lehmann([1.0, 2, 3, 4, 5, 6]).level == pytest.approx(0.96875)
    assert hodges_lehmann([0.5] * 10)[:3] == (0.5, 0.5, 0.5)


def test_the_interval_covers_as_often_as_it_says() -> None:
    draws = np.random.default_rng(1).standard_t(3, (600, 7))
    found = [hodges_lehmann(d.tolist()) for d in draws]
    level = found[0].level
    covered = sum(each.low <= 0 <= each.high for each in found) / len(found)
    assert abs(covered - level) < 4 * math.sqrt(level * (1 - level) / len(found))


def test_a_diverged_run_is_the_worst_and_two_are_equal() -> None:
    d = differences([INF, 1.0, INF], [2.0, INF, INF])
    assert d == [INF, -INF, 0.0]
    assert rank_biserial(d) == 0 and wilcoxon(d) == 1.0
    one = [INF, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert wilcoxon(one) == wilcoxon([9.0, 1.0, 2.0, 3.0, 4.0, 5.0]) == 2 / 64
    assert hodges_lehmann(one).middle == 3.5 and hodges_lehmann(one).high == INF
    assert hodges_lehmann([INF, -INF]) == (0.0, -INF, INF, 0.5)
    assert hodges_lehmann([INF, INF]).low == INF


def test_rank_biserial_by_hand() -> None:
    assert rank_biserial([3.0, -1, 2]) == pytest.approx((3 + 2 - 1) / 6)
    assert rank_biserial([1.0, 2]) == 1 and rank_biserial([-1.0, -2]) == -1
    assert rank_biserial([0.0, 0.0]) == 0


def test_what_so_many_seeds_can_reach() -> None:
    for n, m in ((5, 1), (10, 21), (9, 21), (1, 3)):
        d = [float(i) for i in range(1, n + 1)]
        assert least_p(n, m) == pytest.approx(holm([wilcoxon(d)] + [1.0] * (m - 1))[0])
    assert least_p(10, 21) <= 0.05 < least_p(9, 21)
    assert [seeds_needed(m) for m in (1, 3, 21)] == [6, 7, 10]


def test_kendall_by_hand() -> None:
    tau, p = kendall([0.1, 0.2, 0.3, 0.4], [5.0, 3.0, 4.0, 1.0])
    assert tau == pytest.approx((1 - 5) / 6)
    orders = [*itertools.permutations(range(4))]
    taus = [
        sum(1 if b > a else -1 for a, b in itertools.combinations(order, 2)) / 6 for order in orders
    ]
    assert p == pytest.approx(sum(abs(t) >= abs(tau) - 1e-12 for t in taus) / len(orders))


def test_equal_rules_are_told_apart_in_few_families() -> None:
    """Of families of six pairs of four equal rules, five in a hundred may err."""
    generator = np.random.default_rng(2)
    families = 200
    wrong = 0
    for _ in range(families):
        logs = generator.normal(0, 1, (10, 1)) + generator.standard_t(3, (10, 4))
        ps = [
            wilcoxon((logs[:, a] - logs[:, b]).tolist())
            for a, b in itertools.combinations(range(4), 2)
        ]
        wrong += min(holm(ps)) <= 0.05
    assert wrong / families < 0.05 + 3 * math.sqrt(0.05 * 0.95 / families)
