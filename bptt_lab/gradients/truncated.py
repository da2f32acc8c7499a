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

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from bptt_lab.core.cell import Swept, slopes
from bptt_lab.core.validation import Ge, Le, OnlyWith, checked
from bptt_lab.gradients.future import FutureFacing
from bptt_lab.gradients.stack import Stack


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

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import Truncated
        >>> rnn = VanillaRNN(3, 5, gradient=Truncated(k=4, mode="lag"))
    """

    cost: ClassVar[str] = "O(L N H (H+I)), sweep times k/k1 for window, k for lag"
    space: ClassVar[str] = "O(L N H)"

    @checked
    def __init__(
        self,
        *,
        k: Annotated[int, Ge(1)] = 16,
        mode: Literal["chunk", "lag", "window", "tail"] = "chunk",
        k1: Annotated[int | None, Ge(1), Le("k"), OnlyWith("mode", "window")] = None,
    ) -> None:
        self.k = k
        self.mode = mode
        self.k1 = (k + 1) // 2 if k1 is None and mode == "window" else k1

    @property
    def one_sweep(self) -> bool:  # type: ignore[override]  # it follows from a setting
        """Whether the mask is a cut in full BPTT's sweep."""
        return self.mode in ("chunk", "tail")

    def __repr__(self) -> str:
        k1 = f", k1={self.k1}" if self.mode == "window" else ""
        return f"Truncated(k={self.k}, mode={self.mode!r}{k1})"

    def factors(self, num_steps: int, draw: int) -> Sequence[float] | None:
        """Cuts between chunks; none where the mask reaches everything."""
        if self.k >= num_steps:
            return None
        if self.mode == "chunk":
            return [float(t % self.k > 0) for t in range(num_steps)]
        return super().factors(num_steps, draw)

    def assign(self, stack: Stack) -> list[Swept]:
        """Sweep as the mode says; a mask that reaches everything is full BPTT's."""
        num_steps = len(stack.layers[0].input)
        if self.k >= num_steps or self.mode == "chunk":
            return stack.sweep(self.factors(num_steps, 0))
        if self.mode == "lag":
            return _lag(stack, self.k)
        if self.mode == "window":
            assert self.k1 is not None
            return _window(stack, self.k, self.k1)
        return _tail(stack, self.k)

    def mask(self, num_steps: int) -> Tensor:
        """M[t, s] of the module's table, (T, T) booleans."""
        t = torch.arange(1, num_steps + 1)[:, None]
        s = torch.arange(1, num_steps + 1)[None, :]
        if self.mode == "chunk":
            reached = (t - 1) // self.k == (s - 1) // self.k
        elif self.mode == "lag":
            reached = t - s < self.k
        elif self.mode == "window":
            assert self.k1 is not None
            end = (-(-t // self.k1) * self.k1).clamp(max=num_steps)
            reached = s > end - self.k
        else:
            reached = (s > num_steps - self.k).expand(num_steps, -1)
        return reached & (s <= t)


def _ends(stack: Stack) -> Tensor:
    """Number of steps of every sequence, (N,)."""
    input = stack.layers[0].input
    lengths = stack.lengths or [len(input)] * input.shape[1]
    return torch.tensor(lengths, dtype=torch.long, device=input.device)


def _tail(stack: Stack, k: int) -> list[Swept]:
    """Full BPTT's credit on the last k steps of each sequence, none before."""
    num_steps = len(stack.layers[0].input)
    begin = max(0, min(stack.lengths or [num_steps]) - k)
    part = stack.since(begin)
    swept = part.sweep() if stack.lengths is None else _ragged_tail(part, k)
    if begin == 0:
        return swept
    before = (0, 0, 0, 0, begin, 0)
    return [
        s._replace(
            grad_input=None if s.grad_input is None else pad(s.grad_input, before),
            grad_hx=None if s.grad_hx is None else torch.zeros_like(s.grad_hx),
        )
        for s in swept
    ]


def _ragged_tail(stack: Stack, k: int) -> list[Swept]:
    """The tail where sequences end apart.

    The mask depends on s alone, so the sweep is full BPTT's, blotted out where a sequence has not
    come to its own last k steps.
    """
    ends_N = _ends(stack)
    steps = torch.arange(len(stack.layers[0].input), device=ends_N.device)
    within_LN1 = (steps[:, None] >= ends_N - k)[..., None]

    def blotted(
        whole: Stack, index: int, q_LNH: Tensor | None, keep: Sequence[float] | None
    ) -> Swept:
        alone = whole._replace(layers=[whole.layers[index]], want={"delta", "credit"})
        swept = stack.sweep_layer(alone, 0, q_LNH, keep)
        assert swept.delta is not None and swept.credit is not None
        return whole.from_delta(index, swept.delta * within_LN1, swept.credit * within_LN1)

    return stack._replace(sweep_layer=blotted).sweep()


def _lag(stack: Stack, k: int) -> list[Swept]:
    """Every loss's own sweep of k steps, all side by side: k products over all steps at once."""
    *_, (c, delta) = lag_sweeps(stack, k, again=True)
    return [stack.from_delta(i, delta[i], c[i]) for i in range(len(c))]


def lag_sweeps(
    stack: Stack, num_lags: int, *, again: bool
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Yield every layer's credit and delta after each iteration of Eq. (1), in the same two lists.

    (1) C[s] <- Q[s] + (1 - leak) C'[s+1] + W_hh^T Delta'[s+1],  Delta = slope * C

    C' and Delta' are the iteration before; the part of Q that comes from the layer above is this
    iteration's, since it takes no time. Where losses enter `again` at every iteration, C is what
    all lags so far give; where they enter the first one only, what the latest lag gives.
    """
    slope = [slopes(layer.values, stack.cell) for layer in stack.layers]
    hidden_size, leak = slope[0].shape[-1], stack.cell.leak
    outside = [from_outside(stack, index) for index in range(len(slope))]
    c, delta = list(outside), list(outside)
    for lag in range(num_lags):
        for i in reversed(range(len(slope))):
            enters = again or lag == 0
            c_LNH = outside[i].clone() if enters else torch.zeros_like(outside[i])
            if i + 1 < len(slope):
                c_LNH += from_above(stack, i, delta[i + 1])
            if lag > 0:
                if leak != 1:
                    c_LNH[:-1].add_(c[i][1:], alpha=1 - leak)
                c_LNH[:-1].view(-1, hidden_size).addmm_(
                    delta[i][1:].view(-1, hidden_size), stack.layers[i].weights.hh
                )
            c[i] = c_LNH
            delta[i] = slope[i] * c_LNH
        yield c, delta


def _window(stack: Stack, k: int, k1: int) -> list[Swept]:
    """One sweep of k steps for each block of k1 losses, from the block's end, all side by side.

    Block b holds the losses (b - 1) k1 < t <= e_b = min(T, b k1); its credit at step e_b - j is
    found in iteration j for all blocks at once (rows of B * N), and added up over blocks.
    """
    slope = [slopes(layer.values, stack.cell) for layer in stack.layers]
    shape, device = slope[0].shape, slope[0].device
    num_steps, batch_size, hidden_size = shape
    starts_B1 = torch.arange(0, num_steps, k1, device=device)[:, None]
    ends_BN = torch.minimum(starts_B1 + k1, _ends(stack))
    outside = [from_outside(stack, i).view(-1, hidden_size) for i in range(len(slope))]
    delta_sum = [torch.zeros_like(s).view(-1, hidden_size) for s in slope]
    credit_sum = [torch.zeros_like(s).view(-1, hidden_size) for s in slope]
    c: list[Tensor] = [s.new_zeros(ends_BN.numel(), hidden_size) for s in slope]
    delta: list[Tensor] = list(c)
    for j in range(k):
        s_BN = ends_BN - 1 - j  # counted from 0
        alive = (s_BN >= 0).view(-1, 1)
        own_loss = alive & (s_BN >= starts_B1).view(-1, 1)
        rows = (s_BN.clamp(min=0) * batch_size + torch.arange(batch_size, device=device)).view(-1)
        for i in reversed(range(len(slope))):
            c[i] = (1 - stack.cell.leak) * c[i] + delta[i] @ stack.layers[i].weights.hh
            c[i] += outside[i][rows] * own_loss
            if i + 1 < len(slope):
                c[i] += from_above(stack, i, delta[i + 1], rows)
            c[i] *= alive
            delta[i] = slope[i].view(-1, hidden_size)[rows] * c[i]
            delta_sum[i].index_add_(0, rows, delta[i])
            credit_sum[i].index_add_(0, rows, c[i])
    return [
        stack.from_delta(i, delta_sum[i].view(shape), credit_sum[i].view(shape))
        for i in range(len(slope))
    ]


def from_outside(stack: Stack, index: int) -> Tensor:
    """Immediate credit of a layer without what comes from the layer above, (L, N, H)."""
    q_LNH, last_NH = stack.immediate(index, None), stack.immediate_at_end(index)
    states = stack.layers[index].states[1:]
    q_LNH = torch.zeros_like(states) if q_LNH is None else q_LNH.contiguous()
    if last_NH is not None:
        q_LNH = q_LNH.clone()
        q_LNH[-1] += last_NH
    return q_LNH


def from_above(stack: Stack, index: int, delta: Tensor, rows: Tensor | None = None) -> Tensor:
    """What the delta of the layer above, (..., H), hands to layer `index` at the same steps.

    `rows` says which of the L * N steps and sequences delta holds, if not all.
    """
    above = stack.layers[index + 1]
    handed = delta @ above.weights.ih
    if above.dropout is None:
        return handed
    return handed * (above.dropout if rows is None else above.dropout.flatten(0, 1)[rows])
