"""Full backpropagation through time from a few stored states: the rest is computed again.

Every `every` steps the states of all layers are kept. The backward pass takes the segments from
the last to the first: it unrolls a segment again from the state before it, sweeps it, and hands
the credit for that state to the segment before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bptt_lab.core import recurrence
from bptt_lab.core.cell import Cell, Swept, Weights
from bptt_lab.core.validation import Ge, checked
from bptt_lab.gradients.base import Carry, GradientStrategy, Unrolled, dropout_masks
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.future import WEIGHT_GRADIENTS, Layer, Stack, by_layer, cast

if TYPE_CHECKING:
    from bptt_lab.nn.rnn import VanillaRNN


class Checkpointed(GradientStrategy):
    """Full BPTT's gradient with the memory of a square root.

    Use it where the states of a chunk do not fit in memory. The output that it returns is as long
    as any, so the saving shows where nobody keeps the output; see bptt_lab.nn.segmented for losses
    that never need all of it. Dropout between layers stores its masks, L N H each.

    Cost: one more forward pass, a third more work than full; memory 2.5 sqrt(L) N H for null.

    Args:
        every: steps between two stored states; null is twice the square root of the steps.

    Raises:
        ConfigError: for an `every` below 1.

    Example:
        >>> from bptt_lab import VanillaRNN
        >>> rnn = VanillaRNN(3, 5, gradient=Checkpointed())

    Reference: Chen, Xu, Zhang & Guestrin (2016), "Training deep nets with sublinear memory cost".
    """

    exact_within_chunk: ClassVar[bool] = True
    exact_across_chunks: ClassVar[bool] = False
    unbiased: ClassVar[bool] = True
    cost: ClassVar[str] = "O(L N H (H+I)), a third more than full"
    memory: ClassVar[str] = "O(sqrt(L) N H)"

    @checked
    def __init__(self, *, every: Annotated[int | None, Ge(1)] = None) -> None:
        self.every = every

    def __repr__(self) -> str:
        return f"Checkpointed(every={self.every})"

    def states(
        self, rnn: VanillaRNN, input: Tensor, carry: Carry, lengths: Sequence[int] | None = None
    ) -> Unrolled:
        """Run one chunk; see GradientStrategy."""
        output, h_n = _Unroll.apply(  # type: ignore[no-untyped-call]
            self.every or segment_length(len(input)),
            (rnn.num_layers, Cell(rnn.nonlinearity, rnn.leak)),
            lengths,
            dropout_masks(rnn, input),
            *cast(rnn, input, carry.hx),
        )
        return Unrolled(output, h_n)

    def credit(self, rnn: VanillaRNN, input: Tensor, hx: Tensor, q: Tensor) -> Tensor:
        """Return dE/dh_t, which is full BPTT's; see GradientStrategy."""
        return Full().credit(rnn, input, hx, q)

    def mask(self, num_steps: int) -> Tensor:
        """M[t, s] = 1 iff s <= t."""
        return Full().mask(num_steps)


def unroll_segment(
    input_LNI: Tensor,
    hx: Tensor,
    weights: Sequence[Weights],
    cell: Cell,
    masks: Sequence[Tensor | None] | None = None,
) -> list[Layer]:
    """Run all layers over a few steps, from their states before them, (num_layers, N, H)."""
    layers, x_LNI = [], input_LNI
    for w, h_NH, mask in zip(weights, hx, masks or [None] * len(weights), strict=True):
        x_LNI = x_LNI if mask is None else x_LNI * mask
        states = recurrence.unroll(x_LNI, h_NH, w, cell)
        layers.append(Layer(x_LNI, states, w, mask))
        x_LNI = states[1:]
    return layers


def last_states(layers: Sequence[Layer]) -> Tensor:
    """Every layer's state after a segment, (num_layers, N, H)."""
    return torch.stack([layer.states[-1] for layer in layers])


class Gradients:
    """Sums the gradients of segments, from the last to the first.

    Args:
        want: fields of Swept that are wanted of the weights.
        num_layers: number of layers.
    """

    def __init__(self, want: set[str], num_layers: int) -> None:
        self.want = want
        self.weights: list[dict[str, Tensor]] = [{} for _ in range(num_layers)]
        self.grad_hx: Tensor | None = None  # credit for the states before the latest segment

    def add(self, swept: Sequence[Swept]) -> None:
        """Take in the gradients of the segment before those taken in."""
        for sums, layer in zip(self.weights, swept, strict=True):
            for name in self.want & set(WEIGHT_GRADIENTS):
                value = getattr(layer, name)
                sums[name] = sums[name].add_(value) if name in sums else value
        self.grad_hx = torch.stack([s.grad_hx for s in swept if s.grad_hx is not None])

    def of_parameters(self, names: Sequence[str]) -> list[Tensor | None]:
        """The parameters' gradients, layer by layer in nn.RNN's order."""
        return [sums.get(name) for sums in self.weights for name in names]


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        every: int,
        kind: tuple[int, Cell],
        lengths: Sequence[int] | None,
        masks: list[Tensor | None],
        input: Tensor,
        hx: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        num_layers, cell = kind
        kept, ends = [], []
        x_LNI = input
        # Layer by layer: no more than two layers' states exist at a time.
        for w, h_NH, mask in zip(by_layer(parameters, num_layers), hx, masks, strict=True):
            x_LNI = x_LNI if mask is None else x_LNI * mask
            states = recurrence.unroll(x_LNI, h_NH, w, cell)
            kept.append(states[:-1:every].clone())
            if lengths is None:
                ends.append(states[-1])
            else:
                ends.append(states[lengths, range(len(lengths))])
            x_LNI = states[1:]
        ctx.every, ctx.kind, ctx.lengths = every, kind, lengths
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(input, torch.stack(kept, 1), *masks, *parameters)
        return x_LNI, torch.stack(ends)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor | None, grad_h_n: Tensor | None) -> Any:
        num_layers, cell = ctx.kind
        input, kept, *saved = ctx.saved_tensors
        masks, weights = saved[:num_layers], by_layer(saved[num_layers:], num_layers)
        need_input, _, *need_weights = ctx.needs_input_grad[4:]
        want = set(WEIGHT_GRADIENTS if any(need_weights) else ()) | {"grad_hx"}
        grad_input = None
        if need_input:
            want.add("grad_input")
            grad_input = torch.empty_like(input)
        gradients = Gradients(want, num_layers)
        if ctx.lengths is None:
            gradients.grad_hx = grad_h_n
        parts = list(segments(len(input), ctx.every))
        for part, hx in zip(reversed(parts), kept.flip(0), strict=True):
            cut = [None if mask is None else mask[part] for mask in masks]
            layers = unroll_segment(input[part], hx, weights, cell, cut)
            q_LNH = None if grad_output is None else grad_output[part]
            stack = Stack(layers, cell, None, want, q_LNH, gradients.grad_hx)
            if ctx.lengths is not None:
                lengths = [length - part.start for length in ctx.lengths]
                stack = stack._replace(lengths=lengths, grad_ends=grad_h_n)
            swept = stack.sweep()
            gradients.add(swept)
            below = swept[0].grad_input
            if grad_input is not None and below is not None:
                grad_input[part] = below
        names = WEIGHT_GRADIENTS[: len(need_weights) // num_layers]
        of_parameters = gradients.of_parameters(names)
        return None, None, None, None, grad_input, gradients.grad_hx, *of_parameters


def segment_length(num_steps: int) -> int:
    """Twice the square root: half as many states are kept as a segment has steps."""
    return 2 * math.ceil(math.sqrt(num_steps))


def segments(num_steps: int, every: int) -> Iterator[slice]:
    """Cut steps into pieces of `every`, the last one shorter if need be."""
    for begin in range(0, num_steps, every):
        yield slice(begin, min(begin + every, num_steps))
