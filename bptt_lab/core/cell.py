"""One layer of the recurrence: its letters, its equations, and what they give once delta is known.

    (1) a_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh
    (2) h_t = (1 - leak) h_{t-1} + leak phi(a_t)
    (3) c_t = q_t + keep_{t+1} ((1 - leak) c_{t+1} + W_hh^T delta_{t+1})    credit dE/dh_t
    (4) delta_t = leak phi'(a_t) c_t                                        dE/da_t
    (5) dE/dW_hh = sum_t delta_t h_{t-1}^T,  dE/dW_ih = sum_t delta_t x_t^T,  dE/db = sum_t delta_t,
        dE/dx_t = W_ih^T delta_t,  dE/dh_0 = (1 - leak) c_1 + W_hh^T delta_1

q_t = dE_t/dh_t is the immediate credit; keep is 1 in full BPTT and 0 where credit is cut. Suffixes
give shapes: L steps, N batch, I input, H hidden. States carry one row more than steps: row 0 is the
state before the first step. phi' is a function of phi's value. With leak 1 that is the state, and
nothing else is stored. With another leak phi's values are stored beside the states: recovered as
(h_t - (1 - leak) h_{t-1}) / leak they would lose as many digits as the leak has zeros. Sources:
Werbos (1990), "Backpropagation through time: what it does and how to do it"; Jaeger et al. (2007)
for the leak.
"""

from collections.abc import Callable, Set
from typing import NamedTuple

import torch
from torch import Tensor


class Weights(NamedTuple):
    """One layer's parameters, shaped as in torch.nn.RNN: (H, I), (H, H), (H), (H)."""

    ih: Tensor
    hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None


class Cell(NamedTuple):
    """What kind of recurrence it is: the name of phi, and the leak."""

    phi: str = "tanh"
    leak: float = 1.0


class Layer(NamedTuple):
    """One layer after its forward pass."""

    input: Tensor  # as the layer saw it, (L, N, I)
    states: Tensor  # (L + 1, N, H)
    values: Tensor  # phi(a_t), (L, N, H); states[1:] with leak 1
    weights: Weights
    dropout: Tensor | None = None  # what multiplied the layer's input, (L, N, I)

    def part(self, begin: int, end: int) -> "Layer":
        """The layer over some of its steps."""
        return Layer(
            self.input[begin:end],
            self.states[begin : end + 1],
            self.values[begin:end],
            self.weights,
            None if self.dropout is None else self.dropout[begin:end],
        )


class Swept(NamedTuple):
    """What a sweep over one layer was asked for; None where it was not."""

    delta: Tensor | None = None  # dE/da_t, (L, N, H)
    credit: Tensor | None = None  # dE/dh_t, (L, N, H)
    grad_hx: Tensor | None = None  # (N, H)
    grad_input: Tensor | None = None  # (L, N, I)
    grad_weight_ih: Tensor | None = None  # (H, I)
    grad_weight_hh: Tensor | None = None  # (H, H)
    grad_bias: Tensor | None = None  # (H), of either bias


class Nonlinearity(NamedTuple):
    """phi, its in-place form, and phi' as a function of phi's value."""

    apply: Callable[[Tensor], Tensor]
    apply_: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


NONLINEARITIES = {
    "tanh": Nonlinearity(torch.tanh, torch.tanh_, lambda y: y.square().neg_().add_(1)),
    "relu": Nonlinearity(torch.relu, torch.relu_, lambda y: (y > 0).to(y.dtype)),
    "identity": Nonlinearity(lambda a: a, lambda a: a, torch.ones_like),
    "sigmoid": Nonlinearity(torch.sigmoid, torch.sigmoid_, lambda y: y * (1 - y)),
}


def step(projected_NH: Tensor, h_tm1_NH: Tensor, weight_hh: Tensor, cell: Cell) -> Tensor:
    """One differentiable step, Eq. (1) and (2), from the input's projection W_ih x_t + b."""
    a_NH = projected_NH + h_tm1_NH @ weight_hh.t()
    y_NH = NONLINEARITIES[cell.phi].apply(a_NH)
    return y_NH if cell.leak == 1 else (1 - cell.leak) * h_tm1_NH + cell.leak * y_NH


def bias(weights: Weights) -> Tensor | None:
    """b_ih + b_hh, (H), or None for a layer without."""
    if weights.bias_ih is None or weights.bias_hh is None:
        return None
    return weights.bias_ih + weights.bias_hh


def project(input_LNI: Tensor, weights: Weights) -> Tensor:
    """The input's part of Eq. (1) for all steps at once: W_ih x_t + b_ih + b_hh, (L, N, H)."""
    return torch.nn.functional.linear(input_LNI, weights.ih, bias(weights))


def slopes(values: Tensor, cell: Cell) -> Tensor:
    """The factor leak * phi'(a_t) of Eq. (4), (L, N, H), from the values phi(a_t)."""
    slope = NONLINEARITIES[cell.phi].slope(values)
    return slope if cell.leak == 1 else slope.mul_(cell.leak)


def from_delta(delta: Tensor, credit: Tensor, layer: Layer, cell: Cell, want: Set[str]) -> Swept:
    """Eq. (5): each gradient ONE matrix product over all steps and sequences.

    Of `credit` only the first step is used; (1, N, H) will do. `want` names fields of `Swept`.
    """
    rows = delta.flatten(0, 1)
    x, h_tm1 = layer.input.flatten(0, 1), layer.states[:-1].flatten(0, 1)
    return Swept(
        delta if "delta" in want else None,
        credit if "credit" in want else None,
        torch.addmm((1 - cell.leak) * credit[0], delta[0], layer.weights.hh)
        if "grad_hx" in want
        else None,
        delta @ layer.weights.ih if "grad_input" in want else None,
        rows.t() @ x if "grad_weight_ih" in want else None,
        rows.t() @ h_tm1 if "grad_weight_hh" in want else None,
        rows.sum(0) if "grad_bias" in want else None,
    )
