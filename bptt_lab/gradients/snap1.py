"""SnAp-1: RTRL with a unit's influence on itself alone, the sparse one-step approximation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from bptt_lab.gradients import diagonal
from bptt_lab.gradients.past import Chunk, PastFacing

if TYPE_CHECKING:
    from bptt_lab.nn.rnn import VanillaRNN


class Snap1(PastFacing):
    """RTRL with only the diagonal of the recurrent Jacobian.

    Online at the price of full BPTT, and exact where W_hh is diagonal. Do not use it where what
    must be learnt passes from unit to unit: such credit is lost, at any lag.

    Cost: L N H (H + I) twice, products as full's; memory N H (H + I + 1) from chunk to chunk.

        (1) e_t = d_t * e_{t-1} + leak phi'(a_t) xhat_t^T,   xhat_t = (x_t, h_{t-1}, 1)
        (2) d_t = (1 - leak) + leak phi'(a_t) * diag(W_hh)
        (3) dE/dtheta = sum_t q_t * e_t

    Example:
        >>> from bptt_lab import VanillaRNN
        >>> rnn = VanillaRNN(3, 5, gradient=Snap1())

    Reference: Menick et al. (2021), "Practical real time recurrent learning with a sparse
    approximation", n = 1.
    """

    exact_within_chunk: ClassVar[bool] = False
    exact_across_chunks: ClassVar[bool] = False
    unbiased: ClassVar[bool] = False
    cost: ClassVar[str] = "O(L N H (H+I))"
    memory: ClassVar[str] = "O(N H (H+I) + L N H)"

    def advance(self, chunk: Chunk, memory: Any) -> tuple[Any, Any]:
        """Eq. (1) over the chunk."""
        kept = _decay(chunk), chunk.extended
        return diagonal.carry_on(chunk, *kept, memory), kept

    def gradient(self, chunk: Chunk, memory: Any, kept: Any, q_LNH: Tensor) -> Tensor:
        """Eq. (3), as a scan back in time and one product."""
        decay_LNH, extended_LNJ = kept
        return diagonal.gradient(chunk, decay_LNH, extended_LNJ, memory, q_LNH)

    def credit(self, rnn: VanillaRNN, input: Tensor, hx: Tensor, q: Tensor) -> Tensor:
        """Return c_t = q_t + d_{t+1} * c_{t+1}; see GradientStrategy."""
        return diagonal.scan(_decay(self.observe(rnn, input, hx)), q)[None]


def _decay(chunk: Chunk) -> Tensor:
    """Eq. (2), (L, N, H)."""
    decay_LNH = chunk.slope * chunk.weights.hh.diagonal()
    return decay_LNH if chunk.cell.leak == 1 else decay_LNH.add_(1 - chunk.cell.leak)
