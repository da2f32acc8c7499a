"""torch's own graph over a plain loop of the same step: the reference for everything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from bptt_lab.core.cell import Cell, Weights, project, step
from bptt_lab.gradients.base import (
    Carry,
    GradientStrategy,
    RecurrentNet,
    Unrolled,
    compute_dtype,
    dropout_masks,
)
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.stack import last_state


class Autograd(GradientStrategy):
    """Let torch record every step and differentiate the record.

    The only strategy that can be differentiated twice. Do not use it for speed or long
    sequences: it is the slowest and the hungriest.

    Cost: as full, with an accumulation into the weight gradients at every step.

    Example:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import Autograd
        >>> rnn = VanillaRNN(3, 5, gradient=Autograd())
    """

    exact_within_chunk = True
    exact_across_chunks = False
    unbiased = True
    cost: ClassVar[str] = "O(L N H (H+I)), slow constant"
    space: ClassVar[str] = "O(L N H), several copies"

    def states(
        self, rnn: RecurrentNet, input: Tensor, carry: Carry, lengths: Sequence[int] | None = None
    ) -> Unrolled:
        """Run one chunk; see GradientStrategy."""
        dtype = compute_dtype(input)
        masks = dropout_masks(rnn, input)
        layers = _loop(rnn, input.to(dtype), carry.hx.to(dtype), masks)
        stacked = [torch.stack(states) for states in layers]
        ends = None if lengths is None else [length - 1 for length in lengths]
        h_n = torch.stack([last_state(states, ends) for states in stacked])
        return Unrolled(stacked[-1], h_n)

    @torch.enable_grad()
    def credit(
        self, rnn: RecurrentNet, input: Tensor, hx: Tensor, q: Tensor, *, after: Carry | None = None
    ) -> Tensor:
        """Return dE/dh_t, asked of torch state by state; see GradientStrategy."""
        layers = _loop(rnn, input, hx.detach().requires_grad_(), [None] * rnn.num_layers)
        states = [h for layer in layers for h in layer]
        loss = (torch.stack(layers[-1]) * q).sum()
        return torch.stack(torch.autograd.grad(loss, states)).view(rnn.num_layers, *q.shape)

    def mask(self, num_steps: int) -> Tensor:
        """M[t, s] = 1 iff s <= t."""
        return Full().mask(num_steps)


def _loop(
    rnn: RecurrentNet, input: Tensor, hx: Tensor, masks: list[Tensor | None]
) -> list[list[Tensor]]:
    """Every state of every layer, each its own tensor (N, H) in the graph."""
    cell = Cell(rnn.nonlinearity, rnn.leak)
    layers: list[list[Tensor]] = []
    x_LNI = input
    for parameters, h_NH, mask in zip(rnn.all_weights, hx, masks, strict=True):
        weights = Weights(*(p.to(x_LNI.dtype) for p in parameters))
        projected_LNH = project(x_LNI if mask is None else x_LNI * mask, weights)
        layers.append([])
        for projected_NH in projected_LNH:
            h_NH = step(projected_NH, h_NH, weights.hh, cell)
            layers[-1].append(h_NH)
        x_LNI = torch.stack(layers[-1])
    return layers
