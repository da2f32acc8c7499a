"""torch's own graph over a plain loop of the same step: the reference for everything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from bptt_lab.core.cell import Cell
from bptt_lab.gradients.base import (
    Carry,
    GradientStrategy,
    RecurrentNet,
    Unrolled,
    dropout_masks,
)
from bptt_lab.gradients.differentiable import states_in_graph, unroll_in_graph
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.stack import cast


class Autograd(GradientStrategy):
    """Let torch record every step and differentiate the record.

    The strategy for torch.func, vmap and forward-mode derivatives. Do not use it for speed or
    long sequences: it is the slowest and the hungriest.

    Cost: as full, with an accumulation into the weight gradients at every step.

    Example:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import Autograd
        >>> rnn = VanillaRNN(3, 5, gradient=Autograd())
    """

    twice_differentiable = True
    exact_within_chunk = True
    unbiased = True
    cost: ClassVar[str] = "O(L N H (H+I)), slow constant"
    space: ClassVar[str] = "O(L N H), several copies"

    def states(
        self, rnn: RecurrentNet, input: Tensor, carry: Carry, lengths: Sequence[int] | None = None
    ) -> Unrolled:
        """Run one chunk; see GradientStrategy."""
        kind, masks = (rnn.num_layers, Cell(rnn.nonlinearity, rnn.leak)), dropout_masks(rnn, input)
        leaves = cast(rnn, input, carry.hx)
        return Unrolled(*unroll_in_graph(leaves, kind, lengths, masks))

    @torch.enable_grad()
    def credit(
        self, rnn: RecurrentNet, input: Tensor, hx: Tensor, q: Tensor, *, after: Carry | None = None
    ) -> Tensor:
        """Return dE/dh_t, asked of torch state by state; see GradientStrategy."""
        kind, masks = (rnn.num_layers, Cell(rnn.nonlinearity, rnn.leak)), [None] * rnn.num_layers
        leaves = [input, hx.detach().requires_grad_(), *(p for w in rnn.all_weights for p in w)]
        layers = states_in_graph(leaves, kind, masks)
        states = [h for layer in layers for h in layer]
        loss = (torch.stack(layers[-1]) * q).sum()
        return torch.stack(torch.autograd.grad(loss, states)).view(rnn.num_layers, *q.shape)

    def mask(self, num_steps: int) -> Tensor:
        """M[t, s] = 1 iff s <= t."""
        return Full().mask(num_steps)
