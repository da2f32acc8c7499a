"""Truncated backpropagation through time: every fixed truncation is a mask.

M[t, s] says whether the loss at step t reaches the parameters' use at step s, both from 1 to T.

    chunk    floor((t-1)/k) = floor((s-1)/k)                  detach every k steps
    lag      t - s < k                                        each loss sees exactly k steps
    window   s > e(t) - k,  e(t) = min(T, ceil(t/k1) k1)      every k1 steps, look k back
    tail     s > T - k                                        detach once, k steps before the end

k counts the loss's own step: k = 1 means no recurrence. Lag counts time only, so passing from one
layer to the next at the same step costs nothing. chunk and tail are cuts in full BPTT's sweep; lag
and window need the joint stack of layers, where k sweeps one step apart (or one every k1) run side
by side, k products in all and no loop over time.

References: Williams & Peng (1990) for window, their BPTT(h; h') with h = k, h' = k1; Sutskever
(2013), section 2.8.6, for k1 and k2.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from bptt_lab import recurrence
from bptt_lab.gradients.future import FutureFacing, Stack
from bptt_lab.limits import AtLeast, AtMost, OnlyWith, checked
from bptt_lab.recurrence import Credit


class Truncated(FutureFacing):
    """Full BPTT's gradient less the terms outside a mask.

    Use it where sequences are long or endless. Do not use it where what must be learnt lies
    further back than k steps: the gradient is biased and may point the wrong way.

    Cost: chunk as full; lag k times full's sweep; window k/k1 times; tail k/L times.

    Args:
        k: steps a loss's credit travels, its own included; 1 or more.
        mode: which mask, see the module's table.
        k1: for window only, steps between two sweeps, 1 to k; null is half of k, rounded up.

    Raises:
        ConfigError: where a setting lies outside these limits.

    Example:
        >>> from bptt_lab import VanillaRNN
        >>> rnn = VanillaRNN(3, 5, gradient=Truncated(k=4, mode="lag"))
    """

    exact_within_chunk: ClassVar[bool] = False
    exact_across_chunks: ClassVar[bool] = False
    unbiased: ClassVar[bool] = False
    cost: ClassVar[str] = "O(L N H (H+I)), sweep times k/k1 for window, k for lag"
    memory: ClassVar[str] = "O(L N H)"

    @checked
    def __init__(
        self,
        *,
        k: Annotated[int, AtLeast(1)] = 16,
        mode: Literal["chunk", "lag", "window", "tail"] = "chunk",
        k1: Annotated[int | None, AtLeast(1), AtMost("k"), OnlyWith("mode", "window")] = None,
    ) -> None:
        self.k = k
        self.mode = mode
        self.k1 = (k + 1) // 2 if k1 is None else k1

    def __repr__(self) -> str:
        k1 = f", k1={self.k1}" if self.mode == "window" else ""
        return f"Truncated(k={self.k}, mode={self.mode!r}{k1})"

    def assign(self, stack: Stack, record: bool = False) -> list[Credit]:
        """Sweep as the mode says; a mask that reaches everything is full BPTT's."""
        num_steps = len(stack.layers[0].states) - 1
        if self.k >= num_steps:
            return stack.sweep(record=record)
        if self.mode == "chunk":
            return stack.sweep([float(t % self.k > 0) for t in range(num_steps)], record)
        if self.mode == "lag":
            return _lag(stack, self.k, record)
        if self.mode == "window":
            return _window(stack, self.k, self.k1, record)
        return _tail(stack, self.k, record)

    def mask(self, num_steps: int) -> Tensor:
        """M[t, s] of the module's table, (T, T) booleans."""
        t = torch.arange(1, num_steps + 1)[:, None]
        s = torch.arange(1, num_steps + 1)[None, :]
        if self.mode == "chunk":
            reached = (t - 1) // self.k == (s - 1) // self.k
        elif self.mode == "lag":
            reached = t - s < self.k
        elif self.mode == "window":
            end = (-(-t // self.k1) * self.k1).clamp(max=num_steps)
            reached = s > end - self.k
        else:
            reached = (s > num_steps - self.k).expand(num_steps, -1)
        return reached & (s <= t)


def _ends(stack: Stack) -> Tensor:
    """Number of steps of every sequence, (N,)."""
    states = stack.layers[0].states
    lengths = stack.lengths or [len(states) - 1] * states.shape[1]
    return torch.tensor(lengths, device=states.device)


def _tail(stack: Stack, k: int, record: bool) -> list[Credit]:
    """Full BPTT's credit on the last k steps of each sequence, none before.

    The mask depends on s alone, so the sweep over the last steps is full BPTT's, blotted out
    where a shorter sequence has not come to its own last k steps.
    """
    ends_N = _ends(stack)
    begin = max(0, int(ends_N.min()) - k)
    part = stack.since(begin)
    steps = torch.arange(begin, len(stack.layers[0].states) - 1, device=ends_N.device)
    within_LN1 = None if stack.lengths is None else (steps[:, None] >= ends_N - k)[..., None]
    credits = part.sweep(record=record, within=within_LN1)
    return credits if begin == 0 else [credit._replace(first=None) for credit in credits]


def _lag(stack: Stack, k: int, record: bool) -> list[Credit]:
    """Every loss's own sweep of k steps, all side by side: k products over all steps at once.

    (1) C[s] <- Q[s] + (1 - leak) C'[s+1] + W_hh^T Delta'[s+1],  Delta = slope * C

    C' and Delta' are the iteration before; the part of Q that comes from the layer above is this
    iteration's, since it takes no time.
    """
    slopes = [recurrence.slopes(layer.states, stack.phi, stack.leak) for layer in stack.layers]
    credits: list[Credit] = []
    for lag in range(k):
        before, credits = credits, []
        for index in reversed(range(len(stack.layers))):
            q_LNH = stack.immediate(index, credits[0].delta if credits else None)
            c_LNH = q_LNH.clone(memory_format=torch.contiguous_format)
            if lag > 0:  # Eq. (1)
                past, hidden_size = before[index], c_LNH.shape[-1]
                assert past.credit is not None
                if stack.leak != 1:
                    c_LNH[:-1].add_(past.credit[1:], alpha=1 - stack.leak)
                c_LNH[:-1].view(-1, hidden_size).addmm_(
                    past.delta[1:].view(-1, hidden_size), stack.layers[index].weight_hh
                )
            credits.insert(0, Credit(slopes[index] * c_LNH, c_LNH[0], c_LNH))
    return credits


def _window(stack: Stack, k: int, k1: int, record: bool) -> list[Credit]:
    """One sweep of k steps for each block of k1 losses, from the block's end, all side by side.

    Block b holds the losses (b - 1) k1 < t <= e_b = min(T, b k1); its credit at step e_b - j is
    found in iteration j for all blocks at once (rows of B * N), and added up over blocks.
    """
    num_steps, batch_size, hidden_size = stack.layers[0].states[1:].shape
    device = stack.layers[0].states.device
    starts_B1 = torch.arange(0, num_steps, k1, device=device)[:, None]
    ends_BN = torch.minimum(starts_B1 + k1, _ends(stack))
    size = (num_steps * batch_size, hidden_size)
    slopes = [recurrence.slopes(x.states, stack.phi, stack.leak).view(size) for x in stack.layers]
    outside = [stack.immediate(i).reshape(size) for i in range(len(slopes))]
    delta_sum = [torch.zeros_like(slope) for slope in slopes]
    credit_sum = [torch.zeros_like(slope) for slope in slopes] if record else None
    first = [slope.new_zeros(batch_size, hidden_size) for slope in slopes]
    c: list[Tensor] = [slopes[0].new_zeros(ends_BN.numel(), hidden_size) for _ in slopes]
    delta: list[Tensor] = list(c)
    for j in range(k):
        s_BN = ends_BN - 1 - j  # counted from 0
        alive = (s_BN >= 0).view(-1, 1)
        own_loss = alive & (s_BN >= starts_B1).view(-1, 1)
        rows = (s_BN.clamp(min=0) * batch_size + torch.arange(batch_size, device=device)).view(-1)
        for i in reversed(range(len(slopes))):
            layer = stack.layers[i]
            c[i] = (1 - stack.leak) * c[i] + delta[i] @ layer.weight_hh
            c[i] += outside[i][rows] * own_loss
            if i + 1 < len(slopes):
                above = stack.layers[i + 1]
                handed = delta[i + 1] @ above.weight_ih
                c[i] += handed if above.dropout is None else handed * above.dropout.view(size)[rows]
            c[i] *= alive
            delta[i] = slopes[i][rows] * c[i]
            delta_sum[i].index_add_(0, rows, delta[i])
            first[i] += (c[i] * (s_BN == 0).view(-1, 1)).view(*s_BN.shape, -1).sum(0)
            if credit_sum is not None:
                credit_sum[i].index_add_(0, rows, c[i])
    shape = (num_steps, batch_size, hidden_size)
    return [
        Credit(d.view(shape), f, None if credit_sum is None else credit_sum[i].view(shape))
        for i, (d, f) in enumerate(zip(delta_sum, first, strict=True))
    ]
