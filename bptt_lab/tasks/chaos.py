"""Chaos: streams of chaotic series, forecast one step ahead while they are learnt.

Each series is a small law that anybody can compute again, and of which only one coordinate is seen.
The next value follows from the last ones, so what a net has not forgotten decides how well it does.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from bptt_lab.core.random import generator
from bptt_lab.core.validation import Ge, checked
from bptt_lab.tasks.base import Sequences, Split, best_first
from bptt_lab.tasks.codec import Codec
from bptt_lab.tasks.kinds import Forecast
from bptt_lab.tasks.lanes import to_windows
from bptt_lab.tasks.series import lagged

SETTLED = 1000  # values thrown away before a lane begins
ORDER = 16  # of the AR(p) that is compared with
TAU = 17  # the delay of Mackey-Glass, in steps
DT = 0.025  # of Lorenz's steps, of which every second one is seen


def mackey_glass(start: float) -> Iterator[float]:
    """Yield x_{t+1} = x_t + 0.2 x_{t-17} / (1 + x_{t-17}^10) - 0.1 x_t, from a constant past.

    It is Euler's method with steps of 1, not a solution of the delay equation.
    """
    x = deque([0.1 + 0.8 * start] * (TAU + 1), TAU + 1)  # 1 would be a fixed point
    while True:
        yield x[-1]
        x.append(x[-1] + 0.2 * x[0] / (1 + x[0] ** 10) - 0.1 * x[-1])


def henon(start: float) -> Iterator[float]:
    """Yield x of x_{t+1} = 1 - 1.4 x_t^2 + y_t, y_{t+1} = 0.3 x_t."""
    x, y = start / 2, 0.0
    while True:
        yield x
        x, y = 1 - 1.4 * x * x + y, 0.3 * x


def lorenz(start: float) -> Iterator[float]:
    """Yield x of x' = 10 (y - x), y' = x (28 - z) - y, z' = x y - 8/3 z at intervals of 0.05.

    Others sample it every 0.01 to 0.1. At 0.02 a linear forecast from four values is wrong by a
    variance of 5e-6, which leaves little to learn; here by 3e-3, at 0.1 by 0.1.
    """
    state = 1 + start, 1 - start, 20.0
    while True:
        yield state[0]
        state = _runge_kutta(*_runge_kutta(*state))


def _slope(x: float, y: float, z: float) -> tuple[float, float, float]:
    return 10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z


def _runge_kutta(x: float, y: float, z: float) -> tuple[float, float, float]:
    """Make a step of order 4."""
    half, sixth = DT / 2, DT / 6
    x1, y1, z1 = _slope(x, y, z)
    x2, y2, z2 = _slope(x + half * x1, y + half * y1, z + half * z1)
    x3, y3, z3 = _slope(x + half * x2, y + half * y2, z + half * z2)
    x4, y4, z4 = _slope(x + DT * x3, y + DT * y3, z + DT * z3)
    return (
        x + sixth * (x1 + 2 * (x2 + x3) + x4),
        y + sixth * (y1 + 2 * (y2 + y3) + y4),
        z + sixth * (z1 + 2 * (z2 + z3) + z4),
    )


def logistic(start: float) -> Iterator[float]:
    """Yield x_{t+1} = 3.9 x_t (1 - x_t).

    With 4 in place of 3.9 rounding brings x to 1 sooner or later, and from there to 0 for good.
    """
    x = 0.1 + 0.8 * start
    while True:
        yield x
        x = 3.9 * x * (1 - x)


SERIES: Mapping[str, Callable[[float], Iterator[float]]] = {
    "mackey_glass": mackey_glass,
    "henon": henon,
    "lorenz": lorenz,
    "logistic": logistic,
}


class Chaos(Forecast):
    """Name the next value at every step of parallel streams of a chaotic series.

    The lanes of a batch follow the same law from starts that the seed draws. What comes first is
    thrown away. Training is the beginning of all lanes, then come validation and test. A further
    epoch is the same again; for more to learn from make `stream_length` longer. Values are
    standardised by mean and variance of the training part of all lanes together.

    An update comes every `chunk_length` steps. Every `reset_every` steps state and influence begin
    anew, in validation and test too, and the first answers after that count as all others do. So
    does the AR(16) that the network is compared with, but it always knows the 16 values before.

    Reference: Mackey and Glass (1977), "Oscillation and chaos in physiological control systems";
    Henon (1976), "A two-dimensional mapping with a strange attractor"; Lorenz (1963),
    "Deterministic nonperiodic flow"; May (1976), "Simple mathematical models with very complicated
    dynamics".

    Args:
        series: the law.
        stream_length: steps of a lane in a training epoch.
        eval_length: steps of a lane in validation, and in test.
        reset_every: steps between two resets of the state; null is for none.
        batch_size: lanes, over all processes together.
        chunk_length: steps between two updates; null is all between two resets.
        settings: as SequenceDataModule has them.
    """

    stream = True
    num_elements = ("stream_length * batch_size", "eval_length * batch_size")

    @checked
    def __init__(
        self,
        *,
        series: Literal["mackey_glass", "henon", "lorenz", "logistic"] = "mackey_glass",
        stream_length: Annotated[int, Ge(1)] = 15000,
        eval_length: Annotated[int, Ge(1)] = 1000,
        reset_every: Annotated[int | None, Ge(1)] = 200,
        batch_size: Annotated[int, Ge(1)] = 8,
        chunk_length: Annotated[int | None, Ge(1)] = 1,
        **settings: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, chunk_length=chunk_length, **settings)
        self.series = series
        self.stream_length, self.eval_length = stream_length, eval_length
        self.reset_every = reset_every

    @cached_property
    def lanes(self) -> Tensor:
        """The standardised lanes (T + 1, N), float64: training, validation, test."""
        starts = torch.rand(
            self.batch_size, generator=generator(self.seed, f"chaos/{self.series}")
        ).tolist()
        law, end = SERIES[self.series], self.stream_length + 2 * self.eval_length + 1
        drawn = [[*islice(law(start), SETTLED, SETTLED + end)] for start in starts]
        lanes = torch.tensor(drawn, dtype=torch.float64).T.contiguous()
        train = lanes[: self.stream_length + 1]
        mean, std = train.mean(), train.std(correction=0)
        self.mean, self.std = mean.item(), std.item()
        return (lanes - mean) / std

    @cached_property
    def persistence(self) -> float:  # type: ignore[override]  # computed at its first use
        """Mean squared difference of neighbours in the training part."""
        return self.lanes[: self.stream_length + 1].diff(dim=0).square().mean().item()

    def _bounds(self, split: Split) -> tuple[int, int]:
        train, part = self.stream_length, self.eval_length
        begin = {"train": 0, "val": train, "test": train + part}[split]
        return begin, begin + (train if split == "train" else part)

    def sequences(self, split: Split, epoch: int) -> Sequences:
        """Return the windows of a split, the same in every epoch."""
        begin, end = self._bounds(split)
        own = self.lanes[begin : end + 1].float().unsqueeze(-1)
        counts = torch.ones(own[1:, :, 0].shape, dtype=torch.bool)
        return to_windows(Sequences(own[:-1], own[1:], counts), self.reset_every)

    def codec(self) -> Codec:
        """Return a codec of the series as it was before."""
        _ = self.lanes  # made at their first use, with their mean
        return super().codec()

    def references(self) -> Mapping[str, Mapping[str, float]]:
        """Repeating the present value, AR(16), and the training mean, the best of them first."""
        begin, end = self._bounds("test")
        now, target = self.lanes[begin:end], self.lanes[begin + 1 : end + 1]
        guesses = {"persistence": now, "mean": torch.zeros_like(target)}
        if self.stream_length > ORDER:
            guesses["ar"] = self._autoregression(begin, end)
        parts = {name: (guess[..., None], target[..., None]) for name, guess in guesses.items()}
        return best_first({name: self.measured(*part) for name, part in parts.items()})

    def _autoregression(self, begin: int, end: int) -> Tensor:
        """Forecast by least squares over all training lanes what follows on steps of a part."""
        train = self.lanes[: self.stream_length + 1]
        design = torch.cat([lagged(lane[:-1, None], ORDER) for lane in train.T])
        wanted = train[ORDER:].T.reshape(-1, 1)
        solution = torch.linalg.lstsq(design, wanted, driver="gelsd").solution
        known = self.lanes[begin - ORDER + 1 : end].T
        return torch.stack([(lagged(lane[:, None], ORDER) @ solution)[:, 0] for lane in known], 1)
