"""Adaptive truncation: a bound on the bias of every lag.

With W_hh = beta Q, Q orthogonal, and phi the identity, credit shrinks by beta a step, so that

    (1) |g - g_K| <= M sum_{d>=K} phi_d,  phi_d = beta^d phi_0

M is the norm of the immediate Jacobian, and phi_0 the sum over the losses of |q_t|.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bptt_lab import diagnostics
from bptt_lab.commands.reproduce.claim import Result, Trial, claim
from bptt_lab.nn.initialisation import initialise
from bptt_lab.nn.rnn import VanillaRNN

SOURCE = "Aicher, Foti & Fox 2019"
SEEDS = range(10, 13)
T, I, H, BETA = 120, 3, 12, 0.9


def _net(seed: int) -> tuple[VanillaRNN, Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    rnn = VanillaRNN(I, H, nonlinearity="identity", bias=False, dtype=torch.float64)
    initialise(rnn, "orthogonal", BETA, None, draws)
    input = torch.randn(T, 1, I, generator=draws).double()
    return rnn, input, torch.randn(T, 1, H, generator=draws).double()


def _weighted(q: Tensor) -> Callable[[Tensor], Tensor]:
    """A loss whose immediate credit is q."""
    return lambda output: (output * q).sum()


@claim("published", SOURCE, "bias <= M sum_{d>=K} phi_d, every K", tested_on=SEEDS)
def bias_bound(trial: Trial) -> Result:
    """Eq. (1) for every K."""
    tightest, broken = float("inf"), 0
    for seed in trial.seeds:
        rnn, input, q = _net(seed)
        spectrum = diagnostics.lag_spectrum(rnn, input, _weighted(q))
        size = sum(float(g.square().sum()) for g in spectrum.full.values()) ** 0.5
        bias = spectrum.relative_error["total"] * size
        with torch.no_grad():
            h_tm1 = torch.cat((torch.zeros(1, 1, H).double(), rnn(input)[0][:-1]))
        M = float(torch.cat((input, h_tm1), -1).norm(dim=-1).max())
        phi_0 = float(q.norm(dim=-1).sum())
        for K in range(1, T):
            limit = M * phi_0 * (BETA**K - BETA**T) / (1 - BETA)
            broken += float(bias[K - 1]) > limit
            tightest = min(tightest, limit / max(float(bias[K - 1]), 1e-300))
    return Result(broken == 0, f"broken {broken} times, at best {tightest:.1f} times the bias")


@claim("derived", SOURCE, "phi_d = beta^d phi_0", tested_on=SEEDS)
def geometric_decay(trial: Trial) -> Result:
    """phi_d / phi_0 = beta^d, measured as the length of dE_t/dh_{t-d}."""
    worst = 0.0
    for seed in trial.seeds:
        rnn, input, q = _net(seed)
        flow = diagnostics.credit_flow(rnn, input, _weighted(q))
        lags = torch.arange(T, dtype=torch.float64)
        lengths = torch.stack([flow.log10[0].diagonal(-d).mean() for d in range(T)])
        own = torch.stack([flow.log10[0].diagonal()[d:].mean() for d in range(T)])
        worst = max(worst, float((lengths - own - lags * math.log10(BETA)).abs().max()))
    return Result(worst < 1e-9, f"log10 off by {worst:.0e}")


CLAIMS = [bias_bound, geometric_decay]
