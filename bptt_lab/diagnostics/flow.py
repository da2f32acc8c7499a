"""Credit flow: how much of the loss at step t is felt by the state at step s.

    (1) dE_t/dh_s = q_t J_t J_{t-1} ... J_{s+1}

All loss steps travel back side by side, one product a lag for all of them. Vectors have length 1
as they travel and their log length is kept apart, so that credit too small for its type is told
from credit that is not there: vanishing is what the network does, underflow what the type does.
References: Hochreiter (1991); Bengio, Simard & Frasconi (1994), "Learning long-term dependencies
with gradient descent is difficult".
"""

from typing import NamedTuple

import torch
from torch import Tensor

from bptt_lab.diagnostics.linearise import Linearised, Loss, immediate_credit, linearise, reach
from bptt_lab.gradients.base import RecurrentNet


class CreditFlow(NamedTuple):
    """Log lengths of credit, float64.

    Attributes:
        log10: mean over the sequences that get any of log10 |dE_t/dh_s|, entry [layer, t, s] of
            (num_layers, T, T); -inf where no sequence gets any, nan above the diagonal.
        by_lag: mean of `log10` over the loss steps that reach back so far, entry [layer, t - s]
            of (num_layers, T); -inf where none does.
    """

    log10: Tensor
    by_lag: Tensor


class _Vectors(NamedTuple):
    """Vectors (L, N, H) of length 1, or 0, with the log10 of their true length, (L, N)."""

    unit: Tensor
    log10: Tensor


def credit_flow(
    rnn: RecurrentNet, input: Tensor, loss: Loss, hx: Tensor | None = None
) -> CreditFlow:
    """Measure |dE_t/dh_s| for every pair of steps and every layer.

    Cost: T lags of 2 L N H^2 flops where every step has a loss, L being 1 where only the last
    has; space L N H and T^2 numbers a layer.

    Args:
        rnn: the network, any number of layers.
        input: (T, N, I), time first.
        loss: maps the last layer's states (T, N, H) to a scalar.
        hx: state before the first step, (num_layers, N, H); zeros by default.

    Raises:
        ValueError: where `input` or `hx` has the wrong shape.

    Examples:
        >>> import torch
        >>> from bptt_lab import VanillaRNN
        >>> flow = credit_flow(VanillaRNN(2, 3), torch.randn(9, 4, 2), torch.sum)
        >>> flow.log10.shape, flow.by_lag.shape
        (torch.Size([1, 9, 9]), torch.Size([1, 9]))
    """
    run = linearise(rnn, input, hx)
    q_LNH = immediate_credit(run, loss)
    num_layers, num_steps = len(run.layers), len(input)
    log10 = q_LNH.new_full((num_layers, num_steps, num_steps), -torch.inf, dtype=torch.float64)
    log10.masked_fill_(torch.ones_like(log10[0], dtype=torch.bool).triu(1), torch.nan)
    by_lag = torch.full_like(log10[:, 0], -torch.inf)
    own_LNH, reached = reach(q_LNH, num_steps)
    own = _normalised(_Vectors(own_LNH, log10.new_zeros(())))
    none = _Vectors(torch.zeros_like(own.unit), torch.full_like(own.log10, -torch.inf))
    credit = [none] * (num_layers - 1) + [own]
    for lag, (steps, gone) in enumerate(reached):
        for i in reversed(range(num_layers)):
            if lag > 0:
                # Credit one lag younger sits one step later.
                later = slice(steps.start + 1, steps.stop + 1)
                older = _Vectors(credit[i].unit[gone:], credit[i].log10[gone:])
                credit[i] = _handed(run, i, older, later)
            if i + 1 < num_layers:
                above = _handed(run, i + 1, credit[i + 1], steps, below=True)
                credit[i] = _sum(credit[i], above)
            means = _mean(credit[i].log10, 1)
            log10[i].diagonal(-lag)[steps] = means
            by_lag[i, lag] = _mean(means, 0)
    return CreditFlow(log10, by_lag)


def _handed(
    run: Linearised, layer: int, credit: _Vectors, steps: slice, below: bool = False
) -> _Vectors:
    """What credit at `steps` hands one step back in time, by J^T, or to the layer below."""
    weights = run.layers[layer].weights
    unit = (run.slopes[layer][steps] * credit.unit) @ (weights.ih if below else weights.hh)
    if not below and run.cell.leak != 1:
        unit.add_(credit.unit, alpha=1 - run.cell.leak)
    return _normalised(_Vectors(unit, credit.log10))


def _sum(one: _Vectors, other: _Vectors) -> _Vectors:
    """Add vectors of whatever length: at the scale of the longer, where the shorter may vanish."""
    scale = torch.maximum(one.log10, other.log10)
    scale = torch.where(scale == -torch.inf, 0, scale)
    a, b = ((10 ** (v.log10 - scale)).to(v.unit.dtype).unsqueeze(-1) for v in (one, other))
    return _normalised(_Vectors(one.unit * a + other.unit * b, scale))


def _normalised(vectors: _Vectors) -> _Vectors:
    """The same vectors with their length moved into the logarithm."""
    norm = torch.linalg.vector_norm(vectors.unit, dim=-1, dtype=torch.float64)
    divisor = torch.where(norm == 0, 1, norm).unsqueeze(-1)
    return _Vectors((vectors.unit / divisor).to(vectors.unit.dtype), vectors.log10 + norm.log10())


def _mean(log10: Tensor, dim: int) -> Tensor:
    """Mean of what is not -inf; -inf where nothing is."""
    there = log10 != -torch.inf
    mean = torch.where(there, log10, 0).sum(dim) / there.sum(dim)
    return torch.where(there.any(dim), mean, -torch.inf)
