"""Random feedback local online learning: influence decays by the leak, and nothing recurs."""

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from bptt_lab.core.random import generator
from bptt_lab.core.validation import Ge, checked
from bptt_lab.gradients.diagonal import Diagonal
from bptt_lab.gradients.past import Chunk


class RFLO(Diagonal):
    """RTRL without the recurrent part of the Jacobian: a unit remembers by its leak alone.

    For leaky networks, model.leak below 1. Do not use it with leak = 1, where it is lag 1: no
    credit for any past step. `truncated` with k=1 and mode=lag then does the same.

    Cost: L N H (H + I) twice, products as full's; space N H (H + I + 1) from chunk to chunk.

        (1) e_t = (1 - leak) e_{t-1} + leak phi'(a_t) xhat_t^T,   xhat_t = (x_t, h_{t-1}, 1)
        (2) dE/dtheta = sum_t (B q_t) * e_t

    With symmetric feedback B = I, which hands the readout's error back through the readout's own
    weights V. Murray (2019) sends it through fixed random weights instead. A strategy sees q_t =
    V^T err_t, not the error; so with random feedback B is a fixed random (H, H), its entries normal
    with variance 1/H, and B V^T takes the place of his. Unlike his it moves as V learns. V's own
    gradient is the exact one in either case.

    Args:
        feedback: symmetric or random.
        seed: of the random feedback.

    Raises:
        ConfigError: where a setting lies outside these limits, and as PastFacing does.

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import RFLO
        >>> rnn = VanillaRNN(3, 5, leak=0.1, gradient=RFLO())

    Reference: Murray (2019), "Local online learning in recurrent networks with random feedback".
    """

    cost: ClassVar[str] = "O(L N H (H+I))"
    space: ClassVar[str] = "O(N H (H+I) + L N H)"

    @checked
    def __init__(
        self,
        *,
        feedback: Literal["symmetric", "random"] = "symmetric",
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.feedback = feedback
        self.seed = seed

    def __repr__(self) -> str:
        seed = f", seed={self.seed}" if self.feedback == "random" else ""
        return f"RFLO(feedback={self.feedback!r}{seed})"

    def decay(self, chunk: Chunk) -> Tensor:
        """What a step leaves of the influence in Eq. (1)."""
        return torch.full_like(chunk.slope, 1 - chunk.cell.leak)

    @property
    def alike(self) -> bool:  # type: ignore[override]  # it follows from a setting
        """Whether credit is fed back as it is."""
        return self.feedback == "symmetric"

    def fed_back(self, q_LNH: Tensor) -> Tensor:
        """B q_t."""
        if self.feedback == "symmetric":
            return q_LNH
        hidden_size = q_LNH.shape[-1]
        random = generator(self.seed, "rflo feedback", hidden_size)
        B_HH = torch.randn(hidden_size, hidden_size, generator=random, dtype=torch.float64)
        fed_back: Tensor = q_LNH @ (B_HH.t() / hidden_size**0.5).to(q_LNH)
        return fed_back


Rflo = RFLO  # its name in old run folders
