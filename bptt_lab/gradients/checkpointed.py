"""Full backpropagation through time from a few stored states: the rest is computed again."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from bptt_lab.core.cell import Cell
from bptt_lab.core.validation import Ge, checked
from bptt_lab.gradients.base import Carry, GradientStrategy, RecurrentNet, Unrolled, dropout_masks
from bptt_lab.gradients.differentiable import differentiable_gradients, refuse_transforms
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.segments import Segmented, segment_length
from bptt_lab.gradients.stack import by_layer, cast, last_state, unroll_layers, wanted


class Checkpointed(GradientStrategy):
    """Full BPTT's gradient with the space of a square root.

    Use it where the states of a chunk do not fit in memory. The output that it returns is as long
    as any, so the saving shows where nobody keeps the output; see bptt_lab.nn.segmented for losses
    that never need all of it. Dropout between layers stores its masks, L N H each.

    Cost: one more forward pass of all steps but the last segment's, a third more work than full at
    most; space 4.5 sqrt(L) N H for null. A backward pass under create_graph costs what `Autograd`
    costs.

    Args:
        every: steps between two stored states; null is twice the square root of the steps, or as
            many as a layer's states of 262,144 numbers have, if these are more.

    Raises:
        ConfigError: for an `every` below 1.

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import Checkpointed
        >>> rnn = VanillaRNN(3, 5, gradient=Checkpointed())

    Reference: Chen, Xu, Zhang & Guestrin (2016), "Training deep nets with sublinear memory cost".
    """

    twice_differentiable = True
    exact_within_chunk = True
    unbiased = True
    cost: ClassVar[str] = "O(L N H (H+I)), a third more than full"
    space: ClassVar[str] = "O(sqrt(L) N H)"

    @checked
    def __init__(self, *, every: Annotated[int | None, Ge(1)] = None) -> None:
        self.every = every

    def states(
        self, rnn: RecurrentNet, input: Tensor, carry: Carry, lengths: Sequence[int] | None = None
    ) -> Unrolled:
        """Run one chunk; see GradientStrategy."""
        leaves = cast(rnn, input, carry.hx)
        refuse_transforms(self, leaves)
        every = self.every or segment_length(input.shape[0], input.shape[1] * rnn.hidden_size)
        cell, masks = Cell(rnn.nonlinearity, rnn.leak), dropout_masks(rnn, input)
        known = every, cell, lengths, masks
        output, h_n = _Unroll.apply(known, *leaves)  # type: ignore[no-untyped-call]
        return Unrolled(output, h_n)

    def credit(
        self, rnn: RecurrentNet, input: Tensor, hx: Tensor, q: Tensor, *, after: Carry | None = None
    ) -> Tensor:
        """Return dE/dh_t, which is full BPTT's; see GradientStrategy."""
        return Full().credit(rnn, input, hx, q)


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, known: tuple[Any, ...], input: Tensor, hx: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        every, cell, lengths, masks = known
        kept, tails, ends, output = [], [], [], input
        # Layer by layer: no more than two layers' states exist at a time.
        weights = by_layer(parameters, hx.shape[0])
        last = (input.shape[0] - 1) // every * every
        for layer in unroll_layers(input, hx, weights, cell, masks, recorded=False):
            kept.append(layer.states[:-1:every].clone())
            if cell.leak == 1:  # else phi's values are needed besides
                tails.append(layer.states[last:].clone())
            ends.append(last_state(layer.states, lengths))
            output = layer.states[1:]
        ctx.known, ctx.num_layers = known[:3], hx.shape[0]
        ctx.set_materialize_grads(False)
        hx_or_none = hx if ctx.needs_input_grad[2] else None
        tensors = torch.stack(kept, 1), *masks, *parameters, *tails
        ctx.save_for_backward(input, hx_or_none, *tensors)
        return output, torch.cat(ends)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None, grad_h_n: Tensor | None) -> Any:
        (every, cell, lengths), num_layers = ctx.known, ctx.num_layers
        needed = ctx.needs_input_grad[1:]
        input, hx, kept, *saved = ctx.saved_tensors
        masks, saved = saved[:num_layers], saved[num_layers:]
        size = len(saved) - num_layers * (cell.leak == 1)
        parameters, tail = saved[:size], saved[size:]
        if torch.is_grad_enabled():
            leaves = [input, kept[0] if hx is None else hx, *parameters]
            known = leaves, cell, lengths, masks, needed
            return None, *differentiable_gradients(*known, [grad_output, grad_h_n])
        refuse_transforms("Checkpointed", [grad_output, grad_h_n])
        weights = by_layer(parameters, num_layers)
        run = Segmented(input, kept, weights, cell, every, masks, tail, lengths, grad_h_n)
        q = grad_output
        return None, *run.sweep(wanted(needed), lambda part, _: None if q is None else q[part])
