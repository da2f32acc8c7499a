"""Your own data: sequences with their targets from a .npz file of arrays.

numpy.savez(FILE, inputs=..., targets=...) writes one; bptt_lab.tasks.labelled says what one may
hold.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from bptt_lab.core.random import generator
from bptt_lab.core.validation import ReadableFile, Splits, checked
from bptt_lab.tasks import npz
from bptt_lab.tasks.base import SPLITS, SequenceDataModule, Sequences, Split, best_first
from bptt_lab.tasks.codec import Codec
from bptt_lab.tasks.files import check_size, refuse, split_ends
from bptt_lab.tasks.labelled import Found, Labelled, check

SHARES = (0.8, 0.1, 0.1)
BLOCK = 2**22  # numbers that are converted at once


def cut_by_time(path: str, data: Labelled, splits: Sequence[float]) -> Labelled:
    """Cut the only sequence into training, validation and test in order."""
    ends = split_ends(path, int(data.steps[0]), splits, "steps")
    parts = [slice(begin, end) for begin, end in zip((0, *ends), ends, strict=False)]
    longest = max(part.stop - part.start for part in parts)

    def cut(found: Found) -> Found:
        pieces = np.zeros((len(parts), longest, *found.shape[2:]), found.dtype)
        for piece, part in zip(pieces, parts, strict=True):
            piece[: part.stop - part.start] = found[0, part]
        return pieces

    mask = cut(data.mask)
    steps = longest - mask[:, ::-1].argmax(1)
    return data._replace(
        inputs=cut(data.inputs),
        targets=cut(data.targets),
        mask=mask,
        steps=steps,
        split=np.arange(len(parts)),
    )


def scale(rows: Found) -> tuple[Found, Found]:
    """Return mean and standard deviation of each column (n, I), 1 where nothing varies."""
    values = rows.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        constant = values.min(0) == values.max(0)
        return values.mean(0), np.where(constant, 1.0, values.std(0))


def next_inputs(data: Labelled) -> list[int]:
    """Return which input each output is one step later; empty where one is none of them."""
    if data.at_end or data.targets.ndim != 3 or data.inputs.shape[1] < 2:
        return []
    counted, inputs = data.mask[:, :-1], data.inputs
    counted = counted & (np.arange(1, inputs.shape[1]) < data.steps[:, None])
    if not counted.any():
        return []
    now, first = data.targets[:, :-1], np.unravel_index(int(counted.argmax()), counted.shape)
    found = []
    for output in range(now.shape[-1]):
        likely = np.flatnonzero(inputs[:, 1:][first] == now[first][output])
        same = (
            int(column)
            for column in likely[:8]  # what many inputs are at a step says little
            if (inputs[:, 1:, column] == now[..., output])[counted].all()
        )
        found.append(next(same, -1))
    return [] if -1 in found else found


class Arrays(SequenceDataModule):
    """Name a class or some numbers, after the last step of a sequence or after every step.

    Training, validation and test are drawn from the sequences by the seed, or given in the file.
    A single sequence with targets of its steps is cut in three in order. Sequences about as long
    go together, padded to the longest of them, and the padding does not count.

    Integers, booleans and text are classes (cross-entropy, accuracy); floats are numbers (squared
    error of the normalised targets; `absolute_error` in their own units, mean over the outputs).

    Args:
        path: a .npz file, as numpy.savez writes it; see bptt_lab.tasks.labelled.
        per_step: whether every step has its target; null is by the shapes, where targets (M, T)
            are of each of T steps.
        normalise: take the mean of the training part off the inputs, feature by feature, and
            divide by its standard deviation; so with targets that are numbers.
        splits: what is for training, validation and test: three shares, or three numbers of
            sequences, or of steps of a single one; null is as the file says, or else 0.8, 0.1 and
            0.1.
        settings: as SequenceDataModule has them.

    Raises:
        ConfigError: where the file is missing or damaged, or its arrays do not fit each other.
    """

    @checked
    def __init__(
        self,
        *,
        path: Annotated[str, ReadableFile()] = "",
        per_step: bool | None = None,
        normalise: bool = True,
        splits: Annotated[list[float] | None, Splits()] = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        data = check(npz.read(path), partial(refuse, path), per_step)
        if splits and data.split is not None:
            refuse(path, f"holds a split, beside dataset.splits={list(splits)}; leave one out")
        if len(data.inputs) == 1 and not data.at_end and data.split is None:
            data = cut_by_time(path, data, splits or SHARES)
        self.unequal = bool((data.steps < data.inputs.shape[1]).any())
        self.at_end, self.classes = data.at_end, data.classes
        self.loss = "cross_entropy" if data.classes else "mse"
        self.input_size = data.inputs.shape[-1]
        self.output_size = len(data.classes) or data.targets.shape[-1]
        numbers = data.mask.size * (1 if data.classes else self.output_size)
        check_size(path, "targets of all steps", numbers, "give fewer or shorter sequences")
        self.parts = self._parts(path, data, splits or SHARES)
        train = self.parts["train"]
        self.input_mean, self.input_std = np.zeros(self.input_size), np.ones(self.input_size)
        self.mean, self.std = np.zeros(self.output_size), np.ones(self.output_size)
        self.persistent = next_inputs(data)
        if normalise:
            there = np.arange(data.inputs.shape[1]) < data.steps[train, None]
            self.input_mean, self.input_std = scale(data.inputs[train][there])
        if normalise and not data.classes:
            due = data.targets[train] if data.at_end else data.targets[train][data.mask[train]]
            self.mean, self.std = scale(due)
        self.data = {split: self._sequences(path, data, self.parts[split]) for split in SPLITS}

    def _parts(self, path: str, data: Labelled, splits: Sequence[float]) -> dict[Split, Found]:
        """The numbers of the sequences of each split."""
        count, given = len(data.inputs), data.split
        parts: dict[Split, Found]
        if given is None:
            ends = split_ends(path, count, splits, "sequences")
            order = torch.randperm(count, generator=generator(self.seed, "split")).numpy()
            begins = (0, *ends)
            parts = {s: order[b:e] for s, b, e in zip(SPLITS, begins, ends, strict=False)}
        else:
            parts = {split: np.flatnonzero(given == n) for n, split in enumerate(SPLITS)}
        for split, part in parts.items():
            if not data.mask[part].any():
                problem = f"must hold a target that counts for {split}, but holds none"
                refuse(path, f"{problem}; give other splits, or another mask")
        return parts

    def _sequences(self, path: str, data: Labelled, part: Found) -> Sequences:
        """The sequences of a split, normalised, in single precision."""
        input = self._normalised(path, "inputs", data.inputs[part], self.input_mean, self.input_std)
        there = torch.from_numpy(np.arange(len(input))[:, None] < data.steps[part])
        input *= there[..., None]
        mask = torch.from_numpy(data.mask[part].T.copy())
        found = data.targets[part]
        if data.classes:
            target = torch.from_numpy(found.astype(np.int64))
        else:
            wide = found[:, None] if data.at_end else found
            target = self._normalised(path, "targets", wide, self.mean, self.std)
        if data.at_end:
            answers = target if data.classes else target[0]
            return Sequences(input, answers.expand(len(mask), *answers.shape), mask)
        return Sequences(input, target.T.contiguous() if data.classes else target, mask)

    def _normalised(self, path: str, name: str, values: Found, mean: Found, std: Found) -> Tensor:
        """Return numbers (M, T, I) time first, less `mean` and over `std`."""
        count, steps, size = values.shape
        result = np.empty((steps, count, size), np.float32)
        block = max(BLOCK // (steps * size), 1)
        with np.errstate(all="ignore"):
            for begin in range(0, count, block):
                now = slice(begin, begin + block)
                result[:, now] = ((values[now] - mean) / std).swapaxes(0, 1)
        if not np.isfinite(result).all() or not np.isfinite(std).all():
            problem = f"{name} must fit single precision, but are too large, or vary by too little"
            refuse(path, f"{problem}; scale them")
        return torch.from_numpy(result)

    def sequences(self, split: Split, epoch: int) -> Sequences:
        """Return the sequences of a split, the same in every epoch."""
        return self.data[split]

    def score(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Whether the likeliest class is right; or the absolute error in the targets' units."""
        if self.classes:
            return {"accuracy": (prediction.argmax(-1) == target).float()}
        error = (prediction - target).abs() * prediction.new_tensor(self.std)
        return {"absolute_error": error.mean(-1)}

    def references(self) -> Mapping[str, Mapping[str, float]]:
        """The commonest class, by training's frequencies; or the mean of training's targets.

        Where targets are the next inputs, repeating the present ones too.
        """
        train, test = self.data["train"], self.data["test"]
        if self.classes:
            seen, asked = (
                torch.bincount(part.target[part.mask], minlength=self.output_size).double()
                for part in (train, test)
            )
            logs = ((seen + 1) / (seen + 1).sum()).log()
            total = asked.sum()
            right = asked[seen.argmax()] / total
            loss = -(asked @ logs) / total
            return {"majority": {"loss": loss.item(), "accuracy": right.item()}}
        target = test.target.double()
        average = train.target[train.mask].double().mean(0)
        guesses = {"mean": average.expand_as(target)}
        if columns := self.persistent:
            now = test.input[..., columns].double()
            raw = now * torch.tensor(self.input_std[columns])
            raw += torch.tensor(self.input_mean[columns] - self.mean)
            guesses["persistence"] = raw / torch.tensor(self.std)
        return best_first({n: self.measured(g, target, test.mask) for n, g in guesses.items()})

    def codec(self) -> Codec:
        """Return a codec of the numbers as they were before, and of the names of the classes."""
        names = () if self.classes == tuple(range(self.output_size)) else self.classes
        return Codec(
            *(self.input_size, self.output_size, self.loss),
            classes=names,
            input_mean=tuple(self.input_mean.tolist()),
            input_std=tuple(self.input_std.tolist()),
            output_mean=() if self.classes else tuple(self.mean.tolist()),
            output_std=() if self.classes else tuple(self.std.tolist()),
            at_end=self.at_end,
        )
