"""Gradient alignment: which strategy points where, against full BPTT on the same batch.

With g full BPTT's gradient of all parameters as one vector, and g_1 .. g_n a strategy's draws,

    (1) cosine  <g_i, g> / (|g_i| |g|),  norm ratio  |g_i| / |g|,  relative error  |g_i - g| / |g|
    (2) m = sum_i g_i / n,  V = sum_i |g_i - m|^2 / (n - 1)
    (3) bias  |m - g| / |g|,  variance  V / |g|^2,  signal to noise  |m|^2 / V - 1 / n

Those of Eq. (1) are means over draws. The subtraction in Eq. (3) makes |m|^2, which noise
lengthens by V / n, an unbiased estimate of the squared length of the expected gradient.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from bptt_lab.core.validation import ConfigError, Ge, check
from bptt_lab.diagnostics.linearise import Loss
from bptt_lab.gradients.base import Carry, GradientStrategy
from bptt_lab.gradients.full import Full
from bptt_lab.nn.rnn import VanillaRNN


class Estimate(NamedTuple):
    """A number and its standard error; nan where it has none."""

    value: float
    standard_error: float = math.nan


class Aligned(NamedTuple):
    """One strategy against full BPTT, Eq. (1) and (3).

    The last three, and all standard errors, are nan with one draw.

    Attributes:
        cosine: nan where either gradient is zero.
        norm_ratio: nan, as the rest but `snr`, where full BPTT's gradient is zero.
        relative_error: of a single draw.
        bias: relative error of the draws' mean. Its standard error is the root mean square of
            what noise alone leaves after n draws: an unbiased strategy's bias is about as large.
        variance: 0 for a strategy that does not draw.
        snr: signal-to-noise ratio of powers; inf for a strategy that does not draw. Its standard
            error, and that of the variance, is the jackknife's, from three draws on.
    """

    cosine: Estimate
    norm_ratio: Estimate
    relative_error: Estimate
    bias: Estimate
    variance: Estimate
    snr: Estimate


@dataclass(frozen=True)
class Alignment:
    """Several strategies on one batch.

    Attributes:
        strategies: for each strategy's name its figures.
        pairwise: cosines of the strategies' gradients, each the mean of its draws, (S, S) in the
            order of `strategies`, float64; nan where one of the two is zero.
    """

    strategies: dict[str, Aligned]
    pairwise: Tensor

    def __getitem__(self, name: str) -> Aligned:
        return self.strategies[name]


def alignment(
    rnn: VanillaRNN,
    input: Tensor,
    loss: Loss,
    strategies: Mapping[str, GradientStrategy],
    hx: Tensor | None = None,
    *,
    draws: int = 1,
    after: Mapping[str, Carry] | None = None,
) -> Alignment:
    """Compare strategies' gradients of all parameters with full BPTT's, at the same parameters.

    Each strategy is used as training uses it: it unrolls the chunk from a carry of its own and
    torch differentiates the loss. A strategy is called `draws` times in a row, each time with no
    influence and the next draw of random numbers.

    Cost: S * draws gradients; space for `draws` gradients.

    Args:
        rnn: the network; left as it is, its own strategy plays no part, nothing is dropped, and
            frozen parameters count too.
        input: (T, N, I), time first.
        loss: maps the last layer's states (T, N, H) to a scalar.
        strategies: by name, at least one.
        hx: state before the first step, (num_layers, N, H); zeros by default.
        draws: gradients a strategy is asked for; more than one only pays for those that draw.
        after: for a strategy's name a carry whose draw and estimate it goes on from; others begin
            at draw 0.

    Raises:
        ConfigError: where `draws` is not 1 or more, or there is no strategy.

    Examples:
        >>> import torch
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import Truncated
        >>> rnn, input = VanillaRNN(2, 3), torch.randn(9, 4, 2)
        >>> result = alignment(rnn, input, torch.sum, {"chunk 3": Truncated(k=3)})
        >>> bool(result["chunk 3"].relative_error.value > 0)
        True
    """
    check("draws", draws, Annotated[int, Ge(1)], {})
    if not strategies:
        raise ConfigError("strategies={}: must hold at least one gradient strategy; name one")
    twin = copy.deepcopy(rnn).requires_grad_()
    twin.dropout = 0.0
    if hx is None:
        hx = input.new_zeros(rnn.num_layers, input.shape[1], rnn.hidden_size)
    hx = hx.detach()
    full = _gradient(twin, input, loss, Full(), Carry(hx)).double()
    aligned, means = {}, []
    for name, strategy in strategies.items():
        carry = strategy.init_carry(twin, input.shape[1], (after or {}).get(name))._replace(hx=hx)
        carries = [carry._replace(draw=carry.draw + number) for number in range(draws)]
        g = torch.stack([_gradient(twin, input, loss, strategy, c) for c in carries]).double()
        # From the first draw on, so that equal draws have exactly their own mean.
        mean = g[0] + (g - g[0]).mean(0)
        aligned[name] = _compare(g, mean, full)
        means.append(mean)
    stacked = torch.stack(means)
    norms = stacked.norm(dim=1)
    return Alignment(aligned, stacked @ stacked.t() / torch.outer(norms, norms))


def _gradient(
    rnn: VanillaRNN, input: Tensor, loss: Loss, strategy: GradientStrategy, carry: Carry
) -> Tensor:
    """A strategy's gradient of all parameters as one vector, (P,)."""
    parameters = list(rnn.parameters())
    with torch.enable_grad():
        output, _ = strategy.unroll(rnn, input.detach(), carry)
        gradients = torch.autograd.grad(loss(output), parameters, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in gradients])


def _compare(g: Tensor, mean: Tensor, full: Tensor) -> Aligned:
    """Eq. (1) to (3) of the draws g, (n, P)."""
    n, scale = len(g), full.norm()
    if scale == 0:
        scale = scale * torch.nan
    norms = g.norm(dim=1)
    single = g @ full / (norms * scale), norms / scale, (g - full).norm(dim=1) / scale
    figures = [_estimate(draws) for draws in single]
    if n == 1:
        return Aligned(*figures, *[Estimate(math.nan)] * 3)
    off = g - mean
    squares_n, along_n = off.square().sum(1), off @ mean
    V = squares_n.sum() / (n - 1)
    bias = Estimate(float((mean - full).norm() / scale), float((V / n).sqrt() / scale))
    variance, snr = float(V / scale**2), float(mean @ mean / V - 1 / n)
    # Eq. (2) without draw i.
    V_n = (squares_n.sum() - squares_n * n / (n - 1)) / (n - 2)
    length_n = mean @ mean - 2 * along_n / (n - 1) + squares_n / (n - 1) ** 2
    spread = Estimate(variance, _jackknife(V_n / scale**2))
    ratio = Estimate(snr, _jackknife(length_n / V_n - 1 / (n - 1)))
    return Aligned(*figures, *[bias, spread, ratio])


def _estimate(draws: Tensor) -> Estimate:
    """Mean and standard error over draws."""
    n = len(draws)
    return Estimate(float(draws.mean()), float(draws.std() / n**0.5) if n > 1 else math.nan)


def _jackknife(without: Tensor) -> float:
    """The standard error of a figure from its values without one draw each."""
    n = len(without)
    if n < 3:
        return math.nan
    return float(((n - 1) ** 2 / n * without.var(correction=1)).sqrt())
