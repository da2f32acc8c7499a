"""Forward gradient: the slope along a random direction, times that direction."""

from typing import Annotated, Any, ClassVar

from torch import Tensor

from bptt_lab.core.validation import Ge, checked
from bptt_lab.gradients.past import Chunk
from bptt_lab.gradients.random_directions import RandomDirections


class ForwardGradient(RandomDirections):
    """Unbiased gradient from K random directions in the space of the parameters.

    A study, not a recommendation: the variance grows with the number of parameters. uoro is
    unbiased too, with less of it, and kf_rtrl with far less: 10, 6.8 and 0.31 times the squared
    length of the gradient on a batch of 32 sequences at H = 16; 606, 102 and 0.61 at H = 128.

    Cost: O(K H (H + I)) a step and sequence, in a loop over time; space N K (H (H + I + 1) + H),
    and L N K H for the chunk.

        (1) hdot_t = J_t hdot_{t-1} + Mbar_t v
        (2) g = sum_n 1/K sum_k (sum_t q_t . hdot_t) v
        (3) E|g - grad|^2 = (P - 1) / K sum_n |grad_n|^2,   P = H (H + I + 1)

    v is K directions of random signs for every sequence, drawn where the sequence begins and
    carried with the tangents hdot from chunk to chunk. E[v v^T] = I, therefore E[g] = grad, and
    E[hdot_t (x) v] = M_t. Eq. (3) holds for a chunk and for the sum over a sequence's chunks;
    grad_n is one sequence's gradient, its bias counted once. With normal numbers in place of signs
    it would be P + 1.

    Args:
        directions: K, for every sequence.
        seed: of the directions, with the carry's draw.

    Raises:
        ConfigError: where a setting lies outside these limits, for stacked layers, and for an input
            or hx that asks for a gradient.

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import ForwardGradient
        >>> rnn = VanillaRNN(3, 5, gradient=ForwardGradient(directions=4))

    References: Baydin et al. (2022), "Gradients without backpropagation"; Silver et al. (2021),
    "Learning by directional gradient descent".
    """

    unbiased = True
    shaping = ("directions",)
    cost: ClassVar[str] = "O(K L N H (H+I))"
    space: ClassVar[str] = "O(K N H (H+I) + K L N H)"

    @checked
    def __init__(self, *, directions: Annotated[int, Ge(1)] = 1, seed: int = 0) -> None:
        self.directions = directions
        self.seed = seed

    def directions_of(self, chunk: Chunk, influence: Any) -> tuple[Tensor, Tensor]:
        """Return v twice: the sequence's own, drawn at its beginning."""
        if influence is None:
            v_NKHJ = self.signs(chunk, "forward_gradient", self.directions)
        else:
            v_NKHJ = influence[0]
        return v_NKHJ, v_NKHJ
