"""Real-time recurrent learning: the influence of the parameters is carried forward, exactly."""

from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from bptt_lab.core import recurrence
from bptt_lab.core.cell import Layer
from bptt_lab.core.validation import ConfigError, Ge, Gt, OnlyWith, checked
from bptt_lab.gradients.base import Carry, RecurrentNet
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.influence import fold, meet, recur
from bptt_lab.gradients.past import Chunk, PastFacing, refuse_stack

GIB = 2**30


class RTRL(PastFacing):
    """Exact gradient of the whole sequence, chunk by chunk, without its past.

    With one step a chunk (`dataset.chunk_length=1`) it is the textbook online algorithm. Do not
    use it where the sequence fits into a chunk: full has the same gradient some H^2 times as fast.
    If the optimizer steps between chunks, the influence carried is that of older weights.

    Cost: 2 N H^3 (H + I + 1) flops a step, with carried influence twice for all but a chunk's last
    step unless stored; with a block of about H steps some 6 N H^3. Space N H^2 (H + I + 1), L times
    that if stored.

        (1) M_t = J_t M_{t-1} + Mbar_t,   J_t = (1 - leak) I + leak diag(phi'(a_t)) W_hh
        (2) dE/dtheta = sum_t q_t M_t

    With a block, M exists at block boundaries only: inside, adjoint sweeps do the work, and the
    credit c_0 at the start of the chunk meets the influence there,

        (3) dE/dtheta = sum_t c_t Mbar_t + c_0 M_0

    Args:
        carry_influence: false begins every chunk without influence, as full does.
        store: keep every step's influence for the backward pass, not compute it again; a block
            needs none.
        block: steps between two influences in Schmidhuber's form; null is a step.
        memory_limit_gib: largest influence allowed, GiB.

    Raises:
        ConfigError: where a setting lies outside these limits, for `store` with a block, for a
            network whose influence is too large, and as PastFacing does.

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import RTRL
        >>> rnn = VanillaRNN(3, 5, gradient=RTRL(block=5))

    References: Robinson & Fallside (1987); Williams & Zipser (1989), "A learning algorithm for
    continually running fully recurrent neural networks"; Schmidhuber (1992), "A fixed size storage
    O(n^3) time complexity learning algorithm for fully recurrent continually running networks".
    """

    exact_within_chunk = True
    unbiased = True
    influence = "hidden_size * hidden_size * hidden_size"  # its numbers of a sequence, at least
    cost: ClassVar[str] = "O(L N H^3 (H+I)), with a block O(L N H^2 (H+I))"
    space: ClassVar[str] = "O(N H^2 (H+I)), L times with store"

    @checked
    def __init__(
        self,
        *,
        carry_influence: bool = True,
        store: Annotated[bool, OnlyWith("block", None)] = False,
        block: Annotated[int | None, Ge(1)] = None,
        memory_limit_gib: Annotated[float, Gt(0)] = 4.0,
    ) -> None:
        self.carry_influence = carry_influence
        self.store = store
        self.block = block
        self.memory_limit_gib = memory_limit_gib
        self.carries_influence = carry_influence

    @property
    def exact_across_chunks(self) -> bool:  # type: ignore[override]  # it follows from a setting
        """Whether influence is carried."""
        return self.carry_influence

    def __repr__(self) -> str:
        carried = "" if self.carry_influence else "carry_influence=False, "
        return f"RTRL({carried}store={self.store}, block={self.block})"

    def advance(self, chunk: Chunk, influence: Any) -> tuple[Any, Any]:
        """Eq. (1), block by block if so set; keep M_L, or M_1 ... M_L if they are to be stored."""
        self._refuse_size(chunk)
        if self.store:
            (L, N, H), J = chunk.slope.shape, chunk.extended.shape[-1]
            every = chunk.slope.new_empty(L, N, H, H * J)  # M_1 ... M_L
            last = recur(chunk, influence, every=every)[0]
            return last if self.carry_influence else None, every
        if not self.carry_influence:
            return None, None
        if self.block is not None:
            return fold(chunk, influence, self.block), None
        last = recur(chunk, influence)[0]
        return last, last[None]

    def gradient(self, chunk: Chunk, influence: Any, kept: Any, q_LNH: Tensor) -> Tensor:
        """Eq. (2), M computed again where it is not kept; or (3) with a block."""
        if self.block is not None:
            return _swept(chunk, influence, q_LNH)
        if kept is not None:
            return meet(chunk, influence, kept, q_LNH)
        gradient = recur(chunk, influence, q_LNH)[1]
        assert gradient is not None
        return gradient

    def credit(
        self, rnn: RecurrentNet, input: Tensor, hx: Tensor, q: Tensor, *, after: Carry | None = None
    ) -> Tensor:
        """Return dE/dh_t, which is full BPTT's; see GradientStrategy."""
        refuse_stack(self, rnn)
        return Full().credit(rnn, input, hx, q)

    def _refuse_size(self, chunk: Chunk) -> None:
        """Raise a ConfigError for an influence above the limit, before it is made."""
        (L, N, H), J = chunk.slope.shape, chunk.extended.shape[-1]
        count = N * H * H * J * (L if self.store else 1)
        needed = count * chunk.slope.element_size() / GIB
        if needed > self.memory_limit_gib:
            times = f" * {L} steps stored" if self.store else ""
            raise ConfigError(
                f"hidden_size={H}: influence needs {needed:.3g} GiB (N H^2 (H+I+1) numbers for "
                f"N={N}, I={chunk.input.shape[-1]}{times}), above "
                f"memory_limit_gib={self.memory_limit_gib}; raise it, take fewer units or "
                "sequences, or gradient=full, snap1 or uoro"
            )


def _swept(chunk: Chunk, influence: Tensor | None, q_LNH: Tensor) -> Tensor:
    """Eq. (3), (H, J): one adjoint sweep over the chunk."""
    want = {"grad_weight_ih", "grad_weight_hh", "grad_bias", "grad_hx"}
    layer = Layer(chunk.input, chunk.states, chunk.values, chunk.weights)
    swept = recurrence.sweep(q_LNH, layer, chunk.cell, want)
    assert swept.grad_weight_ih is not None and swept.grad_weight_hh is not None
    assert swept.grad_bias is not None and swept.grad_hx is not None
    parts = [swept.grad_weight_ih, swept.grad_weight_hh]
    if chunk.weights.bias_ih is not None:
        parts.append(swept.grad_bias[:, None])
    inside_HJ = torch.cat(parts, 1)
    if influence is None:
        return inside_HJ
    return inside_HJ + (swept.grad_hx.reshape(1, -1) @ influence.flatten(0, 1)).view_as(inside_HJ)


Rtrl = RTRL  # its name in old run folders
