"""SnAp-1: RTRL with a unit's influence on itself alone, the sparse one-step approximation."""

from typing import ClassVar

from torch import Tensor

from bptt_lab.gradients.diagonal import Diagonal
from bptt_lab.gradients.past import Chunk


class SnAp1(Diagonal):
    """RTRL with only the diagonal of the recurrent Jacobian.

    Online at the price of full BPTT, and exact where W_hh is diagonal. Do not use it where what
    must be learnt passes from unit to unit: such credit is lost, at any lag.

    Cost: L N H (H + I) twice, products as full's; space N H (H + I + 1) from chunk to chunk.

        (1) e_t = d_t * e_{t-1} + leak phi'(a_t) xhat_t^T,   xhat_t = (x_t, h_{t-1}, 1)
        (2) d_t = (1 - leak) + leak phi'(a_t) * diag(W_hh)
        (3) dE/dtheta = sum_t q_t * e_t

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import SnAp1
        >>> rnn = VanillaRNN(3, 5, gradient=SnAp1())

    Reference: Menick et al. (2021), "Practical real time recurrent learning with a sparse
    approximation", n = 1.
    """

    cost: ClassVar[str] = "O(L N H (H+I))"
    space: ClassVar[str] = "O(N H (H+I) + L N H)"

    def decay(self, chunk: Chunk) -> Tensor:
        """Eq. (2)."""
        decay_LNH = chunk.slope * chunk.weights.hh.diagonal(dim1=-2, dim2=-1)
        return decay_LNH if chunk.cell.leak == 1 else decay_LNH.add_(1 - chunk.cell.leak)

    def fed_back(self, q_LNH: Tensor) -> Tensor:
        """The immediate credit as it is."""
        return q_LNH


Snap1 = SnAp1  # its name in old run folders
