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

from bptt_lab.commands.reproduce.claim import Claim, Measure, Result, Trial
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
SET_ON, TESTED_ON = range(3), range(10, 13)

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


def threshold(make: Callable[[int], GradientStrategy]) -> Callable[[], int]:
    """The horizon from which on the gradient at theta = 0 has the right sign, which is +."""

    def find() -> int:
        right = []
        for horizon in range(1, LONGEST + 1):
            whole_chunks = -(-NUM_STEPS // horizon) * horizon
            input = torch.ones(whole_chunks, 1, 1, dtype=torch.float64)
            rnn = network(make(horizon), 0.0)
            loss(rnn(input)[0]).backward()  # type: ignore[no-untyped-call]
            right.append(slope(rnn) > 0)
        wrong = [h for h, good in enumerate(right, 1) if not good]
        return wrong[-1] + 1

    return find


def _truncated(mode: Literal["lag", "window", "chunk"]) -> Callable[[int], GradientStrategy]:
    def make(h: int) -> GradientStrategy:
        if mode == "window":
            return Truncated(k=2 * h, mode=mode, k1=h)
        return Truncated(k=h, mode=mode)

    return make


def _sign(mode: Literal["lag", "window", "chunk"], expected: int) -> Measure:
    def measure(trial: Trial) -> Result:
        found = threshold(_truncated(mode))()
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


def _learns(
    make: Callable[[int], GradientStrategy],
    *,
    streams: int,
    chunk_length: int,
    num_updates: int,
    lr: float,
) -> Measure:
    def measure(trial: Trial) -> Result:
        found = [
            learn(make(seed), streams, chunk_length, num_updates, lr)[0] for seed in trial.seeds
        ]
        worst = max(found, key=lambda theta: abs(theta - BEST))
        return Result(abs(worst - BEST) < 1e-3, f"theta {worst:.5f}")

    return measure


def diverges(trial: Trial) -> Result:
    """Chunks of 16, as long as ARTBP's are on average, at the step size that suits ARTBP."""
    theta, furthest = learn(_truncated("chunk")(16), 1, 480, 1000, 1e-2)
    return Result(furthest > 1 and theta > 0, f"theta {theta:+.2f} and growing")


def _signs(name: Literal["lag", "window", "chunk"], expected: int) -> Claim:
    return Claim(
        name=name,
        kind="derived",
        source=SOURCE,
        expected=f"{'(h,2h): ' * (name == 'window')}sign right from {expected}",
        measure=_sign(name, expected),
        tested_on=(),
    )


LEARNT = "theta to -1/6 +- .001"
CLAIMS = [
    _signs("lag", 41),
    _signs("window", 29),
    _signs("chunk", 110),
    Claim(
        name="rtrl_learns",
        kind="derived",
        source=SOURCE,
        expected=LEARNT,
        measure=_learns(lambda seed: RTRL(), streams=1, chunk_length=1, num_updates=3000, lr=1e-4),
        tested_on=(0,),
    ),
    Claim(
        name="uoro_learns",
        kind="derived",
        source="Tallec & Ollivier 2018",
        expected=LEARNT,
        measure=_learns(
            lambda seed: UORO(seed=seed), streams=16, chunk_length=10, num_updates=1500, lr=2e-4
        ),
        set_on=SET_ON,
        tested_on=TESTED_ON,
    ),
    Claim(
        name="artbp_learns",
        kind="derived",
        source=SOURCE,
        expected=f"{LEARNT}, mean length 16",
        measure=_learns(
            lambda seed: ARTBP(mean_length=16, seed=seed),
            streams=1,
            chunk_length=500,
            num_updates=1000,
            lr=3e-3,
        ),
        set_on=SET_ON,
        tested_on=TESTED_ON,
    ),
    Claim(
        name="truncated_diverges",
        kind="derived",
        source=SOURCE,
        expected="chunk 16: theta grows",
        measure=diverges,
        tested_on=(),
    ),
]
