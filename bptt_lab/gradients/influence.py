"""Influence of every parameter on every unit, carried forward in time: the core of RTRL.

    (1) M_t = J_t M_{t-1} + Mbar_t,   J_t = (1 - leak) I + diag(slope_t) W_hh
    (2) dE/dtheta = sum_t q_t M_t = sum_t (q_t J_t) M_{t-1} + q_t Mbar_t
    (3) M_e = J_e ... J_{b+1} M_b + sum_{b < s <= e} J_e ... J_{s+1} Mbar_s

M is (N, H, H J), its columns (unit a, column j of `Chunk.extended`); Mbar_t has entries only where
a unit meets its own parameters: slope_t[a] extended_t[j]. L N I H steps, batch, input, hidden;
J = I + H + 1.
"""

from collections.abc import Iterator

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
    """Eq. (1) step by step, and with q Eq. (2) in the same products.

    A step is one product for a group of examples at a time, whose M stays in the cache. The
    gradient so far is one row more of M, and q_t J_t one row more of J_t, so that M is read once.

    Returns M after the chunk, and the gradient (H, J) where q is given; both are those of the
    first steps where q has less than all. `influence` is M before it, (N, H, H J), None being
    zero. M_1 ... M_L are written to `every`, (L, N, H, H J).
    """
    num_steps = len(chunk.slope if q_LNH is None else q_LNH)
    slope_LNH, extended_LNJ = chunk.slope[:num_steps], chunk.extended[:num_steps]
    _, batch_size, hidden_size = slope_LNH.shape
    rows, columns = hidden_size + (q_LNH is not None), hidden_size * extended_LNJ.shape[-1]
    size = max(1, CACHE_BYTES // (2 * rows * columns * slope_LNH.element_size()))
    if num_steps == 1:
        size = batch_size  # M is read but once
    after = slope_LNH.new_empty(batch_size, rows, columns)
    gradient = slope_LNH.new_zeros(columns)
    for begin in range(0, batch_size, size):
        group = slice(begin, min(begin + size, batch_size))
        count = group.stop - begin
        rooms = [after[group], after.new_empty(count, rows, columns)]  # the first for the last step
        by_unit = [
            room[:, :hidden_size].view(count, hidden_size, hidden_size, -1) for room in rooms
        ]
        own = [each.diagonal(dim1=1, dim2=2).transpose(1, 2) for each in by_unit]
        q_LnH = None if q_LNH is None else q_LNH[:, group]
        slope_LnH1, extended_Ln1J = slope_LNH[:, group, :, None], extended_LNJ[:, group, None]
        jacobians = _jacobians(slope_LnH1, q_LnH, chunk)
        steps = zip(jacobians, slope_LnH1.unbind(0), extended_Ln1J.unbind(0), strict=True)
        M = None if influence is None else influence[group]
        for t, (J_nrr, slope_nH1, extended_n1J) in enumerate(steps):
            turn = (num_steps - 1 - t) % 2
            new = rooms[turn]
            if M is None:
                new.zero_()
            else:  # Eq. (1) and (2); before the first step there is no row of the gradient
                torch.bmm(J_nrr[..., : M.shape[1]], M, out=new)
            own[turn].addcmul_(slope_nH1, extended_n1J)
            if every is not None:
                every[t, group] = new
            M = new
        if q_LNH is not None:
            gradient += after[group, hidden_size].sum(0)
    if q_LNH is None:
        return after, None
    at_once = (q_LNH * slope_LNH).flatten(0, 1).t() @ extended_LNJ.flatten(0, 1)
    return after[:, :hidden_size], at_once.add_(gradient.view_as(at_once))


def meet(chunk: Chunk, influence: Tensor | None, last: Tensor, q_LNH: Tensor) -> Tensor:
    """Eq. (2), (H, J), of which the M of the last steps are known, (l, N, H, H J).

    Those before are computed again; of a chunk of one step there are none.
    """
    steps, hidden_size = len(last), q_LNH.shape[-1]
    found = (q_LNH[-steps:].reshape(1, -1) @ last.flatten(0, 2)).view(hidden_size, -1)
    if steps < len(q_LNH):
        _, before = recur(chunk, influence, q_LNH[:-steps])
        assert before is not None
        found += before
    return found


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
