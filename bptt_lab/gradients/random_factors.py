"""Influence as a random product of two factors: what uoro and kf_rtrl share.

Random signs keep the sum of two products a product whose expectation is the sum.
"""

import torch
from torch import Tensor

from bptt_lab.core.random import generator
from bptt_lab.core.validation import checked
from bptt_lab.gradients.past import Chunk, PastFacing


class RandomFactors(PastFacing):
    """A strategy that draws random signs, by its seed and the carry's draw."""

    @checked
    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def signs(self, chunk: Chunk, purpose: str, count: int) -> Tensor:
        """Draw the signs of a chunk, 1 or -1: `count` a step and sequence, (L, N, count)."""
        return random_signs(chunk, self.seed, purpose, *chunk.slope.shape[:2], count)


def random_signs(chunk: Chunk, seed: int, purpose: str, *shape: int) -> Tensor:
    """Draw 1 and -1 by a seed and the carry's draw."""
    random = generator(seed, purpose, chunk.draw)
    return (torch.randint(2, shape, generator=random) * 2 - 1).to(chunk.slope)


def balance(there: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
    """Return rho = sqrt(there / here) and 1 / rho: they make two factors of a product equal.

    Where a factor is zero so is the product, and both are 0: only its noise is lost.
    """
    both = (there > 0) & (here > 0)
    rho = (there / here).sqrt()
    return torch.where(both, rho, 0), torch.where(both, rho.reciprocal(), 0)
