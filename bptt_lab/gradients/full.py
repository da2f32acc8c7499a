"""Full backpropagation through time, derived by hand: one adjoint sweep, one product a weight."""

from typing import ClassVar

from bptt_lab.core.cell import Swept
from bptt_lab.gradients.future import FutureFacing
from bptt_lab.gradients.stack import Stack


class Full(FutureFacing):
    """Exact gradient of everything inside the chunk.

    The default. Do not use it where L steps of state do not fit in memory.

    Cost: 6 L N H (H + I) flops forward and backward; space L N H, and as much again for phi's
    values where the leak is not 1. A backward pass under create_graph, for a derivative of the
    gradient, runs the chunk again in torch's graph, and costs what `Autograd` costs.

        c_t = q_t + J_{t+1}^T c_{t+1},  J_t = (1 - leak) I + leak diag(phi'(a_t)) W_hh

    Examples:
        >>> import torch
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import Full
        >>> rnn = VanillaRNN(3, 5, gradient=Full())
        >>> output, h_n = rnn(torch.zeros(7, 2, 3))
        >>> output.sum().backward()

    Reference: Werbos (1990), "Backpropagation through time: what it does and how to do it".
    """

    twice_differentiable = True
    exact_within_chunk = True
    unbiased = True
    cost: ClassVar[str] = "O(L N H (H+I))"
    space: ClassVar[str] = "O(L N H)"

    def factors(self, num_steps: int, draw: int) -> None:
        """Nothing is cut."""

    def assign(self, stack: Stack) -> list[Swept]:
        """One sweep from the last step to the first."""
        return stack.sweep()
