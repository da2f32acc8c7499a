"""A task: sequences in memory, cut into chunks, with its loss, its metrics and its references.

A batch is a chunk: some steps of some sequences. Chunks of the same sequences follow one another,
the first one marked, so that a state can be carried from chunk to chunk, in validation as in
training. Every process of a group walks through the same batches and takes its share of each.
A batch goes as far as the longest of its sequences.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice, takewhile
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from lightning.pytorch import Callback, LightningDataModule
from torch import Tensor
from torch.nn import functional

from bptt_lab.core.random import generator
from bptt_lab.core.validation import Ge, checked
from bptt_lab.nn.losses import LOSSES, masked_sum
from bptt_lab.tasks.codec import Codec
from bptt_lab.tasks.grouping import by_length, lengths_of
from bptt_lab.tasks.inputs import Inputs, Settings, read_numbers

Split = Literal["train", "val", "test"]
Shape = tuple[str | int | None, str | int]  # steps and sequences
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class SequenceBatch(NamedTuple):
    """One chunk, time first."""

    input: Tensor  # (L, N, I)
    target: Tensor  # (L, N) classes or (L, N, O) values
    mask: Tensor  # (L, N) booleans: which elements count
    is_first: bool  # whether the sequences begin here


class Sequences(NamedTuple):
    """All sequences of one split, time first; T steps, M sequences."""

    input: Tensor  # (T, M, I), or whatever `encode` turns into that
    target: Tensor  # (T, M) classes or (T, M, O) values
    mask: Tensor  # (T, M) booleans


def at_last_step(input: Tensor, answers: Tensor) -> Sequences:
    """Return sequences whose answers, (M) classes or (M, O) values, count after the last step."""
    mask = torch.zeros(input.shape[:2], dtype=torch.bool)
    mask[-1] = True
    return Sequences(input, answers.expand(len(input), *answers.shape), mask)


def best_first(references: Mapping[str, Mapping[str, float]]) -> Mapping[str, Mapping[str, float]]:
    """Return what predictors reach, the one with the least loss first."""
    return dict(sorted(references.items(), key=lambda named: named[1]["loss"]))


class SequenceDataModule(LightningDataModule, ABC):
    """Interface of every task.

    A leaf class names its `loss` (one of bptt_lab.nn.losses.LOSSES) and its input and output size.
    One that makes its data names in `num_elements` the products of settings that its numbers are.
    One that knows its training data's steps and sequences without them says so in `train_shape`, as
    numbers or names of settings; None is for steps that depend on more.

    Args:
        batch_size: sequences in a batch, over all processes together.
        chunk_length: steps between two updates; null is the whole sequence.
        seed: of the data and of their order.
    """

    # Parallel streams, kept in order, all of them in a batch. One that begins anew now and then is
    # cut there into sequences: the first of all streams, then the second ones; see lanes.py.
    stream: bool = False
    # Sequences end at different steps, the same in every epoch: those about as long go together.
    unequal: bool = False
    num_elements: ClassVar[tuple[str, ...]] = ()
    # By package: what installs it, and the setting, if any, that does without it.
    needs: ClassVar[Mapping[str, tuple[str, str]]] = {}
    train_shape: ClassVar[Shape | None] = None
    input_size: int
    output_size: int
    loss: str

    @checked
    def __init__(
        self,
        *,
        batch_size: Annotated[int, Ge(1)] = 32,
        chunk_length: Annotated[int | None, Ge(1)] = None,
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.chunk_length = chunk_length
        self.seed = seed
        self._latest: dict[Split, tuple[int, Sequences]] = {}
        self._one_hot: Tensor | None = None  # a row for each class

    @abstractmethod
    def sequences(self, split: Split, epoch: int) -> Sequences:
        """Return the sequences of a split: a pure function of the settings, split and epoch.

        `epoch` is 0 for validation and test; a generator may draw afresh in every training epoch.
        """

    @abstractmethod
    def score(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the task's metrics of every element, each (L, N), for a prediction (L, N, O)."""

    @abstractmethod
    def references(self) -> Mapping[str, Mapping[str, float]]:
        """Return what trivial predictors reach, and known floors, on the test split.

        By name, such as "chance", the value of "loss" and of the metrics. The first entry is
        what the final line compares with: the best that is to be had without training.
        """

    def measured(
        self, guess: Tensor, target: Tensor, mask: Tensor | None = None
    ) -> dict[str, float]:
        """Return what a prediction (T, M, O) reaches, the mean over what counts, by default all."""
        mask = torch.ones(target.shape[:2], dtype=torch.bool) if mask is None else mask
        values = {"loss": LOSSES[self.loss](guess, target), **self.score(guess, target)}
        return {name: (masked_sum(v, mask) / mask.sum()).item() for name, v in values.items()}

    def encode(self, input: Tensor) -> Tensor:
        """Turn a chunk of `Sequences.input` into the network's input (L, N, I): classes one-hot."""
        if input.is_floating_point():
            return input
        if self._one_hot is None:
            self._one_hot = torch.eye(self.input_size)
        return functional.embedding(input, self._one_hot.to(input.device))

    def codec(self) -> Codec:
        """Return what it takes to use a network that was trained on the task, without its data."""
        input, _, mask = self.cached("val", 0)
        symbols = () if input.is_floating_point() else tuple(range(self.input_size))
        at_end = not bool(mask[:-1].any())
        return Codec(self.input_size, self.output_size, self.loss, symbols, at_end=at_end)

    @classmethod
    def read_inputs(cls, path: str, settings: Settings) -> Inputs:
        """Read a file that a network trained on the task is to answer: numbers, unless it is said.

        Args:
            path: of the file.
            settings: those of the task, by which the network was trained.

        Raises:
            ConfigError: for a file that is not as it should be.
        """
        return read_numbers(path)

    def callbacks(self) -> list[Callback]:
        """Return what the task wants to show of itself during a run."""
        return []

    def cached(self, split: Split, epoch: int) -> Sequences:
        """Return `sequences`, remembering the latest of each split."""
        known = self._latest.get(split)
        if known is None or known[0] != epoch:
            known = self._latest[split] = (epoch, self.sequences(split, epoch))
        return known[1]

    def train_dataloader(self) -> "ChunkLoader":
        """Chunks of the training sequences; a new order every epoch unless they are a stream."""
        return ChunkLoader(self, "train")

    def val_dataloader(self) -> "ChunkLoader":
        """Chunks of the validation sequences, in order."""
        return ChunkLoader(self, "val")

    def test_dataloader(self) -> "ChunkLoader":
        """Chunks of the test sequences, in order."""
        return ChunkLoader(self, "test")

    def predict_dataloader(self) -> "ChunkLoader":
        """Chunks of the test sequences, in order."""
        return self.test_dataloader()


class ChunkLoader:
    """Iterate over one epoch of a split, batch by batch and chunk by chunk.

    It knows which batch comes next, so that a run stopped inside an epoch goes on from there.
    """

    def __init__(self, task: SequenceDataModule, split: Split) -> None:
        self.task = task
        self.split = split
        self._next = 0
        self._length: int | None = None

    def state_dict(self) -> dict[str, int]:
        """Return the next batch's index in its epoch; 0 once the last one was handed out."""
        return {"next": self._next}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Begin the next iteration at a batch."""
        self._next = state_dict["next"]

    def _sequences(self) -> tuple[int, Sequences]:
        trainer = self.task.trainer
        epoch = trainer.current_epoch if trainer is not None and self.split == "train" else 0
        return epoch, self.task.cached(self.split, epoch)

    def groups(self) -> tuple[list[Tensor], Tensor]:
        """Return the sequences of each of this epoch's batches, and how far each sequence goes."""
        task, (epoch, data) = self.task, self._sequences()
        num_steps, num_sequences = data.mask.shape
        if task.stream:  # the last of its windows may be shorter
            groups = torch.split(torch.arange(num_sequences), task.batch_size)
            return list(groups), lengths_of(data.mask)
        whole = torch.full((num_sequences,), num_steps)
        lengths = lengths_of(data.mask) if task.unequal else whole
        draws = generator(task.seed, "order", epoch) if self.split == "train" else None
        return by_length(lengths, task.batch_size, task.chunk_length, draws), lengths

    def _chunks(self) -> list[tuple[Tensor, slice]]:
        """The sequences and the steps of each chunk."""
        groups, lengths = self.groups()
        chunks = []
        for group in groups:
            end = int(lengths[group].max())
            step = self.task.chunk_length or end
            chunks += [(group, slice(t, min(t + step, end))) for t in range(0, end, step)]
        return chunks

    def __len__(self) -> int:
        if self._length is None:  # the same in every epoch
            self._length = len(self._chunks())
        return self._length

    def starts(self) -> list[int]:
        """Return which of this epoch's batches are first chunks, by their indices."""
        return [index for index, (_, steps) in enumerate(self._chunks()) if steps.start == 0]

    def __iter__(self) -> "Batches":
        return Batches(self)

    def batches(self) -> Iterator[tuple[int, SequenceBatch]]:
        """Yield the batches that are left of the epoch, each with the index of the next one."""
        data, chunks = self._sequences()[1], self._chunks()
        trainer = self.task.trainer
        rank, world = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        part, parted = data, None
        for index in range(self._next % len(chunks), len(chunks)):
            group, steps = chunks[index]
            if parted is not group:
                part, parted = _share(data, group, rank, world), group
            whole = steps == slice(0, len(data.mask))
            input, target, mask = part if whole else (tensor[steps] for tensor in part)
            batch = SequenceBatch(self.task.encode(input), target, mask, steps.start == 0)
            yield (index + 1) % len(chunks), batch


class Batches(Iterator[SequenceBatch]):
    """The batches of an epoch in order. Those to come can be looked at.

    Args:
        loader: is told which batch comes next, whenever one is handed out.
    """

    def __init__(self, loader: ChunkLoader) -> None:
        self._loader = loader
        self._left = loader.batches()
        self._known: deque[tuple[int, SequenceBatch]] = deque()

    def __next__(self) -> SequenceBatch:
        if not self._known:
            self._known.append(next(self._left))
        following, batch = self._known.popleft()
        self._loader.load_state_dict({"next": following})
        return batch

    def ahead(self, count: int) -> list[SequenceBatch]:
        """Return up to `count` of the next batches, as many as are shaped as the first one is."""
        while len(self._known) < count and (item := next(self._left, None)):
            self._known.append(item)
        batches = [batch for _, batch in islice(self._known, count)]
        return list(takewhile(lambda each: each.target.shape == batches[0].target.shape, batches))


def _share(data: Sequences, columns: Tensor, rank: int, world: int) -> Sequences:
    own = columns[rank::world]
    if len(own):  # numpy takes half as long as index_select
        return Sequences(*(torch.from_numpy(x.numpy().take(own, 1)) for x in data))
    # Fewer sequences than processes: take part with one that counts nothing.
    part = Sequences(*(tensor[:, columns[:1]] for tensor in data))
    return part._replace(mask=torch.zeros_like(part.mask))
