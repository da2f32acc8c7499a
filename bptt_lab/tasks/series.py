"""Any series: one-step forecasts of a column of a CSV file, beside persistence and AR(p)."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any

import torch
from torch import Tensor

from bptt_lab.core.validation import Ge, Le, ReadableFile, Splits, checked
from bptt_lab.tasks.base import Sequences, Split, best_first
from bptt_lab.tasks.columns import read_column
from bptt_lab.tasks.files import check_size, refuse
from bptt_lab.tasks.kinds import Forecast


def fit_ar(series: Tensor, order: int) -> Tensor:
    """Fit x_t = c_0 + c_1 x_{t-p} + ... + c_p x_{t-1} by least squares; return c (p + 1)."""
    lags = series[:-1].unfold(0, order, 1)
    design = torch.cat((torch.ones_like(lags[:, :1]), lags), 1)
    # gelsd: the smallest c where several fit equally well.
    solution: Tensor = torch.linalg.lstsq(design, series[order:, None], driver="gelsd").solution
    return solution[:, 0]


def windows(series: Tensor, begin: int, end: int, num_steps: int, order: int) -> Sequences:
    """Cut [begin, end) of a series into sequences in which every value is named once.

    Each sequence first reads `order` values, the last ones of its predecessor, before it is asked;
    so the first one reads those before `begin`, which is `order` or more.
    """
    stride = num_steps - order + 1
    starts = torch.arange(begin, end, stride) - order
    index = starts + torch.arange(num_steps)[:, None]
    mask = index + 1 < end
    mask[: order - 1] = False
    last = len(series) - 1
    input, target = (series[places.clamp(max=last), None] for places in (index, index + 1))
    return Sequences(input, target, mask)


def split_rows(path: str, length: int, splits: Sequence[float]) -> tuple[int, int, int]:
    """Return where training, validation and test end, in shares or numbers of so many rows."""
    rows = all(isinstance(part, int) for part in splits)
    sums = accumulate(splits)
    ends = tuple(int(part if rows else part * length + 1e-6) for part in sums)
    train, val, test = ends
    if not train < val < test <= length:
        problem = f"must hold enough rows for dataset.splits={list(splits)}, but holds {length}"
        refuse(path, f"{problem}; give a longer series or other splits")
    return train, val, test


class Series(Forecast):
    """Name the next value at every step of a series: training, validation and test in order.

    A sequence reads `order` values before its answers count, as AR(p) does, and sequences overlap
    by as much, so that each value is asked for once.

    Args:
        path: a CSV file in UTF-8, with a header or without; see bptt_lab.tasks.columns.
        column: its column, by name or by number from 1; null is the only one.
        order: p of the AR(p) that the model is compared with.
        num_steps: steps of a sequence.
        splits: what is for training, validation and test: three shares, or three numbers of
            rows, after which the rest is left out.
        settings: as SequenceDataModule has them.

    Raises:
        ConfigError: where the file is missing or damaged, or its column too short or constant.
    """

    @checked
    def __init__(
        self,
        *,
        path: Annotated[str, ReadableFile()] = "",
        column: str | int | None = None,
        order: Annotated[int, Ge(1), Le("num_steps")] = 16,
        num_steps: Annotated[int, Ge(1)] = 64,
        splits: Annotated[list[float], Splits()] = (0.8, 0.1, 0.1),  # type: ignore[assignment]
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.order = order
        self.num_steps = num_steps
        values = read_column(path, column)
        num_train, *_ = ends = split_rows(path, len(values), splits)
        # More equations than coefficients for AR(p), a whole sequence for the network.
        if num_train < (needed := num_steps + 2 * order + 2):
            problem = f"must hold at least {needed} values for training with num_steps={num_steps} "
            problem += f"and order={order}, but holds {num_train} of {len(values)}"
            refuse(path, f"{problem}; give a longer series or a smaller dataset.num_steps")
        check_size(path, "it", num_steps * (len(values) // (num_steps - order + 1) + 1))
        check_size(path, "AR(p)", 2 * (order + 1) * num_train, "give a smaller dataset.order")
        train = values[:num_train]
        mean, std = train.mean(), train.std(correction=0)
        self.mean, self.std = mean.item(), std.item()
        self.series = (values - mean) / std
        if not self.series.float().isfinite().all():
            problem = f"must vary in its first {num_train} values, by no power that overflows"
            refuse(path, f"{problem}; choose another dataset.column")
        self.bounds: dict[Split, tuple[int, int]] = {
            "train": (order, num_train),
            "val": ends[:2],
            "test": ends[1:],
        }
        self.persistence = self.series[:num_train].diff().square().mean().item()

    def sequences(self, split: Split, epoch: int) -> Sequences:
        """Return the sequences of a split, the same in every epoch."""
        return windows(self.series.float(), *self.bounds[split], self.num_steps, self.order)

    def references(self) -> Mapping[str, Mapping[str, float]]:
        """Repeating the value just read, AR(p), and the training mean, the best of them first."""
        begin, end = self.bounds["test"]
        constant, *weights = fit_ar(self.series[: self.bounds["train"][1]], self.order)
        lags = self.series[begin - self.order : end - 1].unfold(0, self.order, 1)
        guesses = {
            "persistence": lags[:, -1],
            "ar": constant + lags @ torch.stack(weights),
            "mean": torch.zeros_like(lags[:, 0]),
        }
        target = self.series[begin:end, None, None]
        columns = {name: guess[:, None, None] for name, guess in guesses.items()}
        return best_first({name: self.measured(g, target) for name, g in columns.items()})
