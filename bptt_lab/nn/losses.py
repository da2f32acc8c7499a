"""Losses of one element, and their mean over the elements that count.

Every loss maps a prediction (L, N, O) and its target to (L, N). Sums and counts are kept apart
until the end, so that ragged chunks and unequal shares of processes weigh right.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

ElementLoss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    """-log softmax(prediction)[target], in nats; target (L, N) holds classes."""
    return functional.cross_entropy(prediction.movedim(-1, 1), target, reduction="none")


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared error, mean over the outputs; target (L, N, O)."""
    return functional.mse_loss(prediction, target, reduction="none").mean(-1)


def softmax_mse(prediction: Tensor, target: Tensor) -> Tensor:
    """|d - softmax(prediction)|^2 with d the one-hot target, summed over the classes."""
    one_hot = functional.one_hot(target, prediction.shape[-1])
    return (one_hot - torch.softmax(prediction, -1)).square().sum(-1)


def binary_cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    """-log of the probability of independent yes-or-no targets (L, N, O), in nats, summed over O.

    A prediction is the log odds of yes.
    """
    return functional.binary_cross_entropy_with_logits(prediction, target, reduction="none").sum(-1)


LOSSES: dict[str, ElementLoss] = {
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy": cross_entropy,
    "mse": mse,
    "softmax_mse": softmax_mse,
}


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """The sum of values (L, N) where mask (L, N) is true; what lies elsewhere may be anything."""
    return torch.where(mask, values, 0).sum()
