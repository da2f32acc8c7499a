"""RTRL with a sketch of low rank for what a unit's parameters do to other units, and its error."""

import math
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.linalg import vector_norm as norm

from bptt_lab.core.validation import Ge, checked
from bptt_lab.gradients.past import Chunk, PastFacing

EVERY = 8
SLACK = 64  # of the machine's precision: above what rounding does to a Gram matrix


class SketchedRTRL(PastFacing):
    """RTRL's influence as snap1's diagonal part and a sketch of rank r, with a bound of the error.

    Args:
        rank: r; 0 is snap1, and r >= H is rtrl.
    """

    cost: ClassVar[str] = "O(L N (H^3 + H^2 r^2))"
    space: ClassVar[str] = "O(N H (H+I) r + L N (H r + r^2))"

    @checked
    def __init__(self, *, rank: Annotated[int, Ge(0)] = 4) -> None:
        self.rank = rank

    def advance(self, chunk: Chunk, influence: Any) -> tuple[Any, Any]:
        """Run Eq. (1) to (9) over a chunk."""
        state = self._start(chunk) if influence is None else _State(*influence)
        steps = []
        for t, (slope_NH, xhat_NJ) in enumerate(zip(chunk.slope, chunk.extended, strict=True)):
            A_NHH = slope_NH[..., None] * chunk.weights.hh
            if chunk.cell.leak != 1:
                A_NHH.diagonal(dim1=1, dim2=2).add_(1 - chunk.cell.leak)
            state, step = _advance(state, A_NHH, slope_NH, xhat_NJ, (chunk.draw + t) % EVERY == 0)
            steps.append(step)
        return tuple(state), steps

    def gradient(self, chunk: Chunk, influence: Any, kept: Any, q_LNH: Tensor) -> Tensor:
        """Eq. (10) and (11), backwards, by what the steps have left."""
        c_NH, l_Nr = 0, 0
        credits = []
        for q_NH, step in zip(reversed(q_LNH), reversed(kept), strict=True):
            c_NH = q_NH + c_NH
            l_Nr = (q_NH[:, None] @ step.L)[:, 0] + l_Nr
            credits.append(c_NH)
            w_Nm = (step.T @ l_Nr[..., None])[..., 0]  # Eq. (10)
            rank = l_Nr.shape[1]
            l_Nr = w_Nm[:, :rank]
            c_NH = step.d * c_NH + (step.U @ w_Nm[:, rank:, None])[..., 0]
        delta_LNH = torch.stack(credits[::-1]) * chunk.slope
        total_HJ: Tensor = delta_LNH.flatten(0, 1).t() @ chunk.extended.flatten(0, 1)
        if influence is not None:  # Eq. (11)
            S_NHJ, _, R_NrP, *_ = influence
            total_HJ += (c_NH[..., None] * S_NHJ).sum(0)
            total_HJ += (l_Nr.reshape(1, -1) @ R_NrP.flatten(0, 1)).view_as(total_HJ)
        return total_HJ

    def matrix(self, influence: Any) -> Tensor:
        """Return S + L R^T; see PastFacing."""
        S_NHJ, L_NHr, R_NrP, *_ = influence
        N, H, J = S_NHJ.shape
        M_NHHJ = (L_NHr @ R_NrP).view(N, H, H, J)
        M_NHHJ.diagonal(dim1=1, dim2=2).add_(S_NHJ.transpose(1, 2))
        return M_NHHJ

    def told_by(self, influence: Any) -> dict[str, float]:
        """Return the certificate of the batch, sqrt(sum e^2), and its part of the norm."""
        S_NHJ, L_NHr, R_NrP, e_N, _ = (part.double() for part in influence)
        N, H, J = S_NHJ.shape
        R_NrHJ = R_NrP.view(N, -1, H, J)
        cross = torch.einsum("nij,nir,nrij->", S_NHJ, L_NHr, R_NrHJ)
        sketch = ((L_NHr.mT @ L_NHr) * (R_NrP @ R_NrP.mT)).sum()
        norm = (S_NHJ.square().sum() + 2 * cross + sketch).clamp(min=0).sqrt()
        certificate = e_N.norm()
        return {
            "certificate": float(certificate),
            "certificate_ratio": float(certificate / norm),
        }

    def _start(self, chunk: Chunk) -> "_State":
        """Nothing has any influence yet."""
        N, H = chunk.slope[0].shape
        J = chunk.extended.shape[-1]
        r = min(self.rank, H)
        c = min(max(4, math.ceil(r / 4)), H) if 0 < r < H else r
        zeros = chunk.slope.new_zeros
        i_H = torch.arange(H, device=chunk.slope.device, dtype=chunk.slope.dtype) + 0.5
        V_Hc = torch.cos(i_H[:, None] * torch.arange(c, device=i_H.device) * (math.pi / H))
        V_Hc = V_Hc / V_Hc.norm(dim=0)
        return _State(
            zeros(N, H, J), zeros(N, H, r), zeros(N, r, H * J), zeros(N), V_Hc.repeat(N, 1, 1)
        )


class _State(NamedTuple):
    S: Tensor  # each unit's influence on itself, (N, H, J)
    L: Tensor  # (N, H, r)
    R: Tensor  # R^T, (N, r, H J)
    e: Tensor  # the certificate, (N)
    V: Tensor  # the directions kept of B, (N, H, c)


class _Step(NamedTuple):
    d: Tensor  # diagonal of A, (N, H)
    U: Tensor  # V_c / s, (N, H, c)
    T: Tensor  # R_t = [R_{t-1}, Q V_c] T, (N, r + c, r)
    L: Tensor  # (N, H, r)


def _advance(
    state: _State, A_NHH: Tensor, slope_NH: Tensor, xhat_NJ: Tensor, measured: bool
) -> tuple[_State, _Step]:
    S_NHJ, L_NHr, R_NrP, e_N, V_NHc = state
    N, H, _ = S_NHJ.shape
    r, c = L_NHr.shape[2], V_NHc.shape[2]
    precision = torch.finfo(S_NHJ.dtype)
    d_NH = A_NHH.diagonal(dim1=1, dim2=2)
    s_NH = norm(S_NHJ, dim=2)
    known_NH = s_NH > precision.tiny / precision.eps
    B_NHH = A_NHH * s_NH[:, None]
    B_NHH.diagonal(dim1=1, dim2=2).zero_()
    if 0 < c < H:
        V_NHc = _leading(B_NHH, V_NHc)
    kept_NHc = V_NHc * known_NH[..., None]
    Bc_NHc = torch.bmm(B_NHH, kept_NHc)
    U_NHc = kept_NHc / s_NH.where(known_NH, 1)[..., None]
    Q_NcP = (U_NHc.mT[..., None] * S_NHJ[:, None]).flatten(2)
    gram = S_NHJ.new_empty(N, r + c, r + c, dtype=torch.float64)
    gram[:, :r, :r] = torch.bmm(R_NrP, R_NrP.mT) if measured else torch.eye(r)
    gram[:, r:, :r] = torch.bmm(R_NrP, Q_NcP.mT).mT
    gram[:, r:, r:] = torch.bmm(kept_NHc.mT, kept_NHc)
    gram.diagonal(dim1=1, dim2=2).add_(SLACK * precision.eps)
    C, failed = torch.linalg.cholesky_ex(gram)
    Y = torch.cat([torch.bmm(A_NHH, L_NHr), Bc_NHc], 2).double()
    K = torch.bmm(Y, C).masked_fill_((failed > 0)[:, None, None], math.nan)
    W = _right(K, r)
    KW = torch.bmm(K, W)
    T = torch.linalg.solve_triangular(C.mT, W, upper=True).to(S_NHJ.dtype)
    Tt = T.mT.contiguous()
    R_new = torch.bmm(Tt[:, :, :r], R_NrP).baddbmm_(Tt[:, :, r:], Q_NcP)
    L_new = KW.to(S_NHJ.dtype)
    S_new = torch.addcmul(d_NH[..., None] * S_NHJ, slope_NH[..., None], xhat_NJ[:, None])
    F_N = norm(A_NHH, dim=(1, 2))
    absolute = A_NHH.abs()
    rho_N = torch.minimum(F_N, (absolute.sum(1).amax(1) * absolute.sum(2).amax(1)).sqrt())
    before = norm(s_NH, dim=1) + norm(L_NHr, dim=(1, 2))
    rounding = H * precision.eps
    e_new = rho_N * e_N + rounding * (F_N * before + norm(slope_NH, dim=1) * norm(xhat_NJ, dim=1))
    if r < H:
        e_new += norm(torch.baddbmm(B_NHH, Bc_NHc, kept_NHc.mT, alpha=-1), dim=(1, 2))
        e_new += norm(torch.baddbmm(K, KW, W.mT, alpha=-1), dim=(1, 2))
    e_new = (e_new * (1 + rounding)).nan_to_num_(math.inf, math.inf)
    return _State(S_new, L_new, R_new, e_new, V_NHc), _Step(d_NH, U_NHc, T, L_new)


def _leading(B_NHH: Tensor, V_NHc: Tensor) -> Tensor:
    """A step of subspace iteration towards B's leading right singular vectors."""
    size = norm(B_NHH, dim=(1, 2), keepdim=True)
    scaled = B_NHH / size.clamp(min=torch.finfo(size.dtype).tiny)
    Z = torch.baddbmm(V_NHc, scaled.mT, torch.bmm(scaled, V_NHc), beta=1e-3).double()
    C, _ = torch.linalg.cholesky_ex(Z.mT @ Z)
    return torch.linalg.solve_triangular(C.mT, Z, upper=True, left=False).to(V_NHc.dtype)


def _right(K: Tensor, r: int) -> Tensor:
    """The leading r right singular vectors of K, (N, m, r); any where K is not finite."""
    K = torch.where(K.isfinite().flatten(1).all(1)[:, None, None], K, 0)
    if K.shape[2] > K.shape[1]:
        return torch.linalg.svd(K, full_matrices=False)[2][:, :r].mT
    return torch.linalg.eigh(K.mT @ K)[1][:, :, K.shape[2] - r :]
