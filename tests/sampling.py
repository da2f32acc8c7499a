"""Samples of products of settings: few enough for every change, the whole for `make test-slow`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import pytest

whole = True  # whether whole products are made; thousands of parameters take seconds to collect


def every(step: int, values: Iterable[Any]) -> list[Any]:
    """All values as parameters, marked slow but for one in `step`."""
    return [
        pytest.param(value, marks=pytest.mark.slow if number % step else ())
        for number, value in enumerate(values)
    ]


def pairwise(*axes: Iterable[Any]) -> list[Any]:
    """Combinations as parameters: some that hold every pair of values, and all others as slow.

    Returns:
        One pytest.param a combination, in the order of itertools.product. Where no slow test is
        selected they are those of the sample alone.
    """
    values = [list(axis) for axis in axes]
    ranges = [range(len(axis)) for axis in values]
    chosen = _sample(ranges)
    rows = itertools.product(*ranges) if whole else sorted(chosen)
    return [
        pytest.param(
            *(axis[i] for axis, i in zip(values, row, strict=True)),
            marks=() if row in chosen else pytest.mark.slow,
        )
        for row in rows
    ]


def _sample(ranges: Sequence[range]) -> set[tuple[int, ...]]:
    """Rows that hold every pair: each takes a pair that is left, then what holds most of them."""
    axes = itertools.combinations(enumerate(ranges), 2)
    left = {((a, i), (b, j)) for (a, one), (b, other) in axes for i in one for j in other}
    chosen = set()
    while left:
        row = dict(min(left))
        for axis, values in enumerate(ranges):
            if axis not in row:
                row[axis] = max(values, key=partial(_added, row, axis, left))
        held = tuple(row[axis] for axis in range(len(ranges)))
        chosen.add(held)
        left.difference_update(itertools.combinations(enumerate(held), 2))
    return chosen


def _added(row: dict[int, int], axis: int, left: set[Any], value: int) -> int:
    """How many of the pairs that are left a value of an axis adds to a row."""
    own = axis, value
    return sum(tuple(sorted((own, item))) in left for item in row.items())
