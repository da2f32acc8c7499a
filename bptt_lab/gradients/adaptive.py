"""Adaptive truncation: choose the bias that is tolerable, and the lag follows."""

import math
from collections.abc import Iterator
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from bptt_lab.core.cell import Swept
from bptt_lab.core.validation import Ge, Gt, Lt, checked
from bptt_lab.gradients.future import Estimate, PerUnroll, Rule
from bptt_lab.gradients.stack import WEIGHT_GRADIENTS, Stack
from bptt_lab.gradients.truncated import Truncated, lag_sweeps


class Adaptive(PerUnroll):
    """Truncation with the shortest lag whose estimated relative bias is below a target.

    Use it to hold a bias rather than a length, and to watch how far credit has to travel. Do not
    use it for speed: the lag is one of Truncated's mode lag, k products over all steps, so that
    full is cheaper from k about 3 on where the chunk fits in memory. Lag is the mode since its
    gradient is the sum of the parts that the estimate adds up; in chunks of k most losses would
    see fewer steps than were found to be needed.

    Cost: as Truncated's lag k; when estimating, one full sweep and k products a weight more.

        (1) g_k = sum_{d<k} G_d,  G_d the part of the gradient with lag d
        (2) k = the least with |g_k - g| / |g| <= target, all parameters of the recurrence as one
            vector, g the gradient of the whole chunk; k_max where there is none

    A batch without any loss tells nothing and is passed over. In several processes each has the
    k of its own batches. The carry's estimate holds `k`, the lag now, and `relative_bias`, as last
    estimated at that lag: nan before, above `target` if k_max is.

    Args:
        target: the relative bias to stay below, between 0 and 1.
        k_max: the longest lag, which is also the first.
        every: draws from one estimate to the next: training steps times processes.

    Raises:
        ConfigError: where a setting lies outside these limits.

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import Adaptive
        >>> rnn = VanillaRNN(3, 5, gradient=Adaptive(target=0.1, k_max=32))

    Reference: Aicher, Foti & Fox (2019), "Adaptively truncating backpropagation through time to
    control gradient bias".
    """

    one_sweep = False
    cost: ClassVar[str] = "O(L N H (H+I)), sweep times k, and k weight products each estimate"
    space: ClassVar[str] = "O(L N H)"

    @checked
    def __init__(
        self,
        *,
        target: Annotated[float, Gt(0), Lt(1)] = 0.1,
        k_max: Annotated[int, Ge(1)] = 64,
        every: Annotated[int, Ge(1)] = 100,
    ) -> None:
        self.target = target
        self.k_max = k_max
        self.every = every

    def begin(self, num_steps: int, draw: int, estimate: Estimate) -> Rule:
        """Truncate at a lag that the unroll's first backward pass settles, anew if it is time."""
        estimate.setdefault("k", self.k_max)
        estimate.setdefault("relative_bias", math.nan)
        period, settled = draw // self.every, list[int]()

        def rule(stack: Stack) -> list[Swept]:
            if not settled:
                due = period > estimate.get("_period", -1)
                if due and "credit" not in stack.want:  # a backward pass, of whichever leaves
                    self.update(estimate, stack._replace(want=set(WEIGHT_GRADIENTS)), period)
                settled.append(min(int(estimate["k"]), self.k_max))
            return Truncated(k=settled[0], mode="lag").assign(stack)

        return rule

    def update(self, estimate: Estimate, stack: Stack, period: int) -> None:
        """Eq. (2), on a stack with the credit of all losses, in a period of `every` draws."""
        exact = _vector(stack.sweep(), stack)
        size = float(exact.norm())
        if not (0 < size < math.inf):
            return
        missing = exact
        estimate["_period"] = period
        for k, part in enumerate(lag_parts(stack, self.k_max), 1):
            missing = missing - _vector(part, stack)  # Eq. (1)
            estimate["k"], estimate["relative_bias"] = k, float(missing.norm()) / size
            if estimate["relative_bias"] <= self.target:
                return


def lag_parts(stack: Stack, num_lags: int) -> Iterator[list[Swept]]:
    """Yield each layer's G_d for d = 0, 1, ...: what all losses give to the steps d before."""
    num_lags = min(num_lags, len(stack.layers[0].input))
    for c, delta in lag_sweeps(stack, num_lags, again=False):
        yield [stack.from_delta(i, delta[i], c[i]) for i in range(len(c))]


def _vector(swept: list[Swept], stack: Stack) -> Tensor:
    """The gradients of all parameters that there are as one vector, in single precision or more."""
    parts = []
    for s, layer in zip(swept, stack.layers, strict=True):
        for name, parameter in zip(WEIGHT_GRADIENTS, layer.weights, strict=True):
            if parameter is not None:
                parts.append(getattr(s, name).flatten())
    vector = torch.cat(parts)
    return vector.to(torch.promote_types(vector.dtype, torch.float32))
