"""Influence balancing: 23 linear units in which a short truncation learns the wrong way.

    (1) s_t = A s_{t-1} + theta v,  A = 1/2 on the diagonal and above it, v = +1 (10), -1 (13)
    (2) E_t = (s_t[0] - 1)^2 / 2,  best at theta = -1/6

An input felt at once pushes the first unit up; by the time that all of it has come through, the
sum is negative. As a network: W_hh = A frozen, W_ih = theta v, x_t = 1. The source describes the
system and the effect; the best theta and the sign thresholds were computed from Eq. (1) and (2).
A leak keeps 1 - leak of the state from a step to the next, and moves no best theta.
The thresholds are those of losses with whole windows before them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from bptt_lab.commands.reproduce.nets import net
from bptt_lab.commands.reproduce.topics import MORE_SEEDS, Claim, Result, Trial, claim, greatest
from bptt_lab.gradients.artbp import ARTBP
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.gradients.rtrl import RTRL
from bptt_lab.gradients.truncated import Truncated
from bptt_lab.gradients.uoro import UORO
from bptt_lab.nn.rnn import VanillaRNN

SOURCE = "Tallec & Ollivier 2017"
SIZE, POSITIVE = 23, 10
BEST = -1 / 6
LEAKS = (1.0, 0.5)
Mode = Literal["lag", "window", "chunk"]

A = (torch.eye(SIZE) + torch.eye(SIZE).roll(1, 1).triu()).double() / 2
V = torch.cat((torch.ones(POSITIVE), -torch.ones(SIZE - POSITIVE))).double()


def network(gradient: GradientStrategy, leak: float) -> VanillaRNN:
    """Eq. (1) for theta = 0."""
    rnn = net(gradient, 0, (1, SIZE, 1), nonlinearity="identity", bias=False, leak=leak)
    weight_ih, weight_hh = rnn.all_weights[0]
    weight_hh.requires_grad_(False).copy_(A)
    weight_ih.data.zero_()
    return rnn


def loss(output: Tensor) -> Tensor:
    """Eq. (2), mean over steps and sequences."""
    return (output[..., 0] - 1).square().mean() / 2


def slope(rnn: VanillaRNN) -> float:
    """dE/dtheta, from the gradient that W_ih has."""
    grad = rnn.all_weights[0][0].grad
    assert grad is not None
    return float(grad[:, 0] @ V)


def threshold(mode: Mode, leak: float, expected: int) -> int:
    """The horizon from which on the gradient at theta = 0 has the right sign, which is +.

    Only horizons near the expected one are tried, and a few beyond.
    """
    wrong = 0
    for horizon in (*range(expected - 3, expected + 3), expected + 9, 2 * expected):
        periods = 400 if mode == "chunk" else 4
        input = torch.ones(periods * horizon, 1, 1, dtype=torch.float64)
        window = mode == "window"
        k, k1 = (2 * horizon, horizon) if window else (horizon, None)
        rnn = network(Truncated(k=k, mode=mode, k1=k1), leak)
        settled_down = rnn(input)[0][2 * horizon :]  # whole windows lie before these losses
        loss(settled_down).backward()  # type: ignore[no-untyped-call]
        if slope(rnn) <= 0:
            wrong = horizon
    return wrong + 1


def sign(mode: Mode, *expected: int) -> Claim:
    """The horizon from which on a mode of truncation learns the right way, for each leak."""
    said = (
        f"{'(h,2h): ' * (mode == 'window')}sign right from {expected[0]}; leak 1/2: {expected[1]}"
    )

    @claim("derived", SOURCE, said, name=mode, tested_on=())
    def measure(trial: Trial) -> Result:
        found = tuple(threshold(mode, *each) for each in zip(LEAKS, expected, strict=True))
        return Result(found == expected, f"right from {found[0]}; {found[1]}")

    return measure


def learn(
    gradient: GradientStrategy, sizes: tuple[int, int, int], lr: float, leak: float = 1.0
) -> tuple[list[float], list[float]]:
    """Learn theta on endless streams, until it is further than 1 from the best.

    `sizes` are those of the batch, of a chunk, and the number of updates. Returned are theta before
    the first and after each of them, and dE/dtheta in each.
    """
    batch_size, chunk_length, num_updates = sizes
    thetas, slopes = [0.0], list[float]()
    rnn = network(gradient, leak)
    input = torch.ones(chunk_length, batch_size, 1, dtype=torch.float64)
    carry = gradient.init_carry(rnn, batch_size)
    while len(slopes) < num_updates and abs(thetas[-1] - BEST) <= 1:
        rnn.all_weights[0][0].data.copy_(thetas[-1] * V[:, None])
        rnn.zero_grad()
        output, carry = gradient.unroll(rnn, input, carry)
        loss(output).backward()  # type: ignore[no-untyped-call]
        slopes.append(slope(rnn))
        thetas.append(thetas[-1] - lr * slopes[-1])
    return thetas, slopes


def off_textbook(
    thetas: Sequence[float], slopes: Sequence[float], num_steps: int, leak: float, cut: int = 0
) -> float:
    """How far a slope is from Eq. (1) differentiated: s and z = ds/dtheta go on.

    Each theta holds for so many steps, and z begins anew every `cut` of them.
    """
    J = (1 - leak) * torch.eye(SIZE).double() + leak * A
    s = z = torch.zeros(SIZE).double()
    off = 0.0
    for theta, found in zip(thetas, slopes, strict=False):
        total = 0.0
        for t in range(num_steps):
            s = J @ s + leak * theta * V
            z = J @ z * (not cut or t % cut > 0) + leak * V
            total += float((s[0] - 1) * z[0]) / num_steps
        off = greatest(off, abs(found - total))
    return off


def settled(thetas: Sequence[float]) -> int:
    """The update from which on theta stays within 1e-4 of the best; 0 where it does not."""
    if abs(thetas[-1] - BEST) > 1e-4:
        return 0
    return 1 + max(i for i, theta in enumerate(thetas) if abs(theta - BEST) > 1e-4)


@claim(
    "derived",
    SOURCE,
    "as Eq. (1) differentiated, to 1e-9; theta to -1/6 +- 1e-4",
    tested_on=(),
    seconds=3,
)
def rtrl_learns(trial: Trial) -> Result:
    """RTRL, a step at a time, with either leak."""
    runs = {leak: learn(RTRL(), (1, 1, 1300), 1e-4, leak) for leak in LEAKS}
    worst = greatest(*(off_textbook(*run, 1, leak) for leak, run in runs.items()))
    theta = runs[1.0][0][-1]
    good = worst < 1e-9 and abs(theta - BEST) < 1e-4
    return Result(good, f"off by {worst:.0e}; theta {theta:.5f}")


def _learns(
    name: str,
    source: str,
    strategy: Callable[..., GradientStrategy],
    sizes: tuple[int, int, int],
    lr: float,
    band: tuple[int, int],
    seconds: float,
) -> Claim:
    """Claim that theta settles at the best within a band of updates."""
    said = f"theta to -1/6 +- 1e-4 for good after {band[0]} to {band[1]} updates"

    @claim("derived", source, said, name=name, seconds=seconds, **MORE_SEEDS)
    def measure(trial: Trial) -> Result:
        found = [settled(learn(strategy(seed=seed), sizes, lr)[0]) for seed in trial.seeds]
        return Result(all(band[0] <= each <= band[1] for each in found), f"after {found}")

    return measure


@claim("derived", SOURCE, "chunk 16: theta grows as Eq. (1) differentiated says", tested_on=())
def truncated_diverges(trial: Trial) -> Result:
    """Chunks of 16, as long as ARTBP's are on average, with either leak."""
    strategy = Truncated(k=16, mode="chunk")
    runs = {leak: learn(strategy, (1, 480, 100), 3e-3, leak) for leak in LEAKS}
    worst = greatest(*(off_textbook(*run, 480, leak, 16) for leak, run in runs.items()))
    said = ", ".join(f"{thetas[-1]:+.2f} after {len(slopes)}" for thetas, slopes in runs.values())
    good = worst < 1e-9 and all(thetas[-1] >= BEST + 1 for thetas, _ in runs.values())
    return Result(good, f"theta {said} updates, off by {worst:.0e}")


ARTBP_16 = functools.partial(ARTBP, mean_length=16)
CLAIMS = [
    sign("lag", 41, 83),
    sign("window", 29, 58),
    sign("chunk", 110, 221),
    rtrl_learns,
    _learns("uoro_learns", "Tallec & Ollivier 2018", UORO, (16, 10, 1200), 2e-4, (300, 1200), 8),
    _learns("artbp_learns", SOURCE, ARTBP_16, (1, 500, 200), 3e-3, (20, 140), 0.6),
    truncated_diverges,
]
