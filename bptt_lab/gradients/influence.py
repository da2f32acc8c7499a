"""Influence of every parameter on every unit, carried forward in time: the core of RTRL.

    (1) M_t = J_t M_{t-1} + Mbar_t,   J_t = (1 - leak) I + diag(slope_t) W_hh
    (2) dE/dtheta = sum_t q_t M_t = sum_t (q_t J_t) M_{t-1} + q_t Mbar_t
    (3) M_e = J_e ... J_{b+1} M_b + sum_{b < s <= e} J_e ... J_{s+1} Mbar_s

M is (N, H, H J), its columns (unit a, column j of `Chunk.extended`); Mbar_t has entries only where
a unit meets its own parameters: slope_t[a] extended_t[j]. L N I H steps, batch, input, hidden;
J = I + H + 1.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from bptt_lab.gradients.past import Chunk

# Two influence matrices of one group of examples should stay in a core's own cache.
CACHE_BYTES = 1 << 20
JACOBIAN_BYTES = 1 << 18
FOLD_BYTES = 1 << 25  # of the deltas of a block


def recur(
    chunk: Chunk,
    influence: Tensor | None,
    q_LNH: Tensor | None = None,
    every: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Eq. (1) step by step, and Eq. (2) in the same products.

    A step is one product for a group of examples at a time, whose M stays in the cache. The
    gradient so far is one row more of M, and q_t J_t one row more of J_t, so that M is read once.

    Returns M after the chunk, and the gradient (H, J) where q was given. `influence` is M before
    it, (N, H, H J), None being zero. M_1 ... M_L are written to `every`, (L, N, H, H J).
    """
    extended_LNJ = chunk.extended
    _, batch_size, hidden_size = chunk.slope.shape
    columns = hidden_size * extended_LNJ.shape[-1]
    after = chunk.slope.new_empty(batch_size, hidden_size, columns)
    gradient = chunk.slope.new_zeros(columns)
    rows = hidden_size + (q_LNH is not None)
    size = max(1, CACHE_BYTES // (2 * rows * columns * after.element_size()))
    for begin in range(0, batch_size, size):
        group = slice(begin, min(begin + size, batch_size))
        room = after.new_empty(2, group.stop - begin, rows, columns)
        inner = room[:, :, :hidden_size]
        by_unit = inner.view(*inner.shape[:3], hidden_size, -1)
        own = by_unit.diagonal(dim1=2, dim2=3).transpose(2, 3)
        old, new = (_Buffer(*parts) for parts in zip(room, inner, own, strict=True))
        old.all.zero_()
        if influence is not None:
            old.influence.copy_(influence[group])
        q_LnH = None if q_LNH is None else q_LNH[:, group]
        slope_LnH1, extended_Ln1J = chunk.slope[:, group, :, None], extended_LNJ[:, group, None]
        jacobians = _jacobians(slope_LnH1, q_LnH, chunk)
        steps = zip(jacobians, slope_LnH1.unbind(0), extended_Ln1J.unbind(0), strict=True)
        for t, (J_nrr, slope_nH1, extended_n1J) in enumerate(steps):
            torch.bmm(J_nrr, old.all, out=new.all)  # Eq. (1) and (2)
            new.own.addcmul_(slope_nH1, extended_n1J)
            if every is not None:
                every[t, group] = new.influence
            old, new = new, old
        after[group] = old.influence
        if q_LNH is not None:
            gradient += old.all[:, hidden_size].sum(0)
    if q_LNH is None:
        return after, None
    at_once = (q_LNH * chunk.slope).flatten(0, 1).t() @ extended_LNJ.flatten(0, 1)
    return after, at_once.add_(gradient.view_as(at_once))


class _Buffer(NamedTuple):
    """Room for the influence of a group of examples, and its parts."""

    all: Tensor  # the influence and, where it is wanted, the gradient so far, (n, H [+ 1], H J)
    influence: Tensor  # (n, H, H J)
    own: Tensor  # every unit's influence of its own parameters, (n, H, J)


def _jacobians(slope_LnH1: Tensor, q_LnH: Tensor | None, chunk: Chunk) -> Iterator[Tensor]:
    """J_t of every step, (n, H, H), or with q ((J_t, 0), (q_t J_t, 1)), (n, H + 1, H + 1)."""
    num_steps, count, hidden_size, _ = slope_LnH1.shape
    keep = 1 - chunk.cell.leak
    rows = hidden_size + (q_LnH is not None)
    length = max(1, JACOBIAN_BYTES // (count * rows**2 * slope_LnH1.element_size()))
    room = slope_LnH1.new_zeros(min(length, num_steps), count, rows, rows)
    if q_LnH is not None:
        room[..., -1, -1] = 1
    for begin in range(0, num_steps, length):
        part = slice(begin, begin + length)
        slope_lnH1 = slope_LnH1[part]
        jacobian = room[: len(slope_lnH1)]
        inner = jacobian[..., :hidden_size, :hidden_size]
        torch.mul(slope_lnH1, chunk.weights.hh, out=inner)
        if keep:
            inner.diagonal(dim1=2, dim2=3).add_(keep)
        if q_LnH is not None:
            q_lnH = q_LnH[part]
            delta_lnH = q_lnH * slope_lnH1[..., 0]
            jacobian[..., -1, :hidden_size] = delta_lnH @ chunk.weights.hh + keep * q_lnH
        yield from jacobian.unbind(0)


def fold(chunk: Chunk, influence: Tensor | None, block: int) -> Tensor:
    """Eq. (3) block by block: what is inside of a block by H adjoint sweeps, an example.

    O(H^3) a step where a block is about H steps long, not Eq. (1)'s O(H^4). `influence` is M
    before the chunk, (N, H, H J), None being zero; what is returned is M after it.
    """
    extended_LNJ = chunk.extended
    num_steps, batch_size, hidden_size = chunk.slope.shape
    columns = hidden_size * extended_LNJ.shape[-1]
    after = chunk.slope.new_empty(batch_size, hidden_size, columns)
    size = max(1, FOLD_BYTES // (block * hidden_size**2 * after.element_size()))
    for first in range(0, batch_size, size):
        group = slice(first, first + size)
        M_nHP = None if influence is None else influence[group]
        for begin in range(0, num_steps, block):
            steps = slice(begin, begin + block)
            slope_LnH, extended_LnJ = chunk.slope[steps, group], extended_LNJ[steps, group]
            M_nHP = _fold_block(slope_LnH, extended_LnJ, chunk, M_nHP)
        assert M_nHP is not None
        after[group] = M_nHP
    return after


def _fold_block(
    slope_LnH: Tensor, extended_LnJ: Tensor, chunk: Chunk, influence: Tensor | None
) -> Tensor:
    """Eq. (3) for one block, (n, H, H J)."""
    num_steps, count, hidden_size = slope_LnH.shape
    credit_nHH = torch.diag_embed(slope_LnH.new_ones(count, hidden_size))
    delta = slope_LnH.new_empty(count, num_steps, hidden_size, hidden_size)
    for s in reversed(range(num_steps)):
        torch.mul(credit_nHH, slope_LnH[s, :, None], out=delta[:, s])
        if chunk.cell.leak == 1:
            torch.matmul(delta[:, s], chunk.weights.hh, out=credit_nHH)
        else:
            credit_nHH.mul_(1 - chunk.cell.leak).add_(delta[:, s] @ chunk.weights.hh)
    inside = torch.bmm(delta.flatten(2).transpose(1, 2), extended_LnJ.transpose(0, 1))
    inside = inside.view(count, hidden_size, -1)
    return inside if influence is None else inside.baddbmm_(credit_nHH, influence)
