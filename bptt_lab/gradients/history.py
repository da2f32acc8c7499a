"""RTRL's gradient from the remembered steps of a sequence, without RTRL's influence.

    (1) delta_s = slope_s c_s,   c_{s-1} = q_{s-1} + (1 - leak) c_s + W_s^T delta_s
    (2) sum_t q_t M_t = sum_s delta_s extended_s^T
    (3) M_t: Eq. (1) and (2) from each unit of h_t, H sweeps at once

Every step has the weights that it was made with. So Eq. (2) is what an influence gives that was
carried along while the weights changed, M_t = J_t M_{t-1} + Mbar_t. For one loss it takes
O(T N H (H + J)) after T steps, where RTRL takes O(N H^3 J) at every step. L T N H steps of a chunk,
steps remembered, batch, hidden; J = I + H + 1 columns of `Chunk.extended`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bptt_lab.gradients.past import Chunk

BLOCK_BYTES = 1 << 25  # of the deltas of Eq. (3)


class Steps(NamedTuple):
    """Steps in a row that were made with the same weights."""

    extended: Tensor  # x_t, h_{t-1} and 1 if any, (L, N, J)
    slope: Tensor  # leak phi'(a_t), (L, N, H)
    weight_hh: Tensor  # (H, H)


def remembered(chunk: Chunk) -> Steps:
    """Return a chunk's steps, in memory that nobody changes."""
    return Steps(chunk.extended, chunk.slope, chunk.weights.hh.clone())


def pull_back(history: Sequence[Steps], leak: float, q_LNH: Tensor) -> Tensor:
    """Return the gradient of Eq. (2), (H, J), summed over the batch.

    Args:
        history: the steps from the beginning of the sequence on.
        leak: of the recurrence.
        q_LNH: immediate credit of the latest steps; there is none at earlier ones.
    """
    extended_TNJ = torch.cat([steps.extended for steps in history])
    delta_TNH = q_LNH.new_empty(*extended_TNJ.shape[:2], q_LNH.shape[-1])
    latest = iter(reversed(q_LNH.unbind()))
    c_NH = torch.zeros_like(q_LNH[0])
    known = zip(reversed(delta_TNH.unbind()), _backwards(history), strict=True)
    for delta_NH, (slope_NH, weight_hh) in known:  # Eq. (1)
        if (q_NH := next(latest, None)) is not None:
            c_NH = c_NH + q_NH
        torch.mul(slope_NH, c_NH, out=delta_NH)
        c_NH = _handed_on(c_NH, delta_NH, weight_hh, leak)
    return delta_TNH.flatten(0, 1).t() @ extended_TNJ.flatten(0, 1)


def influence(history: Sequence[Steps], leak: float) -> Tensor:
    """Return M_t of Eq. (3) after the latest step, (N, H, H, J)."""
    extended_NTJ = torch.cat([steps.extended for steps in history]).transpose(0, 1)
    _, batch_size, hidden_size = history[0].slope.shape
    size = batch_size * hidden_size**2
    block = max(1, BLOCK_BYTES // (size * extended_NTJ.element_size()))
    c_NHH = torch.diag_embed(extended_NTJ.new_ones(batch_size, hidden_size))
    M_NPJ = extended_NTJ.new_zeros(batch_size, hidden_size**2, extended_NTJ.shape[-1])
    steps, end = _backwards(history), extended_NTJ.shape[1]
    for last in range(end, 0, -block):
        part = slice(max(last - block, 0), last)
        delta = c_NHH.new_empty(part.stop - part.start, *c_NHH.shape)
        for delta_NHH, (slope_NH, weight_hh) in zip(reversed(delta.unbind()), steps, strict=False):
            torch.mul(slope_NH[:, None], c_NHH, out=delta_NHH)
            c_NHH = _handed_on(c_NHH, delta_NHH, weight_hh, leak)
        M_NPJ.baddbmm_(delta.flatten(2).permute(1, 2, 0), extended_NTJ[:, part])
    return M_NPJ.view(batch_size, hidden_size, hidden_size, -1)


def _backwards(history: Sequence[Steps]) -> Iterator[tuple[Tensor, Tensor]]:
    """Every step's slope and weights, from the latest to the first."""
    for steps in reversed(history):
        for slope_NH in reversed(steps.slope.unbind()):
            yield slope_NH, steps.weight_hh


def _handed_on(c: Tensor, delta: Tensor, weight_hh: Tensor, leak: float) -> Tensor:
    """What a step hands to the step before, Eq. (1)."""
    before = delta @ weight_hh
    return before if leak == 1 else before.add_(c, alpha=1 - leak)
