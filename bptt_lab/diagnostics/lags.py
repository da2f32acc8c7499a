"""The lag spectrum: what every lag adds to the gradient, and what truncation at any lag costs.

    (1) G_d = sum_t q_t J_t J_{t-1} ... J_{s+1} Mbar_s,  s = t - d    the part with lag d
    (2) g = sum_d G_d,  g_k = sum_{d<k} G_d                           full and lag-k gradient
    (3) C_0[s] = q_s,  C_d[s] = J_{s+1}^T C_{d-1}[s+1]                credit that is d steps old

Lag counts time only: in a stack, C_d of a layer also receives W_ih^T delta_d of the layer above,
at the same step. One run gives the truncation bias of every lag k at once.
References: Werbos (1990) for the sum; Aicher, Foti & Fox (2019), "Adaptively truncating
backpropagation through time to control gradient bias", for relative bias as a function of k.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from bptt_lab.core.validation import Ge, Gt, Le, check
from bptt_lab.diagnostics.linearise import Linearised, Loss, immediate_credit, linearise, reach
from bptt_lab.gradients.base import RecurrentNet, parameter_names
from bptt_lab.gradients.stack import WEIGHT_GRADIENTS, Stack

TOTAL = "total"


class _Squares(NamedTuple):
    """Squared lengths and inner products by lag, (D,) float64, and that of g, a scalar."""

    part: Tensor  # |G_d|^2
    along: Tensor  # <G_d, g>
    truncated: Tensor  # |g_k|^2, k = 1 .. D
    missing: Tensor  # |g - g_k|^2
    full: Tensor  # |g|^2


@dataclass(frozen=True)
class LagSpectrum:
    """Per-lag parts of the gradient and what follows from them.

    Dictionaries go by parameter name; those of numbers have the key "total" besides, all
    parameters taken as one vector. The numbers are float64. Where the full gradient is zero,
    `projections`, `cosine` and `relative_error` are nan; where a lag-k gradient is, its cosine.

    Attributes:
        parts: G_d, (D, *shape), lags 0 to D - 1.
        full: the exact gradient of all T lags, whatever D is.
    """

    parts: dict[str, Tensor]
    full: dict[str, Tensor]

    @cached_property
    def norms(self) -> dict[str, Tensor]:
        """|G_d|, (D,)."""
        return {name: s.part.sqrt() for name, s in self._squares.items()}

    @cached_property
    def projections(self) -> dict[str, Tensor]:
        """`<G_d, g> / |g|^2`, (D,): signed shares of g that sum to 1 over T lags."""
        return {name: _ratio(s.along, s.full) for name, s in self._squares.items()}

    @cached_property
    def cosine(self) -> dict[str, Tensor]:
        """Cosine of the lag-k gradient and the full one, (D,), entry k - 1 for lag k."""
        squares = self._squares.items()
        return {n: _ratio(s.along.cumsum(0), (s.truncated * s.full).sqrt()) for n, s in squares}

    @cached_property
    def relative_error(self) -> dict[str, Tensor]:
        """|g_k - g| / |g|, (D,), entry k - 1 for lag k."""
        return {name: _ratio(s.missing, s.full).sqrt() for name, s in self._squares.items()}

    def effective_lag(self, share: float, name: str = TOTAL) -> int | None:
        """Find the smallest k whose lags 0 to k - 1 hold a share of all lags' norms.

        Args:
            share: above 0 and at most 1, of sum_d |G_d|.
            name: of a parameter, or "total".

        Returns:
            k from 1 to D; None where every part is zero.
        """
        check("share", share, Annotated[float, Gt(0), Le(1)], {})
        held = self.norms[name].cumsum(0)
        reached = (held >= share * held[-1]) & (held > 0)
        return int(reached.nonzero()[0]) + 1 if reached.any() else None

    def smallest_k(self, relative_bias: float, name: str = TOTAL) -> int | None:
        """Find the smallest k from which on the lag-k gradient's relative error stays small.

        Args:
            relative_bias: the most that |g_k - g| / |g| may be.
            name: of a parameter, or "total".

        Returns:
            k from 1 to D; None where even lag D is worse, or the full gradient is zero.
        """
        check("relative_bias", relative_bias, Annotated[float, Ge(0)], {})
        error = self.relative_error[name]
        worse = (~(error <= relative_bias)).nonzero()
        k = int(worse[-1]) + 2 if len(worse) else 1
        return k if k <= len(error) else None

    @cached_property
    def _squares(self) -> dict[str, _Squares]:
        squares = {name: _measure(G, self.full[name]) for name, G in self.parts.items()}
        both = zip(*squares.values(), strict=True)
        return squares | {TOTAL: _Squares(*(torch.stack(s).sum(0) for s in both))}


def lag_spectrum(
    rnn: RecurrentNet,
    input: Tensor,
    loss: Loss,
    hx: Tensor | None = None,
    *,
    max_lag: int | None = None,
) -> LagSpectrum:
    """Split the gradient of every parameter by lag.

    Cost: D lags of 4 L N H (H + I) flops where every step has a loss, L being 1 where only the
    last has; space D times the parameters.

    Args:
        rnn: the network, any number of layers; frozen parameters count too.
        input: (T, N, I), time first.
        loss: maps the last layer's states (T, N, H) to a scalar.
        hx: state before the first step, (num_layers, N, H); zeros by default.
        max_lag: the largest truncation lag k to know of, hence D = min(max_lag, T), lags 0 to
            D - 1; T by default.

    Returns:
        The parts (1), the exact gradient, and methods for what follows from them.

    Raises:
        ConfigError: where `max_lag` is not 1 or more.
        ValueError: where `input` or `hx` has the wrong shape.

    Examples:
        >>> import torch
        >>> from bptt_lab import VanillaRNN
        >>> rnn = VanillaRNN(2, 3)
        >>> spectrum = lag_spectrum(rnn, torch.randn(9, 4, 2), lambda output: output[-1].sum())
        >>> spectrum.parts["weight_hh_l0"].shape, spectrum.norms["total"].shape
        (torch.Size([9, 3, 3]), torch.Size([9]))
    """
    check("max_lag", max_lag, Annotated[int | None, Ge(1)], {})
    run = linearise(rnn, input, hx)
    q_LNH = immediate_credit(run, loss)
    num_lags = min(max_lag or len(input), len(input))
    stack = Stack(run.layers, run.cell, None, set(WEIGHT_GRADIENTS), q_LNH)
    full = {
        name: getattr(swept, gradient)
        for names, swept in zip(parameter_names(rnn), stack.sweep(), strict=True)
        for name, gradient in zip(names, WEIGHT_GRADIENTS, strict=False)
    }
    parts = {name: g.new_zeros(num_lags, *g.shape) for name, g in full.items()}
    by_layer = [[parts[name] for name in names] for names in parameter_names(rnn)]
    _fill(by_layer, run, q_LNH, num_lags)
    return LagSpectrum(parts, full)


def _fill(parts: list[list[Tensor]], run: Linearised, q_LNH: Tensor, num_lags: int) -> None:
    """Eq. (3) for all loss steps side by side, and Eq. (1): one product a lag and matrix."""
    own_LNH, reached = reach(q_LNH, num_lags)
    # Products of numbers that have lost their precision to underflow take a hundred times longer.
    floor = torch.finfo(q_LNH.dtype).tiny
    # What enters from outside: the loss, at the last layer.
    credit = [torch.zeros_like(own_LNH) for _ in parts[1:]] + [own_LNH]
    delta = list(credit)
    for lag, (steps, gone) in enumerate(reached):
        for i in reversed(range(len(parts))):
            layer, c_LNH = run.layers[i], credit[i]
            if lag > 0:
                # J^T of credit whose delta is known.
                older, c_LNH = c_LNH[gone:], delta[i][gone:] @ layer.weights.hh
                if run.cell.leak != 1:
                    c_LNH.add_(older, alpha=1 - run.cell.leak)
            if i + 1 < len(parts):
                c_LNH = c_LNH + delta[i + 1] @ run.layers[i + 1].weights.ih
            credit[i] = c_LNH
            delta[i] = hardshrink(run.slopes[i][steps] * c_LNH, floor)
            rows = delta[i].flatten(0, 1)
            torch.mm(rows.t(), layer.input[steps].flatten(0, 1), out=parts[i][0][lag])
            torch.mm(rows.t(), layer.states[steps].flatten(0, 1), out=parts[i][1][lag])
            for bias in parts[i][2:]:
                torch.sum(rows, 0, out=bias[lag])


def _measure(parts: Tensor, full: Tensor) -> _Squares:
    """Add the parts up lag by lag, in float64: one pass over memory, no second copy of it."""
    g, truncated = full.flatten().double(), torch.zeros_like(full, dtype=torch.float64).flatten()
    rows = []
    for G in parts.flatten(1):
        part = G.double()
        truncated += part
        missing = g - truncated
        rows.append((part @ part, part @ g, truncated @ truncated, missing @ missing))
    part, along, short, missed = (torch.stack(column) for column in zip(*rows, strict=True))
    return _Squares(part, along, short, missed, g @ g)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, nan where the denominator is 0."""
    return torch.where(denominator == 0, torch.nan, numerator / denominator)
