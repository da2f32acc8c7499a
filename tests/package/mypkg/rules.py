from typing import Annotated

import torch

from bptt_lab.core.validation import Ge, checked
from bptt_lab.gradients.future import FutureFacing

K = 4


class Mine(FutureFacing):
    """Biased: credit that is cut every k steps."""

    cost = "O(L N H (H+I))"
    space = "O(L N H)"

    @checked
    def __init__(self, *, k: Annotated[int, Ge(2)] = K):
        self.k = k

    def factors(self, num_steps, draw):
        return [float(t % self.k > 0) for t in range(num_steps)]

    def assign(self, stack):
        return stack.sweep(self.factors(len(stack.layers[0].input), 0))

    def mask(self, num_steps):
        chunk = torch.arange(num_steps) // self.k
        return (chunk[:, None] == chunk).tril()
