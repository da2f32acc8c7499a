"""Kronecker-factored RTRL: influence as the random Kronecker product of a vector and a matrix."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from bptt_lab.gradients.past import Chunk
from bptt_lab.gradients.random_factors import RandomFactors, balance


class KFRTRL(RandomFactors):
    """Unbiased online gradient by Kronecker factors: uoro's promise with less noise.

    Use it where sequences never end and credit must not be cut, up to some hundred units. Do not
    use it where a chunk holds what is to be learnt: full has no variance and costs 1/H as much.

    Cost: O(H^3) a step and sequence, in a loop over time, twice for all but a chunk's last step;
    space N (H^2 + H + I + 1), and L N (H + I + 1) for the chunk.

        (1) M_t = J_t M_{t-1} + Mbar_t,  Mbar_t = xhat_t (x) diag(slope_t),
            xhat_t = (x_t, h_{t-1}, 1)
        (2) A <- c0 p0 A + c1 p1 xhat_t
        (3) B <- (c0 / p0) J_t B + (c1 / p1) diag(slope_t),  c0, c1 random signs
        (4) p0 = sqrt(|J_t B| / |A|),  p1 = sqrt(|slope_t| / |xhat_t|)
        (5) g = sum_t (q_t B_t) (x) A_t

    E[A (x) B] = M_t. Every sequence of the batch has factors and signs of its own; they cross
    from chunk to chunk.

    Args:
        seed: of the signs, with the carry's draw.

    Raises:
        ConfigError: for stacked layers, and for an input or hx that asks for a gradient.

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import KFRTRL
        >>> rnn = VanillaRNN(3, 5, gradient=KFRTRL(seed=1))

    Reference: Mujika, Meier & Steger (2018), "Approximating real-time recurrent learning with
    random Kronecker factors".
    """

    unbiased = True
    cost: ClassVar[str] = "O(L N H^3)"
    space: ClassVar[str] = "O(N H^2 + L N (H+I))"

    def advance(self, chunk: Chunk, influence: Any) -> tuple[Any, Any]:
        """Run Eq. (2) to (4) over a chunk; influence is (A, B), (N, J) and (N, H, H).

        B lies as (H, N, H), so that W_hh times all sequences' B is one product.
        """
        c0_LN, c1_LN = self.signs(chunk, "kf_rtrl", 2).unbind(-1)
        xhat_LNJ = chunk.extended
        p1, inverse1 = balance(chunk.slope.norm(dim=-1), xhat_LNJ.norm(dim=-1))
        added_LNJ = (c1_LN * p1)[..., None] * xhat_LNJ
        diagonal_LNH = (c1_LN * inverse1)[..., None] * chunk.slope
        A_NJ, B_HNH = _factors(chunk, influence)
        rows, scales = [], []
        for t, (added_NJ, c0_N) in enumerate(zip(added_LNJ, c0_LN, strict=True)):
            JB_HNH = _through_time(chunk, t, B_HNH)
            p0, inverse0 = balance(torch.linalg.vector_norm(JB_HNH, dim=(0, 2)), A_NJ.norm(dim=1))
            A_NJ = torch.addcmul(added_NJ, (c0_N * p0)[:, None], A_NJ)  # Eq. (2)
            scale_N = c0_N * inverse0
            B_HNH = _add(JB_HNH, scale_N, diagonal_LNH[t])  # Eq. (3)
            rows.append(A_NJ)
            scales.append(scale_N)
        B_NHH = B_HNH.transpose(0, 1).contiguous()
        return (A_NJ, B_NHH), (torch.stack(rows), torch.stack(scales), diagonal_LNH, B_NHH)

    def gradient(self, chunk: Chunk, influence: Any, kept: Any, q_LNH: Tensor) -> Tensor:
        """Eq. (5), B computed again but for the last step's."""
        A_LNJ, scale_LN, diagonal_LNH, last_NHH = kept
        _, B_HNH = _factors(chunk, influence)
        rows = []
        for t in range(len(A_LNJ) - 1):
            B_HNH = _add(_through_time(chunk, t, B_HNH), scale_LN[t], diagonal_LNH[t])
            rows.append(torch.bmm(q_LNH[t, :, None], B_HNH.transpose(0, 1))[:, 0])
        rows.append(torch.bmm(q_LNH[-1, :, None], last_NHH)[:, 0])
        total_HJ: Tensor = torch.cat(rows).t() @ A_LNJ.flatten(0, 1)
        return total_HJ

    def matrix(self, influence: Any) -> Tensor:
        """Return A (x) B; see PastFacing."""
        A_NJ, B_NHH = influence
        return torch.einsum("nj,nia->niaj", A_NJ, B_NHH)


def _factors(chunk: Chunk, influence: Any) -> tuple[Tensor, Tensor]:
    """A and B before a chunk, (N, J) and (H, N, H)."""
    if influence is not None:
        A_NJ, B_NHH = influence
        return A_NJ, B_NHH.transpose(0, 1)
    batch_size, hidden_size = chunk.slope[0].shape
    num_columns = chunk.extended.shape[-1]
    zeros = chunk.slope.new_zeros
    return zeros(batch_size, num_columns), zeros(hidden_size, batch_size, hidden_size)


def _through_time(chunk: Chunk, t: int, B_HNH: Tensor) -> Tensor:
    """J_t B for all sequences, (H, N, H)."""
    leak = chunk.cell.leak
    JB_HNH = (chunk.weights.hh @ B_HNH.flatten(1)).view_as(B_HNH)
    JB_HNH.mul_(chunk.slope[t].t()[..., None])
    return JB_HNH if leak == 1 else JB_HNH.add_(B_HNH, alpha=1 - leak)


def _add(JB_HNH: Tensor, scale_N: Tensor, diagonal_NH: Tensor) -> Tensor:
    """Scale each sequence's J_t B and add to its diagonal, in place."""
    JB_HNH.mul_(scale_N[:, None])
    JB_HNH.diagonal(dim1=0, dim2=2).add_(diagonal_NH)
    return JB_HNH
