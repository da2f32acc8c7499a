"""Anticipated reweighted truncation: cut at random, and raise what is not cut by as much."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch

from bptt_lab.core.random import generator
from bptt_lab.core.validation import Gt, checked
from bptt_lab.gradients.future import OneSweep


class ARTBP(OneSweep):
    """Unbiased random truncation: full BPTT's sweep, cut at random and reweighted.

    Use it where a fixed truncation's bias points the wrong way. Do not use it where the chunk
    fits in memory as a whole: full has the same expectation and no variance. Short mean lengths
    with states that remember make the variance large: the weight of a stretch of n steps that is
    not cut grows as (1 - p)^-n, so prefer a decaying hazard there.

    Cost: as full, cuts skipped. All layers and sequences share the cuts.

        (1) p(l) = 1 / L0, or with alpha p(l) = (alpha - 1) / ((alpha - 2) L0 + l)
        (2) c_t = q_t                                  with probability p(l),
            c_t = q_t + J_{t+1}^T c_{t+1} / (1 - p(l))     otherwise

    l counts the steps since the latest cut, or since the chunk's begin; L0 is the mean length
    between cuts, and with alpha lengths have a tail as l^-alpha. Nothing crosses from one chunk to
    the one before, as in full.

    Args:
        mean_length: L0, above 1.
        alpha: exponent of the tail, above 2; null for a constant probability.
        seed: of the cuts, with the carry's draw.

    Raises:
        ConfigError: where a setting lies outside these limits.

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import ARTBP
        >>> rnn = VanillaRNN(3, 5, gradient=ARTBP(mean_length=16))

    Reference: Tallec & Ollivier (2017), "Unbiasing truncated backpropagation through time".
    """

    unbiased = True
    cost: ClassVar[str] = "O(L N H (H+I))"
    space: ClassVar[str] = "O(L N H)"

    @checked
    def __init__(
        self,
        *,
        mean_length: Annotated[float, Gt(1)] = 16,
        alpha: Annotated[float | None, Gt(2)] = None,
        seed: int = 0,
    ) -> None:
        self.mean_length = mean_length
        self.alpha = alpha
        self.seed = seed

    def hazard(self, steps: int) -> float:
        """Eq. (1): the probability of a cut `steps` steps after the latest one."""
        if self.alpha is None:
            return 1 / self.mean_length
        return (self.alpha - 1) / ((self.alpha - 2) * self.mean_length + steps)

    def keep(self, uniforms: Sequence[float]) -> list[float]:
        """Eq. (2): what each step's credit is multiplied with on its way to the step before, L.

        `uniforms` are the draws that say, L - 1 times, whether to cut between a step and the next.
        """
        keep, steps = [1.0], 1
        for uniform in uniforms:
            hazard = self.hazard(steps)
            cut = uniform < hazard
            keep.append(0.0 if cut else 1 / (1 - hazard))
            steps = 1 if cut else steps + 1
        return keep

    def factors(self, num_steps: int, draw: int) -> Sequence[float]:
        """Draw the cuts of one unroll."""
        random = generator(self.seed, "artbp", draw)
        uniforms = torch.rand(num_steps - 1, generator=random, dtype=torch.float64)
        return self.keep(uniforms.tolist())
