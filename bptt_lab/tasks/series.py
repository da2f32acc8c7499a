"""Any series: forecasts of columns of a CSV or parquet file, beside persistence and AR(p)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor

from bptt_lab.core.validation import (
    ConfigError,
    Distinct,
    Ge,
    Le,
    OnlyWith,
    ReadableFile,
    Splits,
    checked,
)
from bptt_lab.tasks.base import Sequences, Split, best_first
from bptt_lab.tasks.codec import Codec
from bptt_lab.tasks.columns import Column, read_columns
from bptt_lab.tasks.files import check_size, quote, refuse, split_ends
from bptt_lab.tasks.inputs import Inputs, Settings, numbered
from bptt_lab.tasks.kinds import Forecast
from bptt_lab.tasks.lanes import end_to_end, to_windows
from bptt_lab.tasks.parquet import is_parquet, read_parquet


def lagged(inputs: Tensor, order: int) -> Tensor:
    """Return the last `order` values of each column at each row, 1 before them.

    Of (R, I) it is (R - order + 1, 1 + I * order).
    """
    lags = inputs.unfold(0, order, 1).flatten(1)
    return torch.cat((torch.ones_like(lags[:, :1]), lags), 1)


def fit_ar(inputs: Tensor, target: Tensor, order: int, horizon: int = 1) -> Tensor:
    """Fit target_{t+h} = c_0 + sum of c_ij inputs_{t-j,i}, 0 <= j < order, by least squares.

    Args:
        inputs: (R, I).
        target: (R).
        order: values of each column, p.
        horizon: steps ahead, h.

    Returns:
        c (1 + I * order): the constant, then of each column the weights, of its latest value last.
    """
    design = lagged(inputs[:-horizon], order)
    wanted = target[order + horizon - 1 :, None]
    # gelsd: the smallest c where several fit equally well.
    solution: Tensor = torch.linalg.lstsq(design, wanted, driver="gelsd").solution
    return solution[:, 0]


def windows(
    inputs: Tensor,
    targets: Tensor,
    bounds: tuple[int, int],
    num_steps: int,
    order: int,
    horizon: int = 1,
) -> Sequences:
    """Cut rows into sequences in which every row of `targets` within `bounds` is named once.

    It is named `horizon` steps ahead. Each sequence first reads `order` values, the last ones of
    its predecessor, before it is asked; so the first one reads those before `bounds`, which begin
    at `order + horizon - 1` or later.
    """
    begin, end = bounds
    stride = num_steps - order + 1
    starts = torch.arange(begin, end, stride) - (order + horizon - 1)
    index = starts + torch.arange(num_steps)[:, None]
    mask = index + horizon < end
    mask[: order - 1] = False
    last = len(inputs) - 1
    return Sequences(
        inputs[index.clamp(max=last)], targets[(index + horizon).clamp(max=last)], mask
    )


def _read_file(path: str, columns: Sequence[Column]) -> list[Tensor]:
    return (read_parquet if is_parquet(path) else read_columns)(path, columns)


class Series(Forecast):
    """Name a later value at every step of a series: training, validation and test in order.

    A sequence reads `order` values before its answers count, as AR(p) does, and sequences overlap
    by as much, so that each value is asked for once. Columns are standardised by their training
    part. The other columns of the file, such as one of times, are not read.

    With `lanes` training is streams instead, as those of `dataset=chaos`: the training part is cut
    end to end into so many stretches, which are learnt side by side, in order and again in every
    epoch. Every answer counts there. Validation and test are as they are without.

    Args:
        path: a CSV file in UTF-8, with a header or without; see bptt_lab.tasks.columns. Or a
            parquet file, where pyarrow is installed.
        column: the column that is read and forecast, by name or by number from 1; null is the
            only one.
        columns: or several that are read at each step.
        targets: the columns that are forecast; null is those that are read.
        horizon: how many steps ahead; null is 1, the next value.
        order: p of the AR(p), on all columns read, that the model is compared with.
        num_steps: steps of a sequence.
        splits: what is for training, validation and test: three shares, or three numbers of
            rows, after which the rest is left out.
        lanes: parallel streams of training, which are then its batch, whatever `batch_size` is;
            null is for sequences.
        reset_every: steps of a lane between two resets of the state; null is for none.
        batch_size: sequences in a batch, over all processes together.
        settings: as SequenceDataModule has them.

    Raises:
        ConfigError: where the file is missing or damaged, or a column too short or constant.
    """

    @checked
    def __init__(
        self,
        *,
        path: Annotated[str, ReadableFile()] = "",
        column: str | int | None = None,
        columns: Annotated[list[str | int] | None, Distinct(), OnlyWith("column", None)] = None,
        targets: Annotated[list[str | int] | None, Distinct()] = None,
        horizon: Annotated[int | None, Ge(1)] = None,
        order: Annotated[int, Ge(1), Le("num_steps")] = 16,
        num_steps: Annotated[int, Ge(1)] = 64,
        splits: Annotated[list[float], Splits()] = (0.8, 0.1, 0.1),  # type: ignore[assignment]
        lanes: Annotated[int | None, Ge(1)] = None,
        reset_every: Annotated[int | None, Ge(1)] = None,
        batch_size: Annotated[int, Ge(1)] = 32,
        **settings: Any,
    ) -> None:
        super().__init__(batch_size=lanes or batch_size, **settings)
        if reset_every and lanes is None:
            problem = "only means something with lanes, as dataset.lanes=8; leave it null"
            raise ConfigError(f"reset_every={reset_every}: {problem}")
        self.stream, self.lanes, self.reset_every = lanes is not None, lanes, reset_every
        self.order, self.num_steps, self.horizon = order, num_steps, horizon or 1
        read: list[Column] = [*columns] if columns else [column]
        asked: list[Column] = [*targets] if targets else read
        names = list(dict.fromkeys([*read, *asked]))
        found = _read_file(path, names)
        self.input_size, self.output_size = len(read), len(asked)
        length = len(found[0])
        num_train, *_ = ends = split_ends(path, length, splits)
        # More equations than coefficients for AR(p), a whole sequence for the network.
        needed = num_steps + order * (len(read) + 1) + self.horizon + 1
        if num_train < needed:
            problem = f"must hold at least {needed} values for training with num_steps={num_steps} "
            problem += f"and order={order}, but holds {num_train} of {length}"
            refuse(path, f"{problem}; give a longer series or a smaller dataset.num_steps")
        if lanes and num_train - self.horizon < lanes:
            problem = f"must hold at least {lanes + self.horizon} values for training with"
            problem += f" lanes={lanes}, but holds {num_train} of {length}; give a longer series"
            refuse(path, f"{problem} or fewer dataset.lanes")
        widest = max(len(read), len(asked))
        numbers = num_steps * (length // (num_steps - order + 1) + 1) * widest
        check_size(path, "it", numbers)
        coefficients = order * len(read) + 1
        check_size(path, "AR(p)", 2 * coefficients * num_train, "give a smaller dataset.order")
        self.means, self.stds = {}, {}
        scaled = {}
        for name, values in zip(names, found, strict=True):
            mean, std = values[:num_train].mean(), values[:num_train].std(correction=0)
            self.means[name], self.stds[name] = mean.item(), std.item()
            scaled[name] = (values - mean) / std
            if not (std.isfinite() and scaled[name].float().isfinite().all()):
                which = "" if len(names) == 1 else f" in column {quote(str(name))}"
                problem = f"must vary in its first {num_train} values{which}, by no power that"
                refuse(path, f"{problem} overflows; choose another dataset.column")
        self.inputs = torch.stack([scaled[name] for name in read], 1)  # (R, I)
        self.targets = torch.stack([scaled[name] for name in asked], 1)  # (R, O)
        self.names = read, asked
        self.bounds: dict[Split, tuple[int, int]] = {
            "train": (order + self.horizon - 1, num_train),
            "val": ends[:2],
            "test": ends[1:],
        }
        repeated = [
            (values[self.horizon :] - values[: -self.horizon]).square().mean().item()
            for values in self.targets[:num_train].T.contiguous()
        ]
        self.persistence = sum(repeated) / len(repeated)
        if not self.persistence:
            problem = f"must change within {self.horizon} steps of training, but is the same again"
            refuse(path, f"{problem}; choose another dataset.horizon")

    def sequences(self, split: Split, epoch: int) -> Sequences:
        """Return the sequences of a split, the same in every epoch."""
        rows = self.inputs.float(), self.targets.float()
        if self.lanes and split == "train":
            index = end_to_end(self.bounds["train"][1] - self.horizon, self.lanes)
            counts = torch.ones(index.shape, dtype=torch.bool)
            own = Sequences(rows[0][index], rows[1][index + self.horizon], counts)
            return to_windows(own, self.reset_every)
        return windows(*rows, self.bounds[split], self.num_steps, self.order, self.horizon)

    @classmethod
    def read_inputs(cls, path: str, settings: Settings) -> Inputs:
        """Read the columns that the settings say; rows before a row forecast it."""
        read = settings.get("columns") or [settings.get("column")]
        asked = settings.get("targets") or read
        rows = torch.stack(_read_file(path, read), 1)
        names, values = (tuple(str(name) for name in part if name) for part in (read, asked))
        return Inputs(numbered([rows]), settings.get("horizon") or 1, names, values)

    def references(self) -> Mapping[str, Mapping[str, float]]:
        """Repeating the present value, AR(p), and the training mean, the best of them first."""
        begin, end = self.bounds["test"]
        num_train, ahead = self.bounds["train"][1], self.horizon
        lags = lagged(self.inputs[begin - ahead - self.order + 1 : end - ahead], self.order)
        train = self.inputs[:num_train]
        forecasts = []
        for values in self.targets[:num_train].T.contiguous():
            constant, *weights = fit_ar(train, values, self.order, ahead)
            forecasts.append(constant + lags[:, 1:] @ torch.stack(weights))
        target = self.targets[begin:end]
        guesses = {
            "persistence": self.targets[begin - ahead : end - ahead],
            "ar": torch.stack(forecasts, 1),
            "mean": torch.zeros_like(target),
        }
        return best_first(
            {name: self.measured(g[:, None], target[:, None]) for name, g in guesses.items()}
        )

    def codec(self) -> Codec:
        """Return a codec of the columns as they were before."""
        (input_mean, input_std), (output_mean, output_std) = (
            (tuple(self.means[name] for name in names), tuple(self.stds[name] for name in names))
            for names in self.names
        )
        sizes = self.input_size, self.output_size, self.loss
        return Codec(*sizes, (), False, (), input_mean, input_std, output_mean, output_std)
