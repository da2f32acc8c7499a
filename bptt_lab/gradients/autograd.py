"""torch's own graph over a plain loop of the same step: the reference for everything else."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from bptt_lab.core.cell import Cell
from bptt_lab.gradients.base import Carry, GradientStrategy, RecurrentNet, Unrolled, dropout_masks
from bptt_lab.gradients.differentiable import unroll_in_graph
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.stack import cast


class Autograd(GradientStrategy):
    """Let torch record every step and differentiate the record.

    The strategy for torch.func, vmap and forward-mode derivatives. Do not use it for speed or
    long sequences: it is the slowest and the hungriest.

    Cost: as full, with an accumulation into the weight gradients at every step.

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import Autograd
        >>> rnn = VanillaRNN(3, 5, gradient=Autograd())
    """

    twice_differentiable = True
    exact_within_chunk = True
    unbiased = True
    fuses: ClassVar[bool] = False
    cost: ClassVar[str] = "O(L N H (H+I)), slow constant"
    space: ClassVar[str] = "O(L N H), several copies"

    def states(
        self, rnn: RecurrentNet, input: Tensor, carry: Carry, lengths: Sequence[int] | None = None
    ) -> Unrolled:
        """Run one chunk; see GradientStrategy."""
        cell, masks = Cell(rnn.nonlinearity, rnn.leak), dropout_masks(rnn, input)
        return Unrolled(*unroll_in_graph(cast(rnn, input, carry.hx), cell, lengths, masks))

    def credit(
        self, rnn: RecurrentNet, input: Tensor, hx: Tensor, q: Tensor, *, after: Carry | None = None
    ) -> Tensor:
        """Return dE/dh_t, which is full BPTT's; see GradientStrategy."""
        return Full().credit(rnn, input, hx, q)
