"""A loss of very many steps, taken segment by segment: no tensor is as long as the sequence.

The forward pass keeps one state a segment and adds up the loss; the backward pass takes the
segments from the last to the first, runs each again with its readout and loss, and sweeps it.
"""

from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from bptt_lab.core.cell import Cell, Layer
from bptt_lab.core.validation import Ge, check
from bptt_lab.gradients.differentiable import refuse_second_derivative, refuse_transforms
from bptt_lab.gradients.segments import Segmented, segment_length, segments
from bptt_lab.gradients.stack import WEIGHT_GRADIENTS, by_layer, cast, unroll_layers
from bptt_lab.nn.losses import ElementLoss, masked_sum
from bptt_lab.nn.rnn import VanillaRNN


def segmented_loss(
    rnn: VanillaRNN,
    readout: nn.Linear,
    loss: ElementLoss,
    input: Tensor,
    target: Tensor,
    mask: Tensor,
    hx: Tensor,
    every: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum the losses that count over a sequence of any length; the gradient is full BPTT's.

    Cost: as gradient=checkpointed, and the readout and the loss twice; space for `every` steps
    and for L / every states.

    Args:
        rnn: the network; without dropout between its layers.
        readout: linear map from H states to O outputs.
        loss: maps outputs (L, N, O) and targets to losses (L, N); see bptt_lab.nn.losses.
        input: (L, N, I), which gets no gradient.
        target: (L, N) or (L, N, O), which gets no gradient.
        mask: (L, N), which losses count; it gets no gradient.
        hx: state before the first step, (num_layers, N, H).
        every: steps in a segment; null is twice the square root of L.

    Returns:
        The differentiable sum, and every layer's last state, detached.

    Raises:
        ValueError: where units would be dropped, the strategy is not exact or carries influence,
            time is not first, `every` is below 1, or input, target or mask wants a gradient.

    Examples:
        >>> import torch
        >>> from bptt_lab import VanillaRNN, segmented_loss
        >>> from bptt_lab.nn.losses import mse
        >>> rnn, readout, x = VanillaRNN(1, 8), torch.nn.Linear(8, 1), torch.randn(10_000, 1, 1)
        >>> count = torch.ones(10_000, 1, dtype=torch.bool)
        >>> total, h_n = segmented_loss(rnn, readout, mse, x, x, count, torch.zeros(1, 1, 8))
        >>> total.backward()
    """
    if rnn.training and rnn.dropout > 0 and rnn.num_layers > 1:
        raise ValueError(
            f"dropout={rnn.dropout}: a segment is run twice and must drop the same units; "
            "use dropout=0, or gradient=checkpointed on the whole sequence"
        )
    if not rnn.gradient.exact_within_chunk or rnn.gradient.carries_influence:
        problem = "is not exact, or carries influence, which a loss in segments does not"
        raise ValueError(f"gradient={rnn.gradient!r}: {problem}; use Checkpointed()")
    if rnn.batch_first:
        raise ValueError("batch_first=True: must be False; set it and give data with time first")
    check("every", every, Annotated[int | None, Ge(1)], {})
    for name, tensor in (("input", input), ("target", target), ("mask", mask)):
        if tensor.requires_grad:
            raise ValueError(f"{name} wants a gradient, as long as the sequence; detach it")
    _, *tensors = cast(rnn, input, hx)
    refuse_transforms("segmented_loss", [input, *tensors])
    cell, counted = Cell(rnn.nonlinearity, rnn.leak), (input, target, mask)
    known = every or segment_length(len(input)), rnn.num_layers, cell, loss
    total, h_n = _SegmentedLoss.apply(  # type: ignore[no-untyped-call]
        known, counted, readout.weight, readout.bias, *tensors
    )
    return total, h_n


class _SegmentedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        known: tuple[int, int, Cell, ElementLoss],
        counted: tuple[Tensor, Tensor, Tensor],
        readout_weight: Tensor,
        readout_bias: Tensor | None,
        hx: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        (every, num_layers, cell, loss), input = known, counted[0]
        parts, total = list(segments(len(input), every)), readout_weight.new_zeros(())
        # Allocated at once: small tensors kept between large ones freed would split the heap.
        kept = hx.new_empty(len(parts), *hx.shape)
        for part, keep in zip(parts, kept, strict=True):
            keep.copy_(hx)
            x_LNI = input[part].to(hx.dtype)
            layers = list(unroll_layers(x_LNI, hx, by_layer(weights, num_layers), cell))
            output = layers[-1].states[1:].to(readout_weight.dtype)
            prediction = linear(output, readout_weight, readout_bias)
            target, mask = (tensor[part] for tensor in counted[1:])
            total += masked_sum(loss(prediction, target), mask)
            hx = torch.stack([layer.states[-1] for layer in layers])
        ctx.known = known
        ctx.mark_non_differentiable(hx)
        ctx.save_for_backward(*counted, kept, readout_weight, readout_bias, *weights)
        return total, hx

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, *_: Any) -> Any:
        refuse_second_derivative("segmented_loss", grad_total)
        every, num_layers, cell, loss = ctx.known
        input, target, mask, kept, readout_weight, readout_bias, *weights = ctx.saved_tensors
        readout = [readout_weight] if readout_bias is None else [readout_weight, readout_bias]
        of_readout = [torch.zeros_like(tensor) for tensor in readout]

        def credit(part: slice, layers: list[Layer]) -> Tensor:
            leaves = [layers[-1].states[1:].to(readout_weight.dtype), *readout]
            with torch.enable_grad():
                leaves = [leaf.detach().requires_grad_() for leaf in leaves]
                total = masked_sum(loss(linear(*leaves), target[part]), mask[part])
                q_LNH, *more = torch.autograd.grad(total, leaves, grad_total)
            for summed, gradient in zip(of_readout, more, strict=True):
                summed += gradient
            return q_LNH.to(kept.dtype)

        run = Segmented(input, kept, by_layer(weights, num_layers), cell, every)
        gradients = run.sweep(set(WEIGHT_GRADIENTS), credit)
        of_bias = [None] if readout_bias is None else []
        return None, None, *of_readout, *of_bias, *gradients[1:]
