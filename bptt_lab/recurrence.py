"""The recurrence and its adjoint, as pure functions of tensors.

    (1) a_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh
    (2) h_t = (1 - leak) h_{t-1} + leak phi(a_t)
    (3) c_t = q_t + (1 - leak) c_{t+1} + W_hh^T delta_{t+1}     credit dE/dh_t, from q_t = dE_t/dh_t
    (4) delta_t = leak phi'(a_t) c_t                            dE/da_t
    (5) dE/dW_hh = sum_t delta_t h_{t-1}^T,  dE/dW_ih = sum_t delta_t x_t^T,  dE/db = sum_t delta_t

Suffixes give shapes: L steps, N batch, I input, H hidden. States carry one row more than steps:
row 0 is the state before the first step. phi' is recovered from the states, so nothing but the
states is stored. Source: Werbos (1990), "Backpropagation through time: what it does and how to
do it"; Jaeger et al. (2007) for the leak.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Weights(NamedTuple):
    """One layer's parameters, shaped as in torch.nn.RNN: (H, I), (H, H), (H), (H)."""

    ih: Tensor
    hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None


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


def step(
    projected_NH: Tensor, h_tm1_NH: Tensor, weight_hh: Tensor, phi: str, leak: float
) -> Tensor:
    """One differentiable step, Eq. (1) and (2), from the input's projection W_ih x_t + b."""
    a_NH = projected_NH + h_tm1_NH @ weight_hh.t()
    y_NH = NONLINEARITIES[phi].apply(a_NH)
    return y_NH if leak == 1 else (1 - leak) * h_tm1_NH + leak * y_NH


def project(input_LNI: Tensor, weights: Weights) -> Tensor:
    """The input's part of Eq. (1) for all steps at once: W_ih x_t + b_ih + b_hh, (L, N, H)."""
    bias = None
    if weights.bias_ih is not None and weights.bias_hh is not None:
        bias = weights.bias_ih + weights.bias_hh
    return torch.nn.functional.linear(input_LNI, weights.ih, bias)


def unroll(input_LNI: Tensor, hx_NH: Tensor, weights: Weights, phi: str, leak: float) -> Tensor:
    """Run one layer over time, writing every state once.

    Returns:
        The states (L + 1, N, H), row 0 being `hx`.
    """
    num_steps, batch_size, _ = input_LNI.shape
    hidden_size, input_size = weights.ih.shape
    states = input_LNI.new_empty(num_steps + 1, batch_size, hidden_size)
    states[0] = hx_NH
    projected = states[1:].view(-1, hidden_size)
    flat = input_LNI.reshape(num_steps * batch_size, input_size)
    if weights.bias_ih is not None and weights.bias_hh is not None:
        torch.addmm(weights.bias_ih + weights.bias_hh, flat, weights.ih.t(), out=projected)
    else:
        torch.mm(flat, weights.ih.t(), out=projected)
    apply_, weight_hh_t = NONLINEARITIES[phi].apply_, weights.hh.t()
    h_NH, *rows = states.unbind(0)
    for a_NH in rows:
        apply_(a_NH.addmm_(h_NH, weight_hh_t))
        if leak != 1:
            # The product first and rounded on its own: `slopes` takes it away again exactly.
            a_NH.mul_(leak).add_(h_NH * (1 - leak))
        h_NH = a_NH
    return states


def slopes(states: Tensor, phi: str, leak: float) -> Tensor:
    """The factor leak * phi'(a_t) of Eq. (4), (L, N, H), recovered from the states by Eq. (2)."""
    if leak == 1:
        return NONLINEARITIES[phi].slope(states[1:])
    y_LNH = (states[1:] - states[:-1] * (1 - leak)) / leak
    return NONLINEARITIES[phi].slope(y_LNH).mul_(leak)


class Credit(NamedTuple):
    """What a rule assigns in one layer, for the last `len(delta)` steps; zero before them."""

    delta: Tensor  # dE/da_t, (<= L, N, H)
    first: Tensor | None  # dE/dh_1, (N, H); None where the first step gets nothing
    credit: Tensor | None = None  # dE/dh_t, as delta; only where asked for


def adjoint_sweep(
    q_LNH: Tensor,
    states: Tensor,
    weight_hh: Tensor,
    phi: str,
    leak: float,
    keep: Sequence[float] | None = None,
    record: bool = False,
) -> Credit:
    """Sweep one layer back over time, Eq. (3) and (4).

    Args:
        q_LNH: immediate credit dE_t/dh_t, (L, N, H).
        states: as `unroll` returns them, (L + 1, N, H).
        weight_hh: (H, H).
        phi: name of the nonlinearity.
        leak: leak of the recurrence.
        keep: L factors; factor t multiplies the credit that step t hands to step t - 1
            (0 cuts there, None keeps everything). Factor 0 belongs to `hx` and is not used.
        record: whether to return the credit too.
    """
    delta_LNH = slopes(states, phi, leak)
    credit_LNH = torch.empty_like(delta_LNH) if record else None
    c_NH = None
    rows, immediate = delta_LNH.unbind(0), q_LNH.unbind(0)
    for t in reversed(range(len(rows))):
        factor = 0.0 if t + 1 == len(rows) else 1.0 if keep is None else keep[t + 1]
        if c_NH is None or factor == 0:
            c_NH = immediate[t]
        elif leak == 1:
            c_NH = torch.addmm(immediate[t], rows[t + 1], weight_hh, alpha=factor)
        else:
            c_NH = torch.addmm(immediate[t], rows[t + 1], weight_hh, alpha=factor).add_(
                c_NH, alpha=factor * (1 - leak)
            )
        rows[t].mul_(c_NH)
        if credit_LNH is not None:
            credit_LNH[t] = c_NH
    return Credit(delta_LNH, c_NH, credit_LNH)


def hx_gradient(credit: Credit, num_steps: int, weight_hh: Tensor, leak: float) -> Tensor:
    """dE/dh_0 = J_1^T c_1, (N, H): the state before the first step is used at step 1."""
    if credit.first is None or len(credit.delta) < num_steps:
        return torch.zeros_like(credit.delta[0])
    return torch.addmm((1 - leak) * credit.first, credit.delta[0], weight_hh)


def input_gradient(delta: Tensor, num_steps: int, weight_ih: Tensor) -> Tensor:
    """dE/dx_t = W_ih^T delta_t, (L, N, I); zero for the steps before `delta` begins."""
    if len(delta) == num_steps:
        return delta @ weight_ih
    gradient = delta.new_zeros(num_steps, delta.shape[1], weight_ih.shape[1])
    torch.matmul(delta, weight_ih, out=gradient[num_steps - len(delta) :])
    return gradient


def weight_gradients(delta: Tensor, input_LNI: Tensor, states: Tensor) -> Weights:
    """Eq. (5): each gradient ONE matrix product over all steps and sequences."""
    num_steps = len(delta)
    delta_t = delta.flatten(0, 1).t()
    h_tm1 = states[-num_steps - 1 : -1].flatten(0, 1)
    x_t = input_LNI[-num_steps:].flatten(0, 1)
    bias = delta_t.sum(1)
    return Weights(delta_t @ x_t, delta_t @ h_tm1, bias, bias)
