"""Influence balancing: 23 linear units in which a short truncation learns the wrong way.

    (1) s_t = A s_{t-1} + theta v,  A = 1/2 on the diagonal and above it, v = +1 (10), -1 (13)
    (2) E_t = (s_t[0] - 1)^2 / 2,  best at theta = -1/6

An input felt at once pushes the first unit up; by the time that all of it has come through, the
sum is negative. As a network: W_hh = A frozen, W_ih = theta v, x_t = 1. The source describes the
system and the effect; the best theta and the sign thresholds were computed from Eq. (1) and (2).
The thresholds are those of long sequences, where what is cut off at the beginning no longer counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from bptt_lab.commands.reproduce.claim import SEEDS, Claim, Result, Trial, claim
from bptt_lab.gradients.artbp import ARTBP
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.gradients.rtrl import RTRL
from bptt_lab.gradients.truncated import Truncated
from bptt_lab.gradients.uoro import UORO
from bptt_lab.nn.rnn import VanillaRNN

SOURCE = "Tallec & Ollivier 2017"
SIZE, POSITIVE = 23, 10
BEST = -1 / 6
NUM_STEPS = 4000  # of a sign threshold's sequence
LONGEST = 130  # horizons tried
LEARNT = "theta to -1/6 +- .001"
Mode = Literal["lag", "window", "chunk"]

V = torch.cat((torch.ones(POSITIVE), -torch.ones(SIZE - POSITIVE))).double()


def network(gradient: GradientStrategy, theta: float) -> VanillaRNN:
    """Eq. (1) for one theta."""
    rnn = VanillaRNN(
        1, SIZE, nonlinearity="identity", bias=False, dtype=torch.float64, gradient=gradient
    )
    weight_ih, weight_hh = rnn.all_weights[0]
    with torch.no_grad():
        weight_hh.copy_((torch.eye(SIZE) + torch.eye(SIZE).roll(1, 1).triu()) / 2)
        weight_ih.copy_(theta * V[:, None])
    weight_hh.requires_grad_(False)
    return rnn


def loss(output: Tensor) -> Tensor:
    """Eq. (2), mean over steps and sequences."""
    return (output[..., 0] - 1).square().mean() / 2


def slope(rnn: VanillaRNN) -> float:
    """dE/dtheta, from the gradient that W_ih has."""
    grad = rnn.all_weights[0][0].grad
    assert grad is not None
    return float(grad[:, 0] @ V)


def threshold(mode: Mode) -> int:
    """The horizon from which on the gradient at theta = 0 has the right sign, which is +."""
    wrong = 0
    for horizon in range(1, LONGEST + 1):
        whole_chunks = -(-NUM_STEPS // horizon) * horizon
        input = torch.ones(whole_chunks, 1, 1, dtype=torch.float64)
        if mode == "window":
            rnn = network(Truncated(k=2 * horizon, mode=mode, k1=horizon), 0.0)
        else:
            rnn = network(Truncated(k=horizon, mode=mode), 0.0)
        loss(rnn(input)[0]).backward()  # type: ignore[no-untyped-call]
        if slope(rnn) <= 0:
            wrong = horizon
    return wrong + 1


def sign(mode: Mode, expected: int) -> Claim:
    """The horizon from which on a mode of truncation learns the right way."""
    said = f"{'(h,2h): ' * (mode == 'window')}sign right from {expected}"

    @claim("derived", SOURCE, said, name=mode, tested_on=())
    def measure(trial: Trial) -> Result:
        found = threshold(mode)
        return Result(found == expected, f"right from {found}")

    return measure


def learn(
    gradient: GradientStrategy, batch_size: int, chunk_length: int, num_updates: int, lr: float
) -> tuple[float, float]:
    """Learn theta by plain gradient descent on endless streams, from 0.

    Returns:
        The last theta, or the first one further than 1 from the best; and the furthest.
    """
    rnn, theta, furthest = network(gradient, 0.0), 0.0, 0.0
    input = torch.ones(chunk_length, batch_size, 1, dtype=torch.float64)
    carry = gradient.init_carry(rnn, batch_size)
    for _ in range(num_updates):
        rnn.zero_grad()
        output, carry = gradient.unroll(rnn, input, carry)
        loss(output).backward()  # type: ignore[no-untyped-call]
        theta -= lr * slope(rnn)
        furthest = max(furthest, abs(theta - BEST))
        if not math.isfinite(theta) or furthest > 1:
            break
        with torch.no_grad():
            rnn.all_weights[0][0].copy_(theta * V[:, None])
    return theta, furthest


def _learnt(
    trial: Trial, make: Callable[[int], GradientStrategy], sizes: tuple[int, int, int], lr: float
) -> Result:
    """Learn theta for each seed; the sizes are those of `learn`."""
    found = [learn(make(seed), *sizes, lr)[0] for seed in trial.seeds]
    worst = max(found, key=lambda theta: abs(theta - BEST))
    return Result(abs(worst - BEST) < 1e-3, f"theta {worst:.5f}")


@claim("derived", SOURCE, LEARNT, tested_on=(0,))
def rtrl_learns(trial: Trial) -> Result:
    """RTRL, a step at a time."""
    return _learnt(trial, lambda seed: RTRL(), (1, 1, 3000), 1e-4)


@claim("derived", "Tallec & Ollivier 2018", LEARNT, **SEEDS)
def uoro_learns(trial: Trial) -> Result:
    """UORO, 10 steps at a time, on 16 streams."""
    return _learnt(trial, lambda seed: UORO(seed=seed), (16, 10, 1500), 2e-4)


@claim("derived", SOURCE, f"{LEARNT}, mean length 16", **SEEDS)
def artbp_learns(trial: Trial) -> Result:
    """ARTBP, 500 steps at a time."""
    return _learnt(trial, lambda seed: ARTBP(mean_length=16, seed=seed), (1, 500, 1000), 3e-3)


@claim("derived", SOURCE, "chunk 16: theta grows", tested_on=())
def truncated_diverges(trial: Trial) -> Result:
    """Chunks of 16, as long as ARTBP's are on average, at the step size that suits ARTBP."""
    theta, furthest = learn(Truncated(k=16, mode="chunk"), 1, 480, 1000, 1e-2)
    return Result(furthest > 1 and theta > 0, f"theta {theta:+.2f} and growing")


CLAIMS = [
    sign("lag", 41),
    sign("window", 29),
    sign("chunk", 110),
    rtrl_learns,
    uoro_learns,
    artbp_learns,
    truncated_diverges,
]
