"""Which sequences make up a batch: those about as long, so that little of it is padding."""

import torch
from torch import Tensor

PER_DOUBLING = 8  # lengths of one batch differ by some 9 %, where there are many sequences


def lengths_of(mask: Tensor) -> Tensor:
    """Return how far each sequence goes, to its last step that counts: (M) of a mask (T, M)."""
    steps = torch.arange(1, len(mask) + 1, dtype=torch.int32)[:, None]
    return (mask * steps).amax(0).long().clamp(min=1)


def by_length(
    lengths: Tensor, batch_size: int, chunk_length: int | None, draws: torch.Generator | None
) -> list[Tensor]:
    """Return the sequences of each batch, from the lengths (M) of all; the last one may have fewer.

    Those about as long go together, so that little is padded, and need equally many chunks. The
    order of batches, and of sequences about as long, is drawn; where nothing is drawn, they are
    sorted. Neither the number of batches nor their chunks depend on the draws.
    """
    size = len(lengths)
    order = torch.arange(size) if draws is None else torch.randperm(size, generator=draws)
    chunks = -(-lengths // chunk_length) if chunk_length else torch.zeros_like(lengths)
    alike = (lengths.double().log2() * PER_DOUBLING).round().long()
    kinds = chunks * int(alike.max() + 1) + alike
    groups = list(torch.split(order[kinds[order].argsort(stable=True)], batch_size))
    if draws is None or int(kinds.min()) == int(kinds.max()):
        return groups
    return [groups[n] for n in torch.randperm(len(groups), generator=draws).tolist()]


def padded_share(groups: list[Tensor], lengths: Tensor) -> float:
    """Return which part of all steps of all batches is padding."""
    steps = sum(len(group) * int(lengths[group].max()) for group in groups)
    return 1 - int(lengths.sum()) / steps
