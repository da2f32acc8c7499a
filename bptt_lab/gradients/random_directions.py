"""Influence as random directions and the slopes along them: what forward_gradient and pes share.

    (1) hdot_t = J_t hdot_{t-1} + Mbar_t eps          the tangent, (N, K, H)
    (2) g = sum_n 1/K sum_k (sum_t q_t . hdot_t) xi   the slope along it, times a direction

A rule chooses eps, along which the parameters' uses in a chunk move, and xi, the direction that the
slope is multiplied with, both (N, K, H, J) of random signs: K for every sequence. `influence` is
(xi, hdot). J = I + H + 1 columns of `Chunk.extended`, for which P = H J counts the parameters.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from bptt_lab.gradients.past import Chunk, PastFacing
from bptt_lab.gradients.random_factors import random_signs


class RandomDirections(PastFacing):
    """A strategy that knows slopes along random directions in the space of the parameters."""

    seed: int

    @abstractmethod
    def directions_of(self, chunk: Chunk, influence: Any) -> tuple[Tensor, Tensor]:
        """Return eps and xi of a chunk, (N, K, H, J)."""

    def signs(self, chunk: Chunk, purpose: str, count: int) -> Tensor:
        """Draw `count` directions of signs for every sequence, (N, count, H, J)."""
        columns = chunk.extended.shape[-1]
        batch_size, hidden_size = chunk.slope.shape[1:]
        return random_signs(chunk, self.seed, purpose, batch_size, count, hidden_size, columns)

    def advance(self, chunk: Chunk, influence: Any) -> tuple[Any, Any]:
        """Run Eq. (1) over a chunk; influence is (xi, hdot), (N, K, H, J) and (N, K, H)."""
        eps_NKHJ, xi_NKHJ = self.directions_of(chunk, influence)
        keep, weight_hh_t = 1 - chunk.cell.leak, chunk.weights.hh.t()
        moved_NpL = eps_NKHJ.flatten(1, 2) @ chunk.extended.permute(1, 2, 0)
        moved_LNKH = moved_NpL.permute(2, 0, 1).reshape(-1, *eps_NKHJ.shape[:3])
        slope_LN1H = chunk.slope[:, :, None]
        hdot_NKH = torch.zeros_like(moved_LNKH[0]) if influence is None else influence[1]
        tangents = []
        for slope_N1H, here_NKH in zip(slope_LN1H, slope_LN1H * moved_LNKH, strict=True):
            if keep:
                here_NKH = torch.add(here_NKH, hdot_NKH, alpha=keep)
            hdot_NKH = torch.addcmul(here_NKH, slope_N1H, hdot_NKH @ weight_hh_t)
            tangents.append(hdot_NKH)
        return (xi_NKHJ, hdot_NKH), (torch.stack(tangents), xi_NKHJ)

    def gradient(self, chunk: Chunk, influence: Any, kept: Any, q_LNH: Tensor) -> Tensor:
        """Eq. (2)."""
        hdot_LNKH, xi_NKHJ = kept
        slope_NK = (q_LNH[:, :, None] * hdot_LNKH).sum((0, 3))
        slope_NK /= xi_NKHJ.shape[1]
        total_HJ: Tensor = torch.tensordot(slope_NK, xi_NKHJ, dims=2)
        return total_HJ

    def matrix(self, influence: Any) -> Tensor:
        """Return the mean over K of hdot (x) xi, whose expectation is M_t; see PastFacing."""
        xi_NKHJ, hdot_NKH = influence
        M_NHHJ: Tensor = torch.einsum("nki,nkaj->niaj", hdot_NKH / xi_NKHJ.shape[1], xi_NKHJ)
        return M_NHHJ
