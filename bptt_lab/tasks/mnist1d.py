"""MNIST-1D: ten shapes drawn as curves of 40 points, shifted, stretched, sheared and noisy.

The package mnist1d draws them; nothing is downloaded, and no file is read.
"""

import importlib
from functools import cache
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from bptt_lab.core.random import generator
from bptt_lab.core.validation import ConfigError, missing
from bptt_lab.tasks.base import Sequences, Split, at_last_step
from bptt_lab.tasks.kinds import Classification

NUM_TRAIN, NUM_VAL = 4000, 400  # the latter out of the former


@cache
def read_mnist1d() -> tuple[Tensor, Tensor]:
    """Draw the 5000 curves (40, 5000, 1) and their digits (5000), the last 1000 for test.

    They are those of the publication, by its seed. The package seeds Python's and numpy's global
    generators, which are put back.

    Raises:
        ConfigError: where the package is not installed.
    """
    if problem := missing("mnist1d", "bptt_lab[mnist1d]"):
        raise ConfigError(f"_target_=bptt_lab.tasks.mnist1d.Mnist1d: {problem}")
    with isolate_rng(include_cuda=False):
        made = importlib.import_module("mnist1d.data").make_dataset()
    curves = torch.tensor(np.concatenate((made["x"], made["x_test"])), dtype=torch.float32)
    digits = torch.tensor(np.concatenate((made["y"], made["y_test"])), dtype=torch.long)
    return curves.T.unsqueeze(-1).contiguous(), digits


class Mnist1d(Classification):
    """Name the digit after the last point of a curve: 3600 training, 400 validation, 1000 test.

    Reference: Greydanus and Kobak (2024), "Scaling down deep learning with MNIST-1D".

    Args:
        settings: as SequenceDataModule has them; curves are the sequences.

    Raises:
        ConfigError: where the package mnist1d is not installed.
    """

    input_size = 1
    needs = {"mnist1d": ("bptt_lab[mnist1d]", "")}  # noqa: RUF012
    output_size = 10
    train_shape = (40, 3600)
    loss = "cross_entropy"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.curves, self.digits = read_mnist1d()

    def sequences(self, split: Split, epoch: int) -> Sequences:
        """Return the curves of a split, the same in every epoch."""
        order = torch.randperm(NUM_TRAIN, generator=generator(self.seed, "split"))
        own = {
            "train": order[NUM_VAL:],
            "val": order[:NUM_VAL],
            "test": torch.arange(NUM_TRAIN, len(self.digits)),
        }[split]
        return at_last_step(self.curves[:, own], self.digits[own])
