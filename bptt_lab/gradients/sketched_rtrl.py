"""RTRL with a sketch of low rank for what a unit's parameters do to other units, and its error."""

import math
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.linalg import vector_norm as norm

from bptt_lab.core.validation import Ge, checked
from bptt_lab.gradients.past import Chunk, PastFacing

SLACK = 64  # in units of the precision: above what rounding does to a Gram matrix


class SketchedRTRL(PastFacing):
    """Online credit through all units at once, as far as r directions hold it, with its error.

    Use it for endless streams, where snap1 points too far aside and rtrl takes too long. Do not
    use it where a chunk holds what is to be learnt: full is exact and costs less.

    Cost: O(H^3 + H^2 r^2) a step and sequence, in a loop over time. Space N H (H + I + 1) (r + 1)
    from chunk to chunk, and L N (H r + r^2) for the chunk. rtrl is cheaper up to some 40 units: on
    one thread of an AMD EPYC, with 4 sequences, a step at rank 4 took 2.6 times as long as rtrl's
    at H = 16, 1.5 at 32, 0.29 at 64 and 0.04 at 128; at rank 32 it took 4.5 at 32, 0.96 at 64 and
    0.24 at 128. It took 6 to 10 times as long as snap1's at rank 4, and 14 times at H = 256.

    The influence matrix M_t = A_t M_{t-1} + Mbar_t, with A_t = J_t the recurrent Jacobian, is kept
    as S_t + L_t R_t^T: what each unit's parameters do to the unit itself, (H, J), and a sketch of
    rank r of all the rest. R_t, (H J, r), has orthonormal columns. A step:

        (1) S_t[i] = A_ii S_{t-1}[i] + slope_t[i] xhat_t,   xhat_t = (x_t, h_{t-1}, 1)
        (2) B = (A - diag(A)) diag(s),  s_i = |S_{t-1}[i]|;  Q is block diagonal, S_{t-1}[i] / s_i
        (3) B ~ B V V^T,  V the c leading right singular vectors, by a step of subspace iteration
        (4) [R_{t-1}, Q V] = [R_{t-1}, Q_perp] C^T,  C C^T its Gram matrix
        (5) K = [A L_{t-1}, B V] C,   W its r leading right singular vectors
        (6) L_t = K W,   R_t = [R_{t-1}, Q_perp] W = [R_{t-1}, Q V] T,   T = C^-T W
        (7) e_t = rho_t e_{t-1} + |B - B V V^T|_F + |K - K W W^T|_F + rounding

    The certificate e_t is never below |M_t - (S_t + L_t R_t^T)|_F. rho_t is the least of |A|_F,
    sqrt(|A|_1 |A|_inf) and (1 - leak) + max(slope_t) |W_hh|_2, all of which are |A|_2 or more. c is
    max(4, r/4). The gradient is sum_t q_t (S_t + L_t R_t^T), summed backwards:

        (8) l_t = L_t^T q_t + T1 l_{t+1},   c_t = q_t + diag(A) c_{t+1} + (V T2 l_{t+1}) / s
        (9) dE/dtheta = sum_t (c_t slope_t) xhat_t^T,  and c_0 S_0 + l_0 R_0^T of earlier chunks

    Args:
        rank: r; 0 is snap1, H or more is rtrl.

    Raises:
        ConfigError: for a rank below 0, and as PastFacing does.

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import SketchedRTRL
        >>> rnn = VanillaRNN(3, 5, gradient=SketchedRTRL(rank=2))

    Reference: sketched RTRL, certified low rank (2026), but for Eq. (3), there an exact
    decomposition, and the last bound in rho_t.
    """

    shaping = ("rank",)
    cost: ClassVar[str] = "O(L N (H^3 + H^2 r^2))"
    space: ClassVar[str] = "O(N H (H+I) r + L N (H r + r^2))"

    @checked
    def __init__(self, *, rank: Annotated[int, Ge(0)] = 4) -> None:
        self.rank = rank

    def advance(self, chunk: Chunk, influence: Any) -> tuple[Any, Any]:
        """Eq. (1) to (7); keep what Eq. (8) wants of each step. R is held as R^T, (N, r, H J)."""
        state = _start(chunk, self.rank) if influence is None else _State(*influence)
        keep, W_HH = 1 - chunk.cell.leak, chunk.weights.hh
        rho_LN = keep + chunk.slope.amax(2) * _spectral_bound(W_HH)
        kept = []
        for t, (slope_NH, xhat_NJ) in enumerate(zip(chunk.slope, chunk.extended, strict=True)):
            A_NHH = slope_NH[..., None] * W_HH
            if keep:
                A_NHH.diagonal(dim1=1, dim2=2).add_(keep)
            state, step = _advance(state, A_NHH, slope_NH, xhat_NJ, rho_LN[t])
            kept.append(step)
        return tuple(state), (kept, tuple(state))

    def gradient(self, chunk: Chunk, influence: Any, kept: Any, q_LNH: Tensor) -> Tensor:
        """q_t M_t as it is for one step, and Eq. (8) and (9) for more."""
        steps, after = kept
        if len(steps) == 1:
            S_NHJ, L_NHr, R_NrP, *_ = after
            l_N1r, c_NH = torch.bmm(q_LNH[0][:, None], L_NHr), q_LNH[0]
            return _met(c_NH, l_N1r, S_NHJ, R_NrP)
        c_NH, l_N1r = torch.zeros_like(q_LNH[0]), torch.zeros_like(steps[0].L[:, :1])
        credit_LNH = torch.empty_like(chunk.slope)
        for t, step in reversed(list(enumerate(steps))):
            c_NH = torch.add(c_NH, q_LNH[t], out=credit_LNH[t])
            l_N1r = torch.baddbmm(l_N1r, q_LNH[t][:, None], step.L)
            l_N1m = torch.bmm(l_N1r, step.T)
            l_N1r, l_N1c = l_N1m.tensor_split([l_N1r.shape[2]], dim=2)
            c_NH = torch.addcmul(torch.bmm(l_N1c, step.U.mT)[:, 0], step.d, c_NH)
        delta_LNH = credit_LNH.mul_(chunk.slope)
        total_HJ = delta_LNH.flatten(0, 1).t() @ chunk.extended.flatten(0, 1)
        if influence is not None:
            S_NHJ, _, R_NrP, *_ = influence
            total_HJ += _met(c_NH, l_N1r, S_NHJ, R_NrP)
        return total_HJ

    def matrix(self, influence: Any) -> Tensor:
        """Return S + L R^T; see PastFacing."""
        S_NHJ, L_NHr, R_NrP, *_ = influence
        N, H, J = S_NHJ.shape
        M_NHHJ = torch.bmm(L_NHr, R_NrP).view(N, H, H, J)
        M_NHHJ.diagonal(dim1=1, dim2=2).add_(S_NHJ.transpose(1, 2))
        return M_NHHJ

    def told_by(self, influence: Any) -> dict[str, float]:
        """Return the batch's certificate, sqrt(sum e^2), and its ratio to |S + L R^T|_F.

        (10) |S + L R^T|^2 = |S|^2 + 2 sum_i S[i] (L R^T)[i, i] + tr(L^T L R^T R)
        """
        S_NHJ, L_NHr, R_NrP, e_N, _ = (part.double() for part in influence)
        own_NrH = (R_NrP.unflatten(2, S_NHJ.shape[1:]) * S_NHJ[:, None]).sum(3)
        sketch = (torch.bmm(L_NHr.mT, L_NHr) * torch.bmm(R_NrP, R_NrP.mT)).sum()
        square = S_NHJ.square().sum() + 2 * (own_NrH.mT * L_NHr).sum() + sketch
        certificate = float(norm(e_N))
        size = float(square.clamp(min=0).sqrt())
        ratio = certificate / size if size else math.inf
        return {"certificate": certificate, "certificate_ratio": ratio}


def _met(c_NH: Tensor, l_N1r: Tensor, S_NHJ: Tensor, R_NrP: Tensor) -> Tensor:
    """What credit finds in an influence: the sum over sequences of c S + l R^T, (H, J)."""
    sketch_HJ = (l_N1r.reshape(1, -1) @ R_NrP.flatten(0, 1)).view(S_NHJ.shape[1:])
    return sketch_HJ + (c_NH[..., None] * S_NHJ).sum(0)


class _State(NamedTuple):
    """The influence S + L R^T after a step, and what the next one begins with."""

    S: Tensor  # of each unit's parameters on itself, (N, H, J)
    L: Tensor  # (N, H, r)
    R: Tensor  # transposed, (N, r, H J)
    e: Tensor  # the certificate, (N)
    V: Tensor  # where the subspace iteration has come to, (N, H, c)


class _Step(NamedTuple):
    """What a step leaves to the gradient."""

    d: Tensor  # diagonal of A, (N, H)
    U: Tensor  # V / s, (N, H, c)
    T: Tensor  # transposed, (N, r, r + c)
    L: Tensor  # (N, H, r)


def _start(chunk: Chunk, rank: int) -> _State:
    """No influence, and cosines for V; all directions where nothing needs to be dropped."""
    (N, H), J = chunk.slope[0].shape, chunk.extended.shape[-1]
    r = min(rank, H)
    c = r if r in (0, H) else min(max(4, math.ceil(r / 4)), H)
    zeros = chunk.slope.new_zeros
    if c == H:
        V_Hc = torch.eye(H, out=zeros(H, H))
    else:
        i_H = torch.arange(0.5, H, device=chunk.slope.device)
        V_Hc = torch.cos(torch.outer(i_H, torch.arange(c, device=i_H.device)) * (math.pi / H))
        V_Hc = (V_Hc / norm(V_Hc, dim=0)).to(chunk.slope)
    return _State(
        zeros(N, H, J), zeros(N, H, r), zeros(N, r, H * J), zeros(N), V_Hc.repeat(N, 1, 1)
    )


def _advance(
    state: _State, A_NHH: Tensor, slope_NH: Tensor, xhat_NJ: Tensor, rho_N: Tensor
) -> tuple[_State, _Step]:
    """Eq. (1) to (7) for one step."""
    S_NHJ, L_NHr, R_NrP, e_N, V_NHc = state
    precision = torch.finfo(S_NHJ.dtype)
    H, r, c = S_NHJ.shape[1], L_NHr.shape[2], V_NHc.shape[2]
    d_NH = A_NHH.diagonal(dim1=1, dim2=2)
    # Below this a square loses its digits. Rows of Q may be shorter than 1, as Eq. (4) allows.
    s_NH = norm(S_NHJ, dim=2).clamp(min=math.sqrt(precision.tiny / precision.eps))
    B_NHH = A_NHH * s_NH[:, None]  # Eq. (2)
    B_NHH.diagonal(dim1=1, dim2=2).zero_()
    if 0 < c < H:  # Eq. (3); a trace of the old V keeps its rank where B has less
        Z_NHc = torch.baddbmm(
            V_NHc, B_NHH.mT, torch.bmm(B_NHH, V_NHc), beta=precision.tiny / precision.eps
        )
        V_NHc = torch.linalg.qr(Z_NHc)[0]
    BV_NHc = torch.bmm(B_NHH, V_NHc)
    U_NHc = V_NHc / s_NH[..., None]
    QV_NcP = (U_NHc.mT[..., None] * S_NHJ[:, None]).flatten(2)

    C_Nmm, failed_N = _factor(R_NrP, QV_NcP)  # Eq. (4)
    K_NHm = torch.bmm(torch.cat([torch.bmm(A_NHH, L_NHr), BV_NHc], 2), C_Nmm)  # Eq. (5)
    W_Nmm = _right_singular_vectors(K_NHm)
    KW_NHm = torch.bmm(K_NHm, W_Nmm)
    L_after_NHr = KW_NHm[:, :, c:].contiguous()  # Eq. (6)
    T_Nrm = torch.linalg.solve_triangular(C_Nmm, W_Nmm[:, :, c:].mT, upper=False, left=False)
    R_after_NrP = torch.bmm(T_Nrm[:, :, :r], R_NrP).baddbmm_(T_Nrm[:, :, r:], QV_NcP)
    S_after_NHJ = torch.addcmul(d_NH[..., None] * S_NHJ, slope_NH[..., None], xhat_NJ[:, None])

    F_N = norm(A_NHH, dim=(1, 2))  # Eq. (7)
    absolute = A_NHH.abs()
    one_inf_N = (absolute.sum(1).amax(1) * absolute.sum(2).amax(1)).sqrt()
    old_N = F_N * (norm(s_NH, dim=1) + norm(L_NHr, dim=(1, 2)))
    new_N = norm(slope_NH, dim=1) * norm(xhat_NJ, dim=1)
    rounding = H * precision.eps
    e_N = rho_N.minimum(F_N).minimum(one_inf_N) * e_N + rounding * (old_N + new_N)
    if r < H:
        e_N += norm(torch.baddbmm(B_NHH, BV_NHc, V_NHc.mT, alpha=-1), dim=(1, 2))
        e_N += norm(KW_NHm[:, :, :c], dim=(1, 2))
    e_N = (
        (e_N * (1 + rounding)).masked_fill_(failed_N > 0, math.nan).nan_to_num_(math.inf, math.inf)
    )
    after = _State(S_after_NHJ, L_after_NHr, R_after_NrP, e_N, V_NHc)
    return after, _Step(d_NH, U_NHc, T_Nrm, L_after_NHr)


def _factor(R_NrP: Tensor, QV_NcP: Tensor) -> tuple[Tensor, Tensor]:
    """C of Eq. (4), (N, m, m), m = r + c: a Cholesky factor; and where there is none.

    What is added to the Gram matrix keeps it positive definite where Q V lies in R. It may be too
    large, as where columns of R or rows of Q are zero: that makes the certificate no smaller.
    """
    N, r, m = *R_NrP.shape[:2], R_NrP.shape[1] + QV_NcP.shape[1]
    gram_mm = R_NrP.new_empty(m, m)
    gram_Nmm = torch.eye(m, out=gram_mm).repeat(N, 1, 1)
    gram_Nmm[:, r:, :r] = torch.bmm(R_NrP, QV_NcP.mT).mT
    gram_Nmm[:, :r, :r] = torch.bmm(R_NrP, R_NrP.mT)
    gram_Nmm.diagonal(dim1=1, dim2=2).add_(SLACK * torch.finfo(R_NrP.dtype).eps)
    C_Nmm, failed_N = torch.linalg.cholesky_ex(gram_Nmm)
    return C_Nmm, failed_N


def _right_singular_vectors(K_NHm: Tensor) -> Tensor:
    """All of K's, (N, m, m), the leading ones last; any orthonormal ones where K is not finite."""
    H, m = K_NHm.shape[1:]
    K_NHm = K_NHm.nan_to_num(0, 0, 0)
    if m > H:  # a small net's
        W_Nmm: Tensor = torch.linalg.svd(K_NHm)[2].mT.flip(2)
    else:
        if m:  # else K^T K may be too large for numbers, and eigh fail
            K_NHm /= K_NHm.abs().amax((1, 2), keepdim=True).clamp(min=torch.finfo(K_NHm.dtype).tiny)
        W_Nmm = torch.linalg.eigh(torch.bmm(K_NHm.mT, K_NHm))[1]
    return W_Nmm


def _spectral_bound(W_HH: Tensor) -> Tensor:
    """|(W^T W)^4|_F^(1/8), which is |W|_2 or a little more."""
    size = norm(W_HH).clamp(min=torch.finfo(W_HH.dtype).tiny)
    G_HH = W_HH / size
    G_HH = G_HH.t() @ G_HH
    for _ in range(2):
        G_HH = G_HH @ G_HH
    bound: Tensor = size * norm(G_HH) ** 0.125
    return bound
