"""Real-time recurrent learning: the influence of the parameters is carried forward, exactly."""

from typing import Annotated, Any, ClassVar

from torch import Tensor

from bptt_lab.core.validation import Ge, Gt, OnlyWith, checked
from bptt_lab.gradients.base import Carry, RecurrentNet
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.influence import as_matrix, fold, recur, refuse_size, swept
from bptt_lab.gradients.past import Chunk, PastFacing, refuse_stack


class RTRL(PastFacing):
    """Exact gradient of the whole sequence, chunk by chunk, without its past.

    With one step a chunk (`dataset.chunk_length=1`) it is the textbook online algorithm. Do not
    use it where the sequence fits into a chunk: full has the same gradient some H^2 times as fast.
    If the optimizer steps between chunks, the influence carried is that of older weights.

    Cost: 2 N H^3 (H + I + 1) flops a step; with a block of about H steps some 6 N H^3. Space
    N H^2 (H + I + 1), L times that if stored.

        (1) M_t = J_t M_{t-1} + Mbar_t,   J_t = (1 - leak) I + leak diag(phi'(a_t)) W_hh
        (2) dE/dtheta = sum_t q_t M_t
        (3) dE/dtheta = sum_t c_t Mbar_t + c_0 M_0

    M is carried past the chunk; inside, one adjoint sweep does the work, whose credit c_0 at the
    start of the chunk meets the influence there. Eq. (3) is Eq. (2) with the sums exchanged.
    With a block, M exists at block boundaries only.

    Args:
        carry_influence: false begins every chunk without influence, as full does.
        store: keep every step's influence for Eq. (2), as textbooks do.
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
        """Eq. (1), block by block if so set; keep M_1 ... M_L if they are to be stored."""
        refuse_size(chunk, self.memory_limit_gib, self.store)
        if self.store:
            (L, N, H), J = chunk.slope.shape, chunk.extended.shape[-1]
            every = chunk.slope.new_empty(L, N, H, H * J)  # M_1 ... M_L
            last = recur(chunk, influence, every)
            return last if self.carry_influence else None, every
        if not self.carry_influence:
            return None, None
        if self.block is None:
            return recur(chunk, influence), None
        return fold(chunk, influence, self.block), None

    def gradient(self, chunk: Chunk, influence: Any, kept: Any, q_LNH: Tensor) -> Tensor:
        """Eq. (3), or (2) where all influence is stored."""
        if kept is None:
            return swept(chunk, influence, q_LNH)
        every: Tensor = kept
        return (q_LNH.reshape(1, -1) @ every.flatten(0, 2)).view(q_LNH.shape[-1], -1)

    def matrix(self, influence: Any) -> Tensor:
        """Return what is carried; see PastFacing."""
        return as_matrix(influence)

    def credit(
        self, rnn: RecurrentNet, input: Tensor, hx: Tensor, q: Tensor, *, after: Carry | None = None
    ) -> Tensor:
        """Return dE/dh_t, which is full BPTT's; see GradientStrategy."""
        refuse_stack(self, rnn)
        return Full().credit(rnn, input, hx, q)


Rtrl = RTRL  # its name in old run folders
