"""Credit clipping: hold the credit back at every step of the sweep, before it can explode.

Clipping the gradient afterwards scales everything alike, and one explosion drowns the rest.
Inside the sweep only the sequence and the step where credit has grown too long are held back.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from bptt_lab.core.cell import Swept, slopes
from bptt_lab.core.validation import Claiming, ConfigError, Gt, checked
from bptt_lab.gradients.future import Estimate, PerUnroll, Rule
from bptt_lab.gradients.modifier import Modifier
from bptt_lab.gradients.stack import Stack

NO_SWEEP = (
    "must be a future-facing strategy of one adjoint sweep, since CreditClip clips inside it; "
    "wrap Full, Truncated with mode=chunk or tail, or ARTBP"
)


class CreditClip(Modifier):
    """Another strategy with the credit of every sequence and step clipped inside the sweep.

    Use it where credit explodes now and then. Do not use it for speed: the sweep becomes a loop
    over time in torch; nor where the gradient must be unbiased, or linear in the loss. It wraps
    what is a sweep: full, truncated by chunk or tail, artbp, feedback_alignment of these.

    Cost: as what it wraps, in a loop over time.

        (1) c_t = s (q_t + keep_{t+1} J_{t+1}^T c_{t+1}),  s = min(1, clip / |.|)

    for each sequence and layer; J^T is the recurrent Jacobian's, keep what it wraps says. The
    carry's estimate holds `clipped_fraction`, the share of the latest pass's credits that were.

    Args:
        of: the future-facing strategy to wrap.
        clip: largest Euclidean norm of dE/dh_t of one sequence, above 0. The loss of a training
            step is a mean, so its credit has a factor of 1 over the number of elements.

    Raises:
        ConfigError: where `of` assigns credit otherwise than by a sweep, or `clip` is not above 0.

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import CreditClip, Full
        >>> rnn = VanillaRNN(3, 5, gradient=CreditClip(of=Full(), clip=0.1))

    Reference: Graves (2013), "Generating sequences with recurrent neural networks", section 2.1,
    for clipping inside the backward pass.
    """

    cost: ClassVar[str] = "as what it wraps, O(L N H (H+I)) for full, slow constant"
    space: ClassVar[str] = "as what it wraps, O(L N H) for full"

    @checked
    def __init__(
        self,
        *,
        of: Annotated[PerUnroll, Claiming("one_sweep", NO_SWEEP)],
        clip: Annotated[float, Gt(0)] = 0.01,
    ) -> None:
        super().__init__(of)
        self.clip = clip
        self.linear = False  # a loss twice as large is clipped more often

    def modify(self, rule: Rule, stack: Stack, estimate: Estimate) -> list[Swept]:
        """Let the wrapped rule sweep, with clipping, and count what is clipped."""
        events: list[Tensor] = []

        def clipping(
            stack: Stack, index: int, q_LNH: Tensor | None, keep: Sequence[float] | None
        ) -> Swept:
            delta, credit, clipped_LN = _sweep(stack, index, q_LNH, keep, self.clip)
            events.append(clipped_LN)
            return stack.from_delta(index, delta, credit)

        swept = rule(stack._replace(sweep_layer=clipping))
        if not events:
            raise ConfigError(f"of={self.of!r}: {NO_SWEEP}")
        clipped = int(sum(clipped_LN.sum() for clipped_LN in events))
        estimate["clipped_fraction"] = clipped / max(sum(e.numel() for e in events), 1)
        return swept


def _sweep(
    stack: Stack, index: int, q_LNH: Tensor | None, keep: Sequence[float] | None, clip: float
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer's delta and credit by Eq. (1), (L, N, H), and which were clipped, (L, N)."""
    layer, leak = stack.layers[index], stack.cell.leak
    slope_LNH = slopes(layer.values, stack.cell)
    credit_LNH, delta_LNH = torch.empty_like(slope_LNH), torch.empty_like(slope_LNH)
    norm_LN = slope_LNH.new_empty(slope_LNH.shape[:2])
    handed_NH = stack.immediate_at_end(index)
    if handed_NH is None:
        handed_NH = torch.zeros_like(slope_LNH[0])
    for t in reversed(range(len(slope_LNH))):
        c_NH = handed_NH if q_LNH is None else q_LNH[t] + handed_NH
        norm_N1 = torch.linalg.vector_norm(c_NH, dim=1, keepdim=True)
        c_NH = torch.where(norm_N1 > clip, c_NH * (clip / norm_N1), c_NH)
        credit_LNH[t], norm_LN[t] = c_NH, norm_N1[:, 0]
        torch.mul(slope_LNH[t], c_NH, out=delta_LNH[t])
        factor = 1.0 if keep is None else keep[t]
        if factor == 0:
            handed_NH = torch.zeros_like(c_NH)
        else:
            handed_NH = factor * torch.addmm((1 - leak) * c_NH, delta_LNH[t], layer.weights.hh)
    return delta_LNH, credit_LNH, norm_LN > clip
