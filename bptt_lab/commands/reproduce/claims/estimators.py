"""Unbiased estimators: KF-RTRL is several times less noisy than UORO, the more the more units.

The source proves that the noise is smaller by a factor that grows with the units. The 3 at 16 units
is ours.
"""

from __future__ import annotations

import torch

from bptt_lab import diagnostics
from bptt_lab.commands.reproduce.claim import SEEDS, Result, Trial, claim
from bptt_lab.gradients.kf_rtrl import KFRTRL
from bptt_lab.gradients.uoro import UORO
from bptt_lab.nn.initialisation import initialise
from bptt_lab.nn.rnn import VanillaRNN

SOURCE = "Mujika, Meier & Steger 2018"
DRAWS = 200
T, N, I = 30, 4, 3


def ratio(hidden_size: int, seed: int) -> float:
    """How many times UORO's variance is KF-RTRL's, on a random net and a random target."""
    draws = torch.Generator().manual_seed(seed)
    rnn = VanillaRNN(I, hidden_size)
    initialise(rnn, "orthogonal", 1.0, None, draws)
    input = torch.randn(T, N, I, generator=draws)
    target = torch.randn(T, N, hidden_size, generator=draws)
    strategies = {"uoro": UORO(seed=seed), "kf_rtrl": KFRTRL(seed=seed)}
    aligned = diagnostics.alignment(
        rnn, input, lambda h: (h - target).square().mean(), strategies, draws=DRAWS
    )
    return aligned["uoro"].variance.value / aligned["kf_rtrl"].variance.value


@claim("regression", SOURCE, "H = 16: several times below, > 3", **SEEDS)
def variance_kf_rtrl_below_uoro(trial: Trial) -> Result:
    """The ratio at H = 16."""
    found = [ratio(16, seed) for seed in trial.seeds]
    return Result(min(found) > 3, f"{min(found):.1f} to {max(found):.1f} times")


@claim("published", SOURCE, "H = 8/16/32: ratio rises", **SEEDS)
def ratio_grows_with_units(trial: Trial) -> Result:
    """The ratio at H = 8, 16 and 32."""
    found = [[ratio(size, seed) for size in (8, 16, 32)] for seed in trial.seeds]
    good = all(row == sorted(row) for row in found)
    said = "; ".join("/".join(f"{value:.1f}" for value in row) for row in found)
    return Result(good, said)


CLAIMS = [variance_kf_rtrl_below_uoro, ratio_grows_with_units]
