"""Persistent evolution strategies, as far as a slope of the loss is all that they see."""

from typing import Annotated, Any, ClassVar

from torch import Tensor

from bptt_lab.core.validation import Ge, checked
from bptt_lab.gradients.past import Chunk
from bptt_lab.gradients.random_directions import RandomDirections


class PES(RandomDirections):
    """Unbiased gradient from perturbations that are drawn anew in every chunk and added up.

    A study, not a recommendation: the variance grows with the number of parameters and with the
    chunks since the sequence began. uoro has less of it, and kf_rtrl far less; forward_gradient
    keeps its directions, and its variance does not grow with chunks.

    It is the limit sigma -> 0 of the published method. That one runs each sequence in antithetic
    pairs, at parameters theta + sigma eps and theta - sigma eps, and takes the difference of the
    two losses. Its states differ, and a finite sigma smooths the loss, which helps where the loss
    is rugged. A strategy sees the loss's slope at one state only; as sigma -> 0 the difference of a
    pair, over 2 sigma, becomes the tangent. Nothing is smoothed here.

    Cost: O(K H (H + I)) a step and sequence, in a loop over time; space N K (H (H + I + 1) + H),
    and L N K H for the chunk.

        (1) hdot_t = J_t hdot_{t-1} + Mbar_t eps_c,   t in chunk c
        (2) xi_c = xi_{c-1} + eps_c
        (3) g_c = sum_n 1/K sum_k (sum_{t in c} q_t . hdot_t) xi_c
        (4) E|g_c - grad|^2 = 1/K sum_n (c P - 2) sum_i |a_i|^2 + |sum_i a_i|^2,
            P = H (H + I + 1)

    eps_c is K directions of random signs for every sequence. They are independent, so that each
    part of hdot meets itself in xi: E[g_c] = grad, and E[hdot_t (x) xi_c] = M_t. In Eq. (4) a_i is
    the part of grad_n that the parameters' uses in chunk i = 1 ... c have, the bias counted once.

    Args:
        pairs: K, for every sequence; one direction in the limit.
        seed: of the directions, with the carry's draw.

    Raises:
        ConfigError: where a setting lies outside these limits, for stacked layers, and for an input
            or hx that asks for a gradient.

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import PES
        >>> rnn = VanillaRNN(3, 5, gradient=PES(pairs=4))

    Reference: Vicol, Metz & Sohl-Dickstein (2021), "Unbiased gradient estimation in unrolled
    computation graphs with persistent evolution strategies".
    """

    unbiased = True
    shaping = ("pairs",)
    cost: ClassVar[str] = "O(K L N H (H+I))"
    space: ClassVar[str] = "O(K N H (H+I) + K L N H)"

    @checked
    def __init__(self, *, pairs: Annotated[int, Ge(1)] = 1, seed: int = 0) -> None:
        self.pairs = pairs
        self.seed = seed

    def directions_of(self, chunk: Chunk, influence: Any) -> tuple[Tensor, Tensor]:
        """Return eps_c, drawn now, and xi_c of Eq. (2)."""
        eps_NKHJ = self.signs(chunk, "pes", self.pairs)
        return eps_NKHJ, eps_NKHJ if influence is None else influence[0] + eps_NKHJ
