"""Truncation as Williams & Peng define it: how many losses of BPTT(h; h') keep each lag.

Every h' steps, their algorithm sweeps h steps back: it is the window with k = h, k1 = h'.
"""

from __future__ import annotations

from bptt_lab.commands.reproduce.claim import Result, Trial, claim
from bptt_lab.gradients.truncated import Truncated

PAIRS = [(h, every) for h in (1, 2, 3, 5, 8, 12) for every in (1, 2, 3, 5, 8, 12) if every <= h]


@claim("derived", "Williams & Peng 1990", "share of losses min(1, (h-l)/h')", tested_on=())
def lag_weights(trial: Trial) -> Result:
    """The share of losses that keep their term of lag l, over whole periods in the interior."""
    worst = 0.0
    for h, every in PAIRS:
        T = h + 20 * every
        mask = Truncated(k=h, mode="window", k1=every).mask(T + every)
        interior = slice(-(-h // every) * every, T // every * every)  # whole periods
        for lag in range(h + 2):
            kept = mask.diagonal(-lag).float()  # entry j: loss time lag + 1 + j
            losses = kept[interior.start - lag : interior.stop - lag]
            expected = max(0.0, min(1.0, (h - lag) / every))
            worst = max(worst, abs(float(losses.mean()) - expected))
    return Result(worst < 1e-6, f"{len(PAIRS)} pairs, largest difference {worst:.1e}")


CLAIMS = [lag_weights]
