"""Influence of every parameter on every unit, carried forward in time: the core of RTRL.

    (1) M_t = J_t M_{t-1} + Mbar_t,   J_t = (1 - leak) I + diag(slope_t) W_hh
    (2) dE/dtheta = sum_t q_t M_t = sum_t c_t Mbar_t + c_0 M_0
    (3) M_e = J_e ... J_{b+1} M_b + sum_{b < s <= e} J_e ... J_{s+1} Mbar_s

M is (N, H, H J), its columns (unit a, column j of `Chunk.extended`); Mbar_t has entries only where
a unit meets its own parameters: slope_t[a] extended_t[j]. L N I H steps, batch, input, hidden;
J = I + H + 1.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from bptt_lab.core import recurrence
from bptt_lab.core.cell import Layer
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients.past import Chunk

# Two influence matrices of one group of examples should stay in a core's own cache.
CACHE_BYTES = 1 << 20
JACOBIAN_BYTES = 1 << 18
FOLD_BYTES = 1 << 25  # of the deltas of a block
GIB = 2**30


def recur(chunk: Chunk, influence: Tensor | None, every: Tensor | None = None) -> Tensor:
    """Return M after a chunk, (N, H, H J), by Eq. (1) step by step.

    A step is one product for a group of examples at a time, whose M stays in the cache.
    `influence` is M before the chunk, (N, H, H J), None being zero. M_1 ... M_L are written to
    `every`, (L, N, H, H J).
    """
    extended_LNJ = chunk.extended
    num_steps, batch_size, hidden_size = chunk.slope.shape
    columns = hidden_size * extended_LNJ.shape[-1]
    after = chunk.slope.new_empty(batch_size, hidden_size, columns)
    size = max(1, CACHE_BYTES // (2 * hidden_size * columns * after.element_size()))
    if num_steps == 1:
        size = batch_size  # M is read but once
    for begin in range(0, batch_size, size):
        group = slice(begin, min(begin + size, batch_size))
        rooms = [after[group], torch.empty_like(after[group])]  # the first for the last step
        own = [own_part(room) for room in rooms]
        slope_LnH1, extended_Ln1J = chunk.slope[:, group, :, None], extended_LNJ[:, group, None]
        jacobians = _jacobians(slope_LnH1, chunk)
        steps = zip(jacobians, slope_LnH1.unbind(0), extended_Ln1J.unbind(0), strict=True)
        M = None if influence is None else influence[group]
        for t, (J_nHH, slope_nH1, extended_n1J) in enumerate(steps):
            turn = (num_steps - 1 - t) % 2
            if M is None:
                rooms[turn].zero_()
            else:
                torch.bmm(J_nHH, M, out=rooms[turn])
            M = rooms[turn]
            own[turn].addcmul_(slope_nH1, extended_n1J)
            if every is not None:
                every[t, group] = M
    return after


def as_matrix(M_NHP: Tensor) -> Tensor:
    """M with its columns apart, (N, H, H, J)."""
    return M_NHP.view(*M_NHP.shape[:2], M_NHP.shape[1], -1)


def own_part(M: Tensor) -> Tensor:
    """A view of every unit's influence of its own parameters, (N, H, J), in M, (N, H, H J)."""
    return as_matrix(M).diagonal(dim1=1, dim2=2).transpose(1, 2)


def _jacobians(slope_LnH1: Tensor, chunk: Chunk) -> Iterator[Tensor]:
    """J_t of every step, (n, H, H)."""
    num_steps, count, hidden_size, _ = slope_LnH1.shape
    length = max(1, JACOBIAN_BYTES // (count * hidden_size**2 * slope_LnH1.element_size()))
    for begin in range(0, num_steps, length):
        J_lnHH = slope_LnH1[begin : begin + length] * chunk.weights.hh
        if chunk.cell.leak != 1:
            J_lnHH.diagonal(dim1=2, dim2=3).add_(1 - chunk.cell.leak)
        yield from J_lnHH.unbind(0)


def swept(chunk: Chunk, influence: Tensor | None, q_LNH: Tensor) -> Tensor:
    """Eq. (2), (H, J), as one adjoint sweep over the chunk; `influence` is M_0 or None.

    The credit c_0 that reaches the start of the chunk meets the influence there.
    """
    want = {"grad_weight_ih", "grad_weight_hh", "grad_bias", "grad_hx"}
    found = recurrence.sweep(q_LNH, layer_of(chunk), chunk.cell, want)
    assert found.grad_weight_ih is not None and found.grad_weight_hh is not None
    assert found.grad_bias is not None and found.grad_hx is not None
    parts = [found.grad_weight_ih, found.grad_weight_hh]
    if chunk.weights.bias_ih is not None:
        parts.append(found.grad_bias[:, None])
    inside_HJ = torch.cat(parts, 1)
    if influence is None:
        return inside_HJ
    return inside_HJ + (found.grad_hx.reshape(1, -1) @ influence.flatten(0, 1)).view_as(inside_HJ)


def layer_of(chunk: Chunk) -> Layer:
    """A chunk as sweeps want it."""
    return Layer(chunk.input, chunk.states, chunk.values, chunk.weights)


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


def refuse_size(chunk: Chunk, memory_limit_gib: float, stored: bool = False) -> None:
    """Raise a ConfigError for an influence above the limit, before it is made."""
    (L, N, H), J = chunk.slope.shape, chunk.extended.shape[-1]
    count = N * H * H * J * (L if stored else 1)
    needed = count * chunk.slope.element_size() / GIB
    if needed > memory_limit_gib:
        times = f" * {L} steps stored" if stored else ""
        raise ConfigError(
            f"hidden_size={H}: influence needs {needed:.3g} GiB (N H^2 (H+I+1) numbers for "
            f"N={N}, I={chunk.input.shape[-1]}{times}), above "
            f"memory_limit_gib={memory_limit_gib}; raise it, take fewer units or "
            "sequences, or gradient=full, snap1 or uoro"
        )
