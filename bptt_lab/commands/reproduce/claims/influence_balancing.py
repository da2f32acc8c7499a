"""Influence balancing: 23 linear units in which a short truncation learns the wrong way.

    (1) s_t = A s_{t-1} + theta v,  A = 1/2 on the diagonal and above it, v = +1 (10), -1 (13)
    (2) E_t = (s_t[0] - 1)^2 / 2,  best at theta = -1/6

An input felt at once pushes the first unit up; by the time that all of it has come through, the
sum is negative. As a network: W_hh = A frozen, W_ih = theta v, x_t = 1. The sign thresholds are
those of long sequences, where what is cut off at the beginning no longer counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from bptt_lab.commands.reproduce.claim import Claim, Result, Trial
from bptt_lab.gradients.base import GradientStrategy
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
        from bptt_lab.gradients.truncated import Truncated

        return (
            Truncated(k=2 * h, mode=mode, k1=h) if mode == "window" else Truncated(k=h, mode=mode)
        )

    return make


def _sign(mode: Literal["lag", "window", "chunk"], expected: int) -> Callable[[Trial], Result]:
    def check(trial: Trial) -> Result:
        found = threshold(_truncated(mode))()
        return Result(found == expected, f"right from {found}")

    return check


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
) -> Callable[[Trial], Result]:
    def check(trial: Trial) -> Result:
        found = [
            learn(make(seed), streams, chunk_length, num_updates, lr)[0] for seed in trial.seeds
        ]
        worst = max(found, key=lambda theta: abs(theta - BEST))
        return Result(abs(worst - BEST) < 1e-3, f"theta {worst:.5f}")

    return check


def _rtrl(seed: int) -> GradientStrategy:
    from bptt_lab.gradients.rtrl import RTRL

    return RTRL()


def _uoro(seed: int) -> GradientStrategy:
    from bptt_lab.gradients.uoro import UORO

    return UORO(seed=seed)


def _artbp(seed: int) -> GradientStrategy:
    from bptt_lab.gradients.artbp import ARTBP

    return ARTBP(mean_length=16, seed=seed)


def diverges(trial: Trial) -> Result:
    """Chunks of 16, as long as ARTBP's are on average, at the step size that suits ARTBP."""
    theta, furthest = learn(_truncated("chunk")(16), 1, 480, 1000, 1e-2)
    return Result(furthest > 1 and theta > 0, f"theta {theta:+.2f} and growing")


LEARNT = "theta to -1/6 +- .001"
CLAIMS = [
    Claim("lag", SOURCE, "sign right from 41", _sign("lag", 41), tested_on=()),
    Claim("window", SOURCE, "(h,2h): sign right from h = 29", _sign("window", 29), tested_on=()),
    Claim("chunk", SOURCE, "sign right from 110", _sign("chunk", 110), tested_on=()),
    Claim(
        "rtrl_learns",
        SOURCE,
        LEARNT,
        _learns(_rtrl, streams=1, chunk_length=1, num_updates=3000, lr=1e-4),
        tested_on=(0,),
    ),
    Claim(
        "uoro_learns",
        SOURCE,
        LEARNT,
        _learns(_uoro, streams=16, chunk_length=10, num_updates=1500, lr=2e-4),
        SET_ON,
        TESTED_ON,
    ),
    Claim(
        "artbp_learns",
        SOURCE,
        LEARNT + ", mean length 16",
        _learns(_artbp, streams=1, chunk_length=500, num_updates=1000, lr=3e-3),
        SET_ON,
        TESTED_ON,
    ),
    Claim("truncated_diverges", SOURCE, "chunk 16: theta grows", diverges, tested_on=()),
]
