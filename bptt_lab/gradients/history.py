"""RTRL's gradient from the remembered steps of a sequence, without RTRL's influence.

    (1) delta_s = slope_s c_s,   c_{s-1} = q_{s-1} + (1 - leak) c_s + W_s^T delta_s
    (2) sum_t q_t M_t = sum_s delta_s extended_s^T
    (3) M_t: Eq. (1) and (2) from each unit of h_t, H sweeps at once

Every step has the weights that it was made with. So Eq. (2) is what an influence gives that was
carried along while the weights changed, M_t = J_t M_{t-1} + Mbar_t. After T steps it takes
O(T N H (H + J)) for a loss, where RTRL takes O(N H^3 J) at every step. L T N H steps of a chunk,
steps remembered, batch, hidden; J = I + H + 1 columns of `extended`.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from bptt_lab.core import many
from bptt_lab.core.cell import Cell, Layer, Weights, slopes
from bptt_lab.gradients.base import RecurrentNet

BLOCK = 32  # steps whose deltas are kept until they are summed


class Lived(NamedTuple):
    """What a chunk began with, in memory that nobody changes."""

    input: Tensor  # (L, N, I)
    hx: Tensor  # (N, H)
    weights: Weights


class History(NamedTuple):
    """The steps of a sequence from its beginning on."""

    extended: Tensor  # x_t, h_{t-1} and 1 if any, (T, N, J)
    slope: Tensor  # leak phi'(a_t), (T, N, H)
    weight_hh: Sequence[Tensor]  # of each step
    leak: float


def remembered(rnn: RecurrentNet, input: Tensor, hx: Tensor) -> Lived:
    """Copy what a net of one layer begins a chunk with: input (L, N, I), hx (1, N, H)."""
    own = rnn.all_weights[0]
    dtype = torch.promote_types(own[0].dtype, torch.float32)
    kept = [tensor.detach().to(dtype, copy=True) for tensor in (input, hx[0], *own)]
    return Lived(kept[0], kept[1], Weights(*kept[2:]))


def history(chunks: Iterable[Lived], cell: Cell) -> History:
    """Run remembered chunks again, those of one length side by side."""
    extended, slope, weight_hh = [], [], list[Tensor]()
    for length, group in groupby(chunks, lambda chunk: len(chunk.input)):
        inputs, hx, each = zip(*group, strict=True)
        kinds = [kind for kind in zip(*each, strict=True) if kind[0] is not None]
        weights = Weights(*map(torch.stack, kinds))
        input_CLNI, hx_CNH = torch.stack(inputs), torch.stack(hx)
        count, (batch_size, hidden_size) = len(inputs), hx[0].shape
        states = input_CLNI.new_empty(count, length + 1, batch_size, hidden_size)
        states[:, 0] = hx_CNH
        values = states[:, 1:] if cell.leak == 1 else torch.empty_like(states[:, 1:])
        layers = Layer(input_CLNI, states, values, weights)
        many.unroll(layers, cell.phi, [cell.leak] * count)()
        parts = [input_CLNI, states[:, :-1]]
        if weights.bias_ih is not None:
            parts.append(torch.ones_like(input_CLNI[..., :1]))
        extended.append(torch.cat(parts, -1).flatten(0, 1))
        slope.append(slopes(values, cell).flatten(0, 1))
        weight_hh += [hh for hh in weights.hh for _ in range(length)]
    return History(torch.cat(extended), torch.cat(slope), weight_hh, cell.leak)


@torch.no_grad()
def pull_back(past: History, losses: Sequence[tuple[int, Tensor]]) -> Tensor:
    """Return the gradient of each of K losses by Eq. (2), (K, H, J), summed over the batch.

    Args:
        past: the steps.
        losses: in order of time, each as the number of steps that had been made when it arose, and
            the immediate credit (L, N, H) of the last L of these.
    """
    extended_TNJ, slope_TNH, weight_hh, _ = past
    given = defaultdict(list)
    for k, (end, q_LNH) in enumerate(losses):
        for s, q_NH in enumerate(q_LNH, end - len(q_LNH)):
            given[s].append((k, q_NH))
    first = len(losses)  # of those that have begun, going back
    c_KNH = slope_TNH.new_zeros(first, *slope_TNH.shape[1:])
    total_KHJ = slope_TNH.new_zeros(first, slope_TNH.shape[-1], extended_TNJ.shape[-1])
    for stop in range(len(weight_hh), 0, -BLOCK):
        begin = max(stop - BLOCK, 0)
        delta = c_KNH.new_zeros(len(c_KNH), stop - begin, *c_KNH.shape[1:])
        for s in reversed(range(begin, stop)):
            for k, q_NH in given[s]:
                c_KNH[k] += q_NH
                first = min(first, k)
            delta_kNH = slope_TNH[s] * c_KNH[first:]  # Eq. (1)
            delta[first:, s - begin] = delta_kNH
            c_KNH[first:] = _handed_on(c_KNH[first:], delta_kNH, weight_hh[s], past.leak)
        rows = extended_TNJ[begin:stop].flatten(0, 1).expand(len(c_KNH) - first, -1, -1)
        total_KHJ[first:].baddbmm_(delta[first:].flatten(1, 2).transpose(1, 2), rows)  # Eq. (2)
    return total_KHJ


@torch.no_grad()
def influence(past: History) -> Tensor:
    """Return M_t of Eq. (3) after the latest step, (N, H, H, J)."""
    extended_NTJ, slope_TNH = past.extended.transpose(0, 1), past.slope
    _, batch_size, hidden_size = slope_TNH.shape
    c_NHH = torch.diag_embed(slope_TNH.new_ones(batch_size, hidden_size))
    M_NPJ = slope_TNH.new_zeros(batch_size, hidden_size**2, extended_NTJ.shape[-1])
    for stop in range(len(slope_TNH), 0, -BLOCK):
        begin = max(stop - BLOCK, 0)
        delta = c_NHH.new_empty(batch_size, stop - begin, hidden_size, hidden_size)
        for s in reversed(range(begin, stop)):
            delta_NHH = slope_TNH[s, :, None] * c_NHH
            delta[:, s - begin] = delta_NHH
            c_NHH = _handed_on(c_NHH, delta_NHH, past.weight_hh[s], past.leak)
        M_NPJ.baddbmm_(delta.flatten(2).transpose(1, 2), extended_NTJ[:, begin:stop])
    return M_NPJ.view(batch_size, hidden_size, hidden_size, -1)


def _handed_on(c: Tensor, delta: Tensor, weight_hh: Tensor, leak: float) -> Tensor:
    """What a step hands to the step before, Eq. (1)."""
    before = delta @ weight_hh
    return before if leak == 1 else before.add_(c, alpha=1 - leak)
