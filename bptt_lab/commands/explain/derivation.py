"""The formula, step by step, worked out and written down: every term of dE/dW.

    (1) a_t = U x_t + W h_{t-1},  h_t = tanh(a_t),  z_t = V h_t,  ybar_t = softmax(z_t)
    (2) e_t = dE_t/dybar_t = 2 (ybar_t - d_t)
    (3) g_t = dE_t/dz_t = ybar_t * (e_t - sum(e_t * ybar_t))
    (4) q_t = dE_t/dh_t = V^T g_t
    (5) J_t = dh_t/dh_{t-1} = diag(phi'(a_t)) W,  phi'(a_t) = 1 - h_t^2
    (6) dE_t/dW = sum over s of q_t J_t J_{t-1} ... J_{s+1} Mbar_s
    (7) r Mbar_s = outer(phi'(a_s) * r, h_{s-1})    for any row r, since h_{s-1} is held fixed
    (8) c_t = q_t + J_{t+1}^T c_{t+1},  delta_t = phi'(a_t) * c_t,
        dE/dW = sum over t of outer(delta_t, h_{t-1})

Eq. (6) and (8) are two ways to the same sum. Steps count from 1, as in the formula.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bptt_lab.commands.explain.example import (
    Example,
    StrategyGradient,
    finite_differences,
    gradient,
)
from bptt_lab.commands.explain.text import FORMULA, Text
from bptt_lab.gradients.autograd import Autograd

INTRODUCTION = """h_t = tanh(U x_t + W h_{t-1}), ybar_t = softmax(V h_t), and E_t is the sum of
(d_t - ybar_t)^2 over the classes. Two hidden units, one input, two classes, one sequence, no
biases; U is the network's weight_ih, W its weight_hh. Steps count from 1. Vectors are written as
rows; * multiplies entry by entry; outer(u, v) is the matrix of all u_i v_j. Every number is
rounded when printed, never before."""


class Term(NamedTuple):
    """One path of credit: from the loss at t to the use of W at s."""

    t: int
    s: int
    value: Tensor  # (2, 2)

    @property
    def lag(self) -> int:
        """How many steps back, t - s."""
        return self.t - self.s

    @property
    def name(self) -> str:
        """The term as in Eq. (6): q_t J_t ... J_{s+1} Mbar_s."""
        return " ".join([f"q_{self.t}", *_factors(self.t, self.s), f"Mbar_{self.s}"])


class Derivation:
    """The gradient of the losses at some steps t, and in `text` every number on the way to it.

    Attributes:
        loss: "E_3", or "E" for the sum of several.
        terms: of Eq. (6), the shortest lag of each loss first.
        total: their sum, (2, 2).
        by_adjoint: the same sum by Eq. (8), (2, 2).
    """

    def __init__(self, example: Example, at: Sequence[int], digits: int = 5) -> None:
        self.example, self.at, self.text = example, at, Text(digits)
        self.steps = range(1, example.num_steps + 1)
        self.loss = f"E_{example.num_steps}" if [*at] == [example.num_steps] else "E"
        title = f"Backpropagation through time, T = {example.num_steps}"
        self.text.lines += [f"{title}: every term of d{self.loss}/dW", ""]
        self.text.prose(INTRODUCTION)
        self._show_given()
        self.h, ybar = self._forward()
        self.q = self._immediate_credit(ybar)
        self.slope, self.J = self._jacobians()
        self.terms = self._terms()
        self.total = total(self.terms)
        self.text.lines.append("")
        count = len(self.terms)
        self.text.show(f"d{self.loss}/dW, the sum of all {count} terms", self.total)
        self.by_adjoint = self._adjoint()

    def _show_given(self) -> None:
        show, example = self.text.show, self.example
        self.text.heading("1. What is given")
        show("U = W_ih, written as a row", example.U[:, 0])
        show("W = W_hh", example.W)
        show("V, the readout", example.V)
        show("h_0, not 0, so that no term vanishes", example.h_0)
        for t in self.steps:
            show(f"x_{t}", example.x[t - 1, 0])
            show(f"d_{t}, the class wanted", example.d[t - 1])

    def _forward(self) -> tuple[Mapping[int, Tensor], Mapping[int, Tensor]]:
        """Eq. (1): h_t and ybar_t, (2), by step."""
        show, (U, W, V, x, d, h_0) = self.text.show, self.example
        h, ybar = {0: h_0}, {}
        self.text.heading("2. Forward")
        for t in self.steps:
            self.text.lines += [""] * (t > 1)
            a_t = show(f"a_{t} = U x_{t} + W h_{t - 1}", U @ x[t - 1] + W @ h[t - 1])
            h[t] = show(f"h_{t} = tanh(a_{t})", torch.tanh(a_t))
            z_t = show(f"z_{t} = V h_{t}", V @ h[t])
            normalised = torch.exp(z_t) / torch.exp(z_t).sum()
            ybar[t] = show(f"ybar_{t} = exp(z_{t}) / sum(exp(z_{t}))", normalised)
            show(f"E_{t} = sum((d_{t} - ybar_{t})^2)", (d[t - 1] - ybar[t]).square().sum())
        return h, ybar

    def _immediate_credit(self, ybar: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        """Eq. (2) to (4): q_t, (2), of the steps whose loss counts."""
        show, q = self.text.show, {}
        self.text.heading("3. Immediate credit q_t = dE_t/dh_t")
        self.text.prose(
            "What the loss of a step says of the state of the same step, back through V."
        )
        for t in self.at:
            e_t = 2 * (ybar[t] - self.example.d[t - 1])
            show(f"e_{t} = dE_{t}/dybar_{t} = 2 (ybar_{t} - d_{t})", e_t)
            g_t = ybar[t] * (e_t - (e_t * ybar[t]).sum())
            show(f"g_{t} = ybar_{t} * (e_{t} - sum(e_{t} * ybar_{t}))", g_t)
            q[t] = show(f"q_{t} = V^T g_{t}", self.example.V.t() @ g_t)
        return q

    def _jacobians(self) -> tuple[Mapping[int, Tensor], Mapping[int, Tensor]]:
        """Eq. (5): phi'(a_t), (2), and J_t, (2, 2), by step."""
        show = self.text.show
        slope: dict[int, Tensor] = {}
        J: dict[int, Tensor] = {}
        self.text.heading("4. Recurrent Jacobians J_t = dh_t/dh_{t-1}, and their products")
        for t in self.steps:
            slope[t] = show(f"phi'(a_{t}) = 1 - h_{t}^2", 1 - self.h[t].square())
            if t > 1:
                J_t = torch.diag(slope[t]) @ self.example.W
                J[t] = show(f"J_{t} = diag(phi'(a_{t})) W", J_t)
        for t in self.at:
            product = torch.eye(2).double()
            for s in range(t - 1, 0, -1):
                product = product @ J[s + 1]
                if s < t - 1:
                    show(" ".join(_factors(t, s)), product)
        return slope, J

    def _terms(self) -> list[Term]:
        """Eq. (6) and (7)."""
        show, terms = self.text.show, []
        self.text.heading(f"5. Every term of d{self.loss}/dW")
        self.text.prose(
            """dE_t/dW = sum over s of q_t J_t ... J_{s+1} Mbar_s, where Mbar_s is dh_s/dW with
            h_{s-1} held fixed: for any row r, r Mbar_s = outer(phi'(a_s) * r, h_{s-1}). The lag
            of a term is t - s."""
        )
        for t in self.at:
            row = self.q[t]
            for s in range(t, 0, -1):
                row = row if s == t else row @ self.J[s + 1]
                scaled = self.slope[s] * row
                term = Term(t, s, torch.outer(scaled, self.h[s - 1]))
                self.text.lines += ["", f"lag {term.lag}: loss at t = {t}, W used at s = {s}"]
                show(" ".join([f"r = q_{t}", *_factors(t, s)]), row)
                show(f"phi'(a_{s}) * r", scaled)
                show(term.name, term.value)
                show(f"|{term.name}|", term.value.norm())
                terms.append(term)
        return terms

    def _adjoint(self) -> Tensor:
        """Eq. (8), from the last step to the first."""
        show, T = self.text.show, self.example.num_steps
        heading = "6. The same sum by the adjoint recursion, from the last step to the first"
        self.text.heading(heading)
        if len(self.at) == 1:
            self.text.prose("With a single loss, delta_s is the row phi'(a_s) * r of section 5.")
        c_t, gradient = torch.zeros_like(self.h[0]), torch.zeros_like(self.example.W)
        for t in reversed(self.steps):
            handed = self.J[t + 1].t() @ c_t if t < T else c_t
            parts = [f"q_{t}"] * (t in self.at) + [f"J_{t + 1}^T c_{t + 1}"] * (t < T)
            c_t = show(f"c_{t} = {' + '.join(parts)}", handed + self.q.get(t, 0))
            delta_t = show(f"delta_{t} = phi'(a_{t}) * c_{t}", self.slope[t] * c_t)
            gradient = gradient + torch.outer(delta_t, self.h[t - 1])
        return show(f"d{self.loss}/dW = sum of outer(delta_t, h_{{t-1}})", gradient)

    def compare(self) -> None:
        """Write what four ways to the gradient say."""
        self.text.heading("7. Four answers")
        right = gradient(self.example, Autograd(), self.at)
        answers = {
            "sum of terms": self.total,
            "adjoint recursion": self.by_adjoint,
            "torch's autograd": right,
            "finite differences": finite_differences(self.example, self.at),
        }
        for name, answer in answers.items():
            self.text.show(name, answer)
        self.text.prose("Largest difference of an entry from autograd's:")
        for name, answer in answers.items():
            if answer is not right:
                apart = float((answer - right).abs().max())
                self.text.lines.append(f"  {name}".ljust(FORMULA) + f"  {apart:.1e}")

    def show_strategy(self, name: str, found: StrategyGradient) -> None:
        """Write what a strategy keeps."""
        show = self.text.show
        self.text.heading(f"8. What {name} keeps")
        if found.mask is None:
            no_mask = "No fixed mask describes this strategy: it does not choose among the terms."
            self.text.prose(no_mask)
        else:
            self._show_mask(found.mask)
        show(f"d{self.loss}/dW that it leaves", found.gradient)
        show(f"d{self.loss}/dW, full", self.total)
        show("cosine of the two", found.cosine)
        show("|difference| / |full|", found.relative_error)

    def _show_mask(self, mask: Tensor) -> None:
        says = "= 1 where the loss at t reaches the use of W at s:"
        if mask.is_floating_point():
            says = "multiplies the term of the loss at t and the use of W at s:"
        self.text.prose(f"M[t, s] {says}")
        self.text.lines.append("          " + "  ".join(f"s={s}" for s in self.steps))
        for t in self.steps:
            cells = (f"{weight(mask, t, s):^3.2g}" if s <= t else " . " for s in self.steps)
            self.text.lines.append(f"    t={t}   {'  '.join(cells)}".rstrip())
        kept = []
        for term in self.terms:
            share = weight(mask, term.t, term.s)
            kept += [term._replace(value=share * term.value)] * (share != 0)
            state = {0.0: "cut ", 1.0: "kept"}.get(share, f"{share:.2f}")
            self.text.show(f"{state}  lag {term.lag}  |{term.name}|", term.value.norm())
        self.text.show(f"the sum of the {len(kept)} kept", total(kept))


def weight(mask: Tensor, t: int, s: int) -> float:
    """Return M[t, s]."""
    return float(mask[t - 1, s - 1])


def total(terms: Sequence[Term]) -> Tensor:
    """Return the sum of terms, (2, 2)."""
    return sum((term.value for term in terms), torch.zeros(2, 2).double())


def _factors(t: int, s: int) -> list[str]:
    """Name the factors of J_t J_{t-1} ... J_{s+1}; none where s is t."""
    return [f"J_{u}" for u in range(t, s, -1)]
