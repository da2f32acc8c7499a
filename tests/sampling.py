"""Samples of products of settings: few enough for every change, the whole for `make test-slow`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import pytest


def pairwise(*axes: Iterable[Any]) -> list[Any]:
    """All combinations as parameters; all are slow but some that hold every pair of values.

    Returns:
        One pytest.param a combination, in the order of itertools.product.
    """
    values = [list(axis) for axis in axes]
    rows = [*itertools.product(*(range(len(axis)) for axis in values))]
    left = {pair for row in rows for pair in _pairs(row)}
    chosen = set()
    while left:
        best = max(rows, key=lambda row: len(left.intersection(_pairs(row))))
        chosen.add(best)
        left.difference_update(_pairs(best))
    return [
        pytest.param(
            *(axis[i] for axis, i in zip(values, row, strict=True)),
            marks=() if row in chosen else pytest.mark.slow,
        )
        for row in rows
    ]


def _pairs(row: Sequence[int]) -> set[tuple[tuple[int, int], ...]]:
    return set(itertools.combinations(enumerate(row), 2))
