"""BPTT(h; 1) of Williams and Peng: each loss's credit goes back k steps, across chunks too."""

from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from bptt_lab.core.validation import Ge, checked
from bptt_lab.gradients.past import Chunk, PastFacing


class OnlineBPTT(PastFacing):
    """Truncation at lag k, across chunks: the last k - 1 steps are remembered.

    For streams that are learnt a step or a few at a time (`dataset.chunk_length=1`): there
    `truncated` sees the chunk alone. Do not use it where a chunk is much longer than k: `truncated`
    with mode=lag then does the same without a memory. With k as large as the steps between two
    resets it is exact RTRL's gradient at fixed parameters. If the optimizer steps between chunks,
    credit passes through the present weights at the states as they were.

    Cost: k times N L H^2 multiplications, and N (L + k) H (H + I + 1) for the sum; space
    N k (2 H + I + 1), where RTRL has N H^3 (H + I + 1) a step and N H^2 (H + I + 1). With H = 64,
    N = 8, I = 1 and a step a chunk, on one thread, k = 25 takes a seventh of rtrl's time, k = 100
    a third, k = 200 two thirds.

        (1) c_{t,t} = q_t,  c_{t,s-1} = (1 - leak) c_{t,s} + W_hh^T delta_{t,s}
        (2) delta_{t,s} = leak phi'(a_s) c_{t,s},   0 <= t - s < k
        (3) dE/dtheta = sum_{t,s} delta_{t,s} xhat_s^T,   xhat_s = (x_s, h_{s-1}, 1)

    Args:
        k: steps a loss's credit travels, its own included; 1 or more.

    Raises:
        ConfigError: where k lies outside its limits, and as PastFacing does.

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import OnlineBPTT
        >>> rnn = VanillaRNN(3, 5, gradient=OnlineBPTT(k=10))

    Reference: Williams & Peng (1990), "An efficient gradient-based algorithm for on-line training
    of recurrent network trajectories".
    """

    grows = True
    cost: ClassVar[str] = "O(k L N H (H+I))"
    space: ClassVar[str] = "O(N (k+L) (H+I))"

    @checked
    def __init__(self, *, k: Annotated[int, Ge(1)] = 25) -> None:
        self.k = k

    def advance(self, chunk: Chunk, influence: Any) -> tuple[Any, Any]:
        """Remember the last k - 1 steps: xhat and slope, (N, k - 1, J) and (N, k - 1, H)."""
        steps = [chunk.extended, chunk.slope]
        if influence is not None:
            known = zip(influence, steps, strict=True)
            steps = [torch.cat((old.transpose(0, 1), new)) for old, new in known]
        begin = max(0, len(steps[0]) - self.k + 1)
        return tuple(each[begin:].transpose(0, 1).clone() for each in steps), steps

    def gradient(self, chunk: Chunk, influence: Any, kept: Any, q_LNH: Tensor) -> Tensor:
        """Eq. (1) to (3), all losses side by side, lag by lag."""
        extended_TNJ, slope_TNH = kept
        delta_TNH = torch.zeros_like(slope_TNH)
        c_LNH, end = q_LNH, len(slope_TNH)
        for _ in range(self.k):
            c_LNH = c_LNH[-end:]  # the first loss may have come to the sequence's first step
            here = slice(end - len(c_LNH), end)
            delta_LNH = slope_TNH[here] * c_LNH
            delta_TNH[here] += delta_LNH
            end -= 1
            if end == 0:
                break
            before_LNH = delta_LNH @ chunk.weights.hh
            leak = chunk.cell.leak
            c_LNH = before_LNH if leak == 1 else before_LNH.add_(c_LNH, alpha=1 - leak)
        total_HJ: Tensor = delta_TNH.flatten(0, 1).t() @ extended_TNJ.flatten(0, 1)
        return total_HJ

    def mask(self, num_steps: int) -> Tensor:
        """M[t, s] = t - s < k, (T, T) booleans."""
        ones = torch.ones(num_steps, num_steps, dtype=torch.bool)
        return ones.tril() & ones.triu(1 - self.k)
