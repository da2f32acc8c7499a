"""Feedback alignment through time: credit flows back by random weights.

Backpropagation carries credit from step to step by the transpose of W_hh, which no synapse knows.
Where a fixed random matrix does it instead, the forward weights may learn to align with it.
"""

import functools
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from bptt_lab.core.cell import Swept
from bptt_lab.core.random import generator
from bptt_lab.core.validation import Claiming, checked
from bptt_lab.gradients.future import Estimate, PerUnroll, Rule
from bptt_lab.gradients.modifier import Modifier
from bptt_lab.gradients.stack import Stack

BACKWARD_ONLY = (
    "must be a future-facing strategy, since FeedbackAlignment changes how credit flows back; "
    "wrap Full, Truncated or ARTBP"
)


class FeedbackAlignment(Modifier):
    """Another strategy with W_hh^T replaced by a fixed random matrix on the way back.

    Use it to ask how much of learning needs the exact transpose. Do not use it to train well over
    long lags: what credit says is lost within a few steps back. The forward pass, the credit
    between layers and the products that make weight gradients are those of what it wraps.

    Cost: as what it wraps.

        (1) c_t = q_t + (1 - leak) c_{t+1} + B^T delta_{t+1},  B random, |B| = |W_hh|

    B's entries are normal, drawn once a seed and layer; only its Frobenius norm follows W_hh's.

    Args:
        of: the future-facing strategy to wrap.
        seed: of B.

    Raises:
        ConfigError: where `of` is not a future-facing strategy.

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import FeedbackAlignment, Full
        >>> rnn = VanillaRNN(3, 5, gradient=FeedbackAlignment(of=Full()))

    Reference: Lillicrap, Cownden, Tweed & Akerman (2016), "Random synaptic feedback weights
    support error backpropagation for deep learning".
    """

    cost: ClassVar[str] = "as what it wraps, O(L N H (H+I)) for full"
    space: ClassVar[str] = "as what it wraps, O(L N H) for full"

    @checked
    def __init__(
        self,
        *,
        of: Annotated[PerUnroll, Claiming("faces_future", BACKWARD_ONLY)],
        seed: int = 0,
    ) -> None:
        super().__init__(of)
        self.seed = seed

    def feedback(self, index: int, weight_hh: Tensor) -> Tensor:
        """Return B, (H, H), in place of a layer's W_hh."""
        direction = _direction(self.seed, index, len(weight_hh)).to(weight_hh)
        return direction.mul(weight_hh.norm())

    def modify(self, rule: Rule, stack: Stack, estimate: Estimate) -> list[Swept]:
        """Eq. (1): hand the wrapped rule a stack with other recurrent weights."""
        layers = [
            layer._replace(weights=layer.weights._replace(hh=self.feedback(i, layer.weights.hh)))
            for i, layer in enumerate(stack.layers)
        ]
        return rule(stack._replace(layers=layers))


@functools.lru_cache(maxsize=32)
def _direction(seed: int, index: int, hidden_size: int) -> Tensor:
    """A random matrix of Frobenius norm 1, (H, H); not to be changed."""
    random = generator(seed, "feedback_alignment", index)
    entries = torch.randn(hidden_size, hidden_size, generator=random, dtype=torch.float64)
    return entries.div_(entries.norm())
