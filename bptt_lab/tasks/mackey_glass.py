"""Mackey-Glass: one-step forecasts of a chaotic series made by a delay equation.

    dx/dt = beta x(t - tau) / (1 + x(t - tau)^10) - gamma x(t),  beta 0.2, gamma 0.1, tau 17

To forecast the next value one must remember the value a delay ago.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

import torch
from torch import Tensor

from bptt_lab.core.random import generator
from bptt_lab.core.validation import Ge, Gt, checked
from bptt_lab.tasks.base import Sequences, Split, best_first
from bptt_lab.tasks.codec import Codec
from bptt_lab.tasks.kinds import Forecast, Generated

BETA, GAMMA, EXPONENT = 0.2, 0.1, 10
TAU = 17  # in units of time
SAMPLED = 10  # steps of integration in a unit of time
SETTLED = 1000  # units of time thrown away before the series begins


def mackey_glass(num_samples: int, history: float) -> Tensor:
    """Integrate the equation and sample it once a unit of time, (num_samples) in float64.

    Over less than one delay x(t - tau) is known, so the equation is linear, and with
    y = x e^(gamma t) it reads y' = g(t): a running sum of integrals, each from the cubic through
    four neighbouring points of g (an error of order 4 where g is smooth). Before the series x is
    constant at `history`.
    """
    dt = 1 / SAMPLED
    delay = TAU * SAMPLED
    block = delay - 1
    num_points = delay + 2 + (SETTLED + num_samples) * SAMPLED + block
    x = torch.full((num_points,), history, dtype=torch.float64)
    growth = torch.exp(GAMMA * dt * torch.arange(-1, block + 2, dtype=torch.float64))
    for n in range(delay + 1, num_points - block, block):
        past = x[n - 1 - delay : n + 1]
        g = growth * BETA * past / (1 + past**EXPONENT)
        areas = (13 * (g[1:-2] + g[2:-1]) - g[:-3] - g[3:]) * (dt / 24)
        x[n + 1 : n + 1 + block] = (x[n] + areas.cumsum(0)) / growth[2:-1]
    return x[delay + 1 + SETTLED * SAMPLED :: SAMPLED][:num_samples]


class MackeyGlass(Generated, Forecast):
    """Name the next value at every step after the first 17, one delay.

    One series is cut into sequences end to end, the earliest for training, then validation, then
    test. The seed chooses the history from which the series starts.

    Reference: Mackey and Glass (1977), "Oscillation and chaos in physiological control systems".

    Args:
        num_steps: steps of a sequence.
        train_size: training sequences.
        val_size: validation sequences.
        test_size: test sequences.
        settings: as SequenceDataModule has them.
    """

    @checked
    def __init__(
        self,
        *,
        num_steps: Annotated[int, Gt(TAU)] = 64,
        train_size: Annotated[int, Ge(1)] = 1280,
        val_size: Annotated[int, Ge(1)] = 200,
        test_size: Annotated[int, Ge(1)] = 200,
        **settings: Any,
    ) -> None:
        super().__init__(train_size=train_size, val_size=val_size, test_size=test_size, **settings)
        self.num_steps = num_steps

    @cached_property
    def series(self) -> Tensor:
        """The standardised series, one value more than there are steps, float64."""
        history = 0.5 + torch.rand((), generator=generator(self.seed, "mackey_glass")).item()
        series = mackey_glass(self.num_steps * sum(self.sizes.values()) + 1, history)
        train = series[: self.num_steps * self.sizes["train"] + 1]
        mean, std = train.mean(), train.std(correction=0)
        self.mean, self.std = mean.item(), std.item()
        return (series - mean) / std

    @cached_property
    def persistence(self) -> float:  # type: ignore[override]  # computed at its first use
        """Mean squared difference of neighbours in the training part."""
        return self.series[: self.num_steps * self.sizes["train"] + 1].diff().square().mean().item()

    def sequences(self, split: Split, epoch: int) -> Sequences:
        """Return the sequences of a split, the same in every epoch."""
        train, val = self.sizes["train"], self.sizes["val"]
        begin = {"train": 0, "val": train, "test": train + val}[split] * self.num_steps
        own = self.series[begin : begin + self.sizes[split] * self.num_steps + 1].float()
        parts = own[:-1], own[1:]
        input, target = (part.reshape(-1, self.num_steps).T.unsqueeze(-1) for part in parts)
        mask = torch.ones(input.shape[:2], dtype=torch.bool)
        mask[:TAU] = False
        return Sequences(input, target, mask)

    def codec(self) -> Codec:
        """Return a codec of the series as it was before."""
        _ = self.series  # made at its first use, with its mean
        return super().codec()

    def references(self) -> Mapping[str, Mapping[str, float]]:
        """Repeating the value just read, and always naming the training mean, on the test split."""
        input, target, mask = self.sequences("test", 0)
        guesses = {"persistence": input, "mean": torch.zeros_like(target)}
        return best_first({name: self.measured(g, target, mask) for name, g in guesses.items()})
