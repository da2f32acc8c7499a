"""Unbiased online recurrent optimization: influence as one random product of two vectors."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from bptt_lab.gradients.past import Chunk
from bptt_lab.gradients.random_factors import RandomFactors, balance


class UORO(RandomFactors):
    """Unbiased online gradient of rank one: cheap, endless, and noisy.

    Use it where sequences never end and credit must not be cut. Do not use it where a chunk holds
    what is to be learnt (full has no variance), nor with large learning rates: the noise grows
    with the hidden size and with how long states remember. kf_rtrl has several times less of it.

    Cost: O(H (H + I)) a step and sequence, in a loop over time; space N (H + H (H + I + 1)).

        (1) M_t = J_t M_{t-1} + Mbar_t,  Mbar_t = slope_t (x) xhat_t,  xhat_t = (x_t, h_{t-1}, 1)
        (2) h~ <- rho0 J_t h~ + rho1 nu,  nu random signs, (H)
        (3) th~ <- th~ / rho0 + (nu slope_t) (x) xhat_t / rho1
        (4) rho0 = sqrt(|th~| / |J_t h~|),  rho1 = sqrt(|(nu slope_t) (x) xhat_t| / |nu|)
        (5) g = sum_t (q_t . h~_t) th~_t

    E[h~ (x) th~] = M_t, since signs are independent and rho depends on earlier ones only. Every
    sequence of the batch has traces and signs of its own; they cross from chunk to chunk.

    Args:
        seed: of the signs, with the carry's draw.

    Raises:
        ConfigError: for stacked layers, and for an input or hx that asks for a gradient.

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import UORO
        >>> rnn = VanillaRNN(3, 5, gradient=UORO(seed=1))

    Reference: Tallec & Ollivier (2018), "Unbiased online recurrent optimization".
    """

    unbiased = True
    cost: ClassVar[str] = "O(L N H (H+I))"
    space: ClassVar[str] = "O(N H (H+I) + L N H)"

    def advance(self, chunk: Chunk, influence: Any) -> tuple[Any, Any]:
        """Run Eq. (2) to (4) over a chunk; influence is (h~, th~), (N, H) and (N, H, J)."""
        nu_LNH, xhat_LNJ = self.signs(chunk, "uoro", chunk.slope.shape[-1]), chunk.extended
        leak, weight_hh_t = chunk.cell.leak, chunk.weights.hh.t()
        u_LNH = nu_LNH * chunk.slope  # nu^T Mbar_t = u (x) xhat
        rho1, inverse1 = balance(  # for all steps at once: neither depends on the traces
            u_LNH.norm(dim=-1) * xhat_LNJ.norm(dim=-1), nu_LNH.norm(dim=-1)
        )
        fresh_LNH, u_LNH = rho1[..., None] * nu_LNH, inverse1[..., None] * u_LNH
        if influence is None:
            h_NH = torch.zeros_like(chunk.slope[0])
            th_NHJ = h_NH.new_zeros(*h_NH.shape, xhat_LNJ.shape[-1])
        else:
            h_NH, th_NHJ = influence[0], influence[1].clone()
        traces, shrinks = [], []
        for slope_NH, fresh_NH, u_NH, xhat_NJ in zip(
            chunk.slope, fresh_LNH, u_LNH, xhat_LNJ, strict=True
        ):
            Jh_NH = slope_NH * (h_NH @ weight_hh_t)
            if leak != 1:
                Jh_NH.add_(h_NH, alpha=1 - leak)
            rho0, inverse0 = balance(th_NHJ.flatten(1).norm(dim=1), Jh_NH.norm(dim=1))
            h_NH = torch.addcmul(fresh_NH, rho0[:, None], Jh_NH)  # Eq. (2)
            th_NHJ.mul_(inverse0[:, None, None])  # Eq. (3)
            th_NHJ.baddbmm_(u_NH[:, :, None], xhat_NJ[:, None, :])
            traces.append(h_NH)
            shrinks.append(inverse0)
        return (h_NH, th_NHJ), (torch.stack(traces), torch.stack(shrinks), u_LNH)

    def gradient(self, chunk: Chunk, influence: Any, kept: Any, q_LNH: Tensor) -> Tensor:
        """Eq. (5) without th~, which is a sum of what each step s has put in.

        (6) g = sum_s l_s u_s (x) xhat_s / rho1_s + l_0 th~_0,  l_s = q_s . h~_s + l_{s+1} / rho0
        """
        h_LNH, inverse0_LN, u_LNH = kept
        l_LN = (q_LNH * h_LNH).sum(-1)
        for t in range(len(l_LN) - 1, 0, -1):
            l_LN[t - 1].addcmul_(l_LN[t], inverse0_LN[t])
        xhat = chunk.extended.flatten(0, 1)
        total_HJ: Tensor = (l_LN[..., None] * u_LNH).flatten(0, 1).t() @ xhat
        if influence is not None:
            l_N = l_LN[0] * inverse0_LN[0]
            total_HJ += torch.tensordot(l_N, influence[1], dims=1)
        return total_HJ

    def matrix(self, influence: Any) -> Tensor:
        """Return h~ (x) th~; see PastFacing."""
        h_NH, th_NHJ = influence
        return torch.einsum("ni,naj->niaj", h_NH, th_NHJ)
