"""Timing in alternating rounds: A B C A B C, so that a noisy moment hits everyone alike.

Calls are warm: they have run twice before, and a short one is preceded each time by one that is
not timed, which fills the caches and outlasts threads of the one before that still spin.
"""

import math
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)
SHORT = 0.02  # seconds
BUDGET = 3.0  # seconds for all the rounds together
FEWEST, MOST = 3, 100
UNSTEADY = 1.5  # median over minimum of a call's times; 1.1 or less where nothing else runs


def clock(call: Callable[[], Any], synchronise: Callable[[], None]) -> float:
    """Seconds of one call; what it returned is freed after the clock has stopped."""
    synchronise()
    start = time.perf_counter()
    returned = call()
    synchronise()
    seconds = time.perf_counter() - start
    del returned
    return seconds


def alternate(
    calls: Mapping[Key, Callable[[], Any]],
    rounds: int | None,
    synchronise: Callable[[], None] = lambda: None,
    budget: float | None = None,
) -> dict[Key, list[float]]:
    """Time every call once a round, in the mapping's order.

    Args:
        calls: what to time, each already called once.
        rounds: how many; None for as many as fit into the budget, within limits.
        synchronise: waits until a device has finished.
        budget: seconds for all the rounds together; None for `BUDGET`.

    Returns:
        Seconds of every call in every round, the i-th of each from the same round.
    """
    warm = {key: clock(call, synchronise) for key, call in calls.items()}
    if rounds is None:
        a_round = sum(seconds * (2 if seconds < SHORT else 1) for seconds in warm.values())
        rounds = min(max(math.ceil((budget or BUDGET) / a_round), FEWEST), MOST)
    seconds: dict[Key, list[float]] = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():
            if warm[key] < SHORT:
                clock(call, synchronise)
            seconds[key].append(clock(call, synchronise))
    return seconds


def times_as_fast(
    mine: list[float], baseline: list[float] | None
) -> tuple[float | None, float | None]:
    """How many times as fast as the baseline, by the minima and by the median of paired rounds."""
    if baseline is None:
        return None, None
    paired = [theirs / ours for ours, theirs in zip(mine, baseline, strict=True)]
    return min(baseline) / min(mine), statistics.median(paired)
