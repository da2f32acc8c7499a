"""The formula, step by step: forward values, immediate credit, Jacobians, every term of dE/dW.

    (1) a_t = U x_t + W h_{t-1},  h_t = tanh(a_t),  z_t = V h_t,  ybar_t = softmax(z_t)
    (2) e_t = dE_t/dybar_t = 2 (ybar_t - d_t)
    (3) g_t = dE_t/dz_t = ybar_t * (e_t - sum(e_t * ybar_t))
    (4) q_t = dE_t/dh_t = V^T g_t
    (5) J_t = dh_t/dh_{t-1} = diag(phi'(a_t)) W,  phi'(a_t) = 1 - h_t^2
    (6) dE_t/dW = sum over s of q_t J_t J_{t-1} ... J_{s+1} Mbar_s
    (7) r Mbar_s = outer(phi'(a_s) * r, h_{s-1})    for any row r, since h_{s-1} is held fixed
    (8) c_t = q_t + J_{t+1}^T c_{t+1},  delta_t = phi'(a_t) * c_t,
        dE/dW = sum over t of outer(delta_t, h_{t-1})

Eq. (6) and (8) are two ways to the same sum. Steps count from 1 here, as in the formula: row 0 of
the states is h_0, row 0 of everything else is not used.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bptt_lab.commands.explain.example import HIDDEN, Example


class Derivation(NamedTuple):
    """Forward values and what one step alone contributes; (T + 1, 2) unless said otherwise."""

    a: Tensor
    h: Tensor
    z: Tensor
    ybar: Tensor
    E: Tensor  # (T + 1)
    e: Tensor
    g: Tensor
    q: Tensor
    slope: Tensor  # phi'(a_t)
    J: Tensor  # (T + 1, 2, 2)


class Term(NamedTuple):
    """One path of credit: from the loss at t to the use of W at s."""

    t: int
    s: int
    row: Tensor  # q_t J_t ... J_{s+1}, (2)
    scaled: Tensor  # phi'(a_s) * row, (2)
    value: Tensor  # the term, (2, 2)

    @property
    def lag(self) -> int:
        """How many steps back, t - s."""
        return self.t - self.s


class Adjoint(NamedTuple):
    """Eq. (8)'s credit and delta, (T + 1, 2), and the gradient at its end, (2, 2)."""

    c: Tensor
    delta: Tensor
    gradient: Tensor


def derive(example: Example) -> Derivation:
    """Work out Eq. (1) to (5) at every step."""
    T = example.num_steps
    a, h, z, ybar, e, g, q, slope = (example.W.new_zeros(T + 1, HIDDEN) for _ in range(8))
    E, J = example.W.new_zeros(T + 1), example.W.new_zeros(T + 1, HIDDEN, HIDDEN)
    h[0] = example.h_0
    for t in range(1, T + 1):
        x_t, d_t = example.x[t - 1], example.d[t - 1]
        a[t] = example.U @ x_t + example.W @ h[t - 1]  # Eq. (1)
        h[t] = torch.tanh(a[t])
        z[t] = example.V @ h[t]
        ybar[t] = torch.exp(z[t]) / torch.exp(z[t]).sum()
        E[t] = (d_t - ybar[t]).square().sum()
        e[t] = 2 * (ybar[t] - d_t)  # Eq. (2)
        g[t] = ybar[t] * (e[t] - (e[t] * ybar[t]).sum())  # Eq. (3)
        q[t] = example.V.t() @ g[t]  # Eq. (4)
        slope[t] = 1 - h[t].square()
        J[t] = torch.diag(slope[t]) @ example.W  # Eq. (5)
    return Derivation(a, h, z, ybar, E, e, g, q, slope, J)


def product(derivation: Derivation, t: int, s: int) -> Tensor:
    """Return J_t J_{t-1} ... J_{s+1}, (2, 2); the identity where s is t."""
    result = torch.eye(HIDDEN, dtype=derivation.J.dtype)
    for u in range(t, s, -1):
        result = result @ derivation.J[u]
    return result


def terms(derivation: Derivation, losses: Sequence[int]) -> list[Term]:
    """Return every term of Eq. (6) of the losses at some steps t, the shortest lag first."""
    result = []
    for t in losses:
        for s in range(t, 0, -1):
            row = derivation.q[t] @ product(derivation, t, s)
            scaled = derivation.slope[s] * row
            value = torch.outer(scaled, derivation.h[s - 1])  # Eq. (7)
            result.append(Term(t, s, row, scaled, value))
    return result


def total(terms: Sequence[Term]) -> Tensor:
    """Return the sum of terms, (2, 2)."""
    values = [torch.zeros(HIDDEN, HIDDEN).double(), *(term.value for term in terms)]
    return torch.stack(values).sum(0)


def adjoint(derivation: Derivation, losses: Sequence[int]) -> Adjoint:
    """Work out Eq. (8), from the last step to the first."""
    c, delta = torch.zeros_like(derivation.h), torch.zeros_like(derivation.h)
    gradient = torch.zeros_like(derivation.J[0])
    for t in range(len(derivation.h) - 1, 0, -1):
        if t in losses:
            c[t] += derivation.q[t]
        if t + 1 < len(derivation.h):
            c[t] += derivation.J[t + 1].t() @ c[t + 1]
        delta[t] = derivation.slope[t] * c[t]
        gradient += torch.outer(delta[t], derivation.h[t - 1])
    return Adjoint(c, delta, gradient)
