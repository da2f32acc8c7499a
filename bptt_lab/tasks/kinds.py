"""Kinds of tasks: one whose targets are classes, one that makes as many sequences as it is told."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from torch import Tensor

from bptt_lab.core.validation import Ge, checked
from bptt_lab.tasks.base import SequenceDataModule, Split


class Classification(SequenceDataModule):
    """A task whose targets are classes."""

    def score(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Whether the likeliest class is right."""
        return {"accuracy": (prediction.argmax(-1) == target).float()}


class ClassificationByLoss(Classification):
    """A classification whose loss may be chosen.

    Args:
        batch_size: as SequenceDataModule has it.
        chunk_length: likewise.
        loss: what is minimised.
        seed: as SequenceDataModule has it.
    """

    @checked
    def __init__(
        self,
        *,
        batch_size: Annotated[int, Ge(1)] = 32,
        chunk_length: Annotated[int | None, Ge(1)] = None,
        loss: Literal["cross_entropy", "softmax_mse"] = "cross_entropy",
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, chunk_length=chunk_length, seed=seed)
        self.loss = loss


class Generated(SequenceDataModule):
    """A task that makes as many sequences as it is told.

    Args:
        train_size: sequences of a training epoch.
        val_size: validation sequences.
        test_size: test sequences.
        settings: of the next class, such as SequenceDataModule.
    """

    @checked
    def __init__(
        self,
        *,
        train_size: Annotated[int, Ge(1)],
        val_size: Annotated[int, Ge(1)] = 256,
        test_size: Annotated[int, Ge(1)] = 1024,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}
