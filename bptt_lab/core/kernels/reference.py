"""The recurrence in operations of torch, in place: any device, any floating type.

Equations are those of bptt_lab.core.cell. The sweep works through time in segments, so that delta
never exists for all steps at once unless it is asked for.
"""

from collections.abc import Sequence, Set

import torch
from torch import Tensor

from bptt_lab.core.cell import NONLINEARITIES, Cell, Layer, Swept, Weights, bias, from_delta, slopes

# A segment is a thirty-second of the steps, but its products have this many elements to work on.
ELEMENTS = 1 << 16


def unroll(
    input_LNI: Tensor,
    hx_NH: Tensor,
    weights: Weights,
    cell: Cell,
    values: Tensor | None = None,
    *,
    steady: bool = False,
) -> Tensor:
    """Run one layer over time, Eq. (1) and (2), writing every state once: (L + 1, N, H)."""
    if steady:
        assert values is None
        return _steady_states(input_LNI, hx_NH, weights, cell)
    num_steps, batch_size, _ = input_LNI.shape
    hidden_size, input_size = weights.ih.shape
    states = input_LNI.new_empty(num_steps + 1, batch_size, hidden_size)
    states[0] = hx_NH
    projected = states[1:].view(-1, hidden_size)
    flat = input_LNI.reshape(num_steps * batch_size, input_size)
    shift = bias(weights)
    if shift is None:
        torch.mm(flat, weights.ih.t(), out=projected)
    else:
        torch.addmm(shift, flat, weights.ih.t(), out=projected)
    apply_, weight_hh_t, leak = NONLINEARITIES[cell.phi].apply_, weights.hh.t(), cell.leak
    h_NH, *rows = states.unbind(0)
    for t, a_NH in enumerate(rows):
        apply_(a_NH.addmm_(h_NH, weight_hh_t))
        if values is not None:
            values[t] = a_NH
        if leak != 1:
            a_NH.mul_(leak).add_(h_NH * (1 - leak))
        h_NH = a_NH
    return states


def _steady_states(input_LNI: Tensor, hx_NH: Tensor, weights: Weights, cell: Cell) -> Tensor:
    """Eq. (1) and (2) in elementwise operations only, each number's sum in one order.

    A library's product orders a sum by the shapes that it meets.
    """
    states = input_LNI.new_zeros(len(input_LNI) + 1, *hx_NH.shape)
    states[0] = hx_NH
    shift = bias(weights)
    if shift is not None:
        states[1:] = shift
    for x_LN, w_H in zip(input_LNI.unbind(2), weights.ih.unbind(1), strict=True):
        states[1:].addcmul_(x_LN[..., None], w_H)
    h_NH, *rows = states.unbind(0)
    for a_NH in rows:
        for h_N, w_H in zip(h_NH.unbind(1), weights.hh.unbind(1), strict=True):
            a_NH.addcmul_(h_N[:, None], w_H)
        if cell.phi == "sigmoid":  # torch's own rounds by a number's place in its tensor
            a_NH.neg_().exp_().add_(1).reciprocal_()
        else:
            NONLINEARITIES[cell.phi].apply_(a_NH)
        if cell.leak != 1:
            a_NH.mul_(cell.leak).add_(h_NH * (1 - cell.leak))
        h_NH = a_NH
    return states


def sweep(
    q_LNH: Tensor | None,
    layer: Layer,
    cell: Cell,
    want: Set[str],
    *,
    q_last_NH: Tensor | None = None,
    keep: Sequence[float] | None = None,
) -> Swept:
    """Sweep one layer back over time, Eq. (3) to (5); see bptt_lab.core.recurrence."""
    input_LNI, states = layer.input, layer.states
    num_steps, row_size = len(input_LNI), states[0].numel()
    length = max(-(-num_steps // 32), -(-ELEMENTS // max(row_size, 1)))
    over_time = {name: torch.empty_like(states[1:]) for name in want & {"delta", "credit"}}
    if "grad_input" in want:
        over_time["grad_input"] = torch.empty_like(input_LNI, memory_format=torch.contiguous_format)
    summed: dict[str, Tensor] = {}
    last = torch.zeros_like(states[0]) if q_last_NH is None else q_last_NH
    for end in range(num_steps, 0, -length):
        begin = max(0, end - length)
        q = None if q_LNH is None else q_LNH[begin:end]
        kept = None if keep is None else keep[begin:end]
        part = _sweep_segment(q, layer.part(begin, end), cell, want, last, kept)
        # What the segment hands to the step before it enters there like any credit.
        assert part.grad_hx is not None
        last = part.grad_hx
        if keep is not None and begin > 0 and keep[begin] != 1:
            # Not a product with 0: what is cut may be infinite.
            last = last * keep[begin] if keep[begin] else torch.zeros_like(last)
        for name, tensor in over_time.items():
            tensor[begin:end] = getattr(part, name)
        for name in want & {"grad_weight_ih", "grad_weight_hh", "grad_bias"}:
            value = getattr(part, name)
            summed[name] = summed[name].add_(value) if name in summed else value
    return Swept(**over_time, **summed, grad_hx=last if "grad_hx" in want else None)


def _sweep_segment(
    q_LNH: Tensor | None,
    layer: Layer,
    cell: Cell,
    want: Set[str],
    last_NH: Tensor,
    keep: Sequence[float] | None,
) -> Swept:
    """The sweep over some steps, from the credit that comes from behind them, (N, H)."""
    delta_LNH = slopes(layer.values, cell)
    credit_LNH = torch.empty_like(delta_LNH) if "credit" in want else None
    rows, leak = delta_LNH.unbind(0), cell.leak
    immediate = [torch.zeros_like(last_NH)] * len(rows) if q_LNH is None else q_LNH.unbind(0)
    factors = [1.0] * len(rows) if keep is None else keep
    c_NH = last_NH
    for t in reversed(range(len(rows))):
        q_NH = immediate[t]
        if t + 1 == len(rows):
            c_NH = q_NH + last_NH
        elif factors[t + 1] == 0:
            c_NH = q_NH
        else:  # Eq. (3)
            handed_NH = torch.addmm(q_NH, rows[t + 1], layer.weights.hh, alpha=factors[t + 1])
            if leak != 1:
                handed_NH.add_(c_NH, alpha=factors[t + 1] * (1 - leak))
            c_NH = handed_NH
        rows[t].mul_(c_NH)
        if credit_LNH is not None:
            credit_LNH[t] = c_NH
    credit = c_NH[None] if credit_LNH is None else credit_LNH
    return from_delta(delta_LNH, credit, layer, cell, want | {"grad_hx"})
