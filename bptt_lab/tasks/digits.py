"""Handwritten digits, read pixel by pixel or row by row: scikit-learn's bundled 8 x 8 images."""

from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from bptt_lab.core.random import generator
from bptt_lab.core.validation import checked
from bptt_lab.tasks.base import Sequences, Split, at_last_step
from bptt_lab.tasks.kinds import ClassificationByLoss


@cache
def read_digits(layout: str) -> tuple[Tensor, Tensor]:
    """Read the 1797 images, 0 to 1, as sequences (T, 1797, I), and their digits (1797)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32) / 16  # (1797, 8, 8)
    sequences = images.reshape(len(images), 64, 1) if layout == "pixels" else images
    return sequences.transpose(0, 1).contiguous(), torch.tensor(bunch.target, dtype=torch.long)


class Digits(ClassificationByLoss):
    """Name the digit after the last step: 1297 training, 200 validation, 300 test images.

    Source: E. Alpaydin and C. Kaynak, "Optical recognition of handwritten digits", UCI machine
    learning repository, in the copy that scikit-learn ships.

    Args:
        layout: "pixels" (64 steps of one pixel) or "rows" (8 steps of eight).
        settings: as ClassificationByLoss has them; images are the sequences.
    """

    output_size = 10
    train_shape = (None, 1297)

    @checked
    def __init__(self, *, layout: Literal["pixels", "rows"] = "pixels", **settings: Any) -> None:
        super().__init__(**settings)
        self.layout = layout
        self.input_size = 1 if layout == "pixels" else 8

    def sequences(self, split: Split, epoch: int) -> Sequences:
        """Return the images of a split, the same in every epoch."""
        images, digits = read_digits(self.layout)
        order = torch.randperm(len(digits), generator=generator(self.seed, "split"))
        begin, end = {"train": (0, 1297), "val": (1297, 1497), "test": (1497, 1797)}[split]
        own = order[begin:end]
        return at_last_step(images[:, own], digits[own])
