"""The whole derivation as text: each number beside its formula, in the order of a calculation."""

import textwrap
from collections.abc import Sequence

from torch import Tensor

from bptt_lab.commands.explain import derivation as by_hand
from bptt_lab.commands.explain.derivation import Adjoint, Derivation, Term, total
from bptt_lab.commands.explain.example import (
    Example,
    StrategyGradient,
    finite_differences,
    gradient,
)
from bptt_lab.gradients.autograd import Autograd

INTRODUCTION = """h_t = tanh(U x_t + W h_{t-1}), ybar_t = softmax(V h_t), and E_t is the sum of
(d_t - ybar_t)^2 over the classes. Two hidden units, one input, two classes, one sequence, no
biases; U is the network's weight_ih, W its weight_hh. Steps count from 1. Vectors are written as
rows; * multiplies entry by entry; outer(u, v) is the matrix of all u_i v_j. Every number is
rounded when printed, never before."""
FORMULA = 43  # columns for the formula, its indent included
WIDTH = 80


class Layout:
    """A text, line by line, its numbers with some digits behind the point."""

    def __init__(self, digits: int) -> None:
        self.digits = digits
        self.lines: list[str] = []

    def heading(self, text: str) -> None:
        """Start a section."""
        self.lines += ["", text, "-" * len(text)]

    def prose(self, text: str) -> None:
        """Add sentences, wrapped."""
        self.lines += textwrap.wrap(" ".join(text.split()), WIDTH)

    def show(self, formula: str, value: Tensor | float) -> None:
        """Add a formula and its value: a number, a vector (2), or a matrix (2, 2) in two lines."""
        left = f"  {formula}".ljust(FORMULA)
        if len(left) > FORMULA:
            self.lines.append(left.rstrip())
            left = " " * FORMULA
        first, *others = self._rows(value)
        self.lines.append(left + first)
        self.lines += [" " * FORMULA + row for row in others]

    def _number(self, value: float) -> str:
        """Write one number; zero has no sign."""
        text = f"{value:.{self.digits}f}"
        zero = not any(digit in text for digit in "123456789")
        return (text.lstrip("-") if zero else text).rjust(self.digits + 4)

    def _rows(self, value: Tensor | float) -> list[str]:
        if isinstance(value, float) or value.dim() == 0:
            return ["  " + self._number(float(value))]
        rows = value if value.dim() == 2 else value[None]
        return ["[ " + " ".join(self._number(float(v)) for v in row) + " ]" for row in rows]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def write(
    example: Example, at: Sequence[int], name: str, found: StrategyGradient, digits: int = 5
) -> str:
    """Return the text of the losses at some steps t, from 1, and of a strategy's gradient."""
    layout = Layout(digits)
    derivation, T = by_hand.derive(example), example.num_steps
    every = by_hand.terms(derivation, at)
    back = by_hand.adjoint(derivation, at)
    loss = f"E_{T}" if list(at) == [T] else "E"
    layout.lines.append(f"Backpropagation through time, T = {T}: every term of d{loss}/dW")
    layout.lines.append("")
    layout.prose(INTRODUCTION)
    _forward(layout, example, derivation)
    _credit(layout, derivation, at)
    _jacobians(layout, derivation, at)
    _terms(layout, every, at, loss)
    _adjoint(layout, back, at, loss)
    _compare(layout, example, at, every, back)
    _strategy(layout, every, name, found, loss, T)
    return str(layout)


def _forward(layout: Layout, example: Example, derivation: Derivation) -> None:
    layout.heading("1. What is given")
    layout.show("U = W_ih, written as a row", example.U[:, 0])
    layout.show("W = W_hh", example.W)
    layout.show("V, the readout", example.V)
    layout.show("h_0, not 0, so that no term vanishes", example.h_0)
    for t, (x_t, d_t) in enumerate(zip(example.x, example.d, strict=True), 1):
        layout.show(f"x_{t}", x_t[0])
        layout.show(f"d_{t}, the class wanted", d_t)
    layout.heading("2. Forward")
    for t in range(1, example.num_steps + 1):
        layout.lines += [""] * (t > 1)
        layout.show(f"a_{t} = U x_{t} + W h_{t - 1}", derivation.a[t])
        layout.show(f"h_{t} = tanh(a_{t})", derivation.h[t])
        layout.show(f"z_{t} = V h_{t}", derivation.z[t])
        layout.show(f"ybar_{t} = exp(z_{t}) / sum(exp(z_{t}))", derivation.ybar[t])
        layout.show(f"E_{t} = sum((d_{t} - ybar_{t})^2)", derivation.E[t])


def _credit(layout: Layout, derivation: Derivation, at: Sequence[int]) -> None:
    layout.heading("3. Immediate credit q_t = dE_t/dh_t")
    layout.prose("What the loss of a step says of the state of the same step, back through V.")
    for t in at:
        layout.show(f"e_{t} = dE_{t}/dybar_{t} = 2 (ybar_{t} - d_{t})", derivation.e[t])
        layout.show(f"g_{t} = ybar_{t} * (e_{t} - sum(e_{t} * ybar_{t}))", derivation.g[t])
        layout.show(f"q_{t} = V^T g_{t}", derivation.q[t])


def _jacobians(layout: Layout, derivation: Derivation, at: Sequence[int]) -> None:
    layout.heading("4. Recurrent Jacobians J_t = dh_t/dh_{t-1}, and their products")
    for t in range(1, max(at) + 1):
        layout.show(f"phi'(a_{t}) = 1 - h_{t}^2", derivation.slope[t])
        if t > 1:
            layout.show(f"J_{t} = diag(phi'(a_{t})) W", derivation.J[t])
    for t in at:
        for s in range(t - 2, 0, -1):
            layout.show(_product(t, s), by_hand.product(derivation, t, s))


def _product(t: int, s: int) -> str:
    """Name J_t J_{t-1} ... J_{s+1}; nothing where s is t."""
    return " ".join(f"J_{u}" for u in range(t, s, -1))


def path(term: Term) -> str:
    """Name a term: q_t J_t ... J_{s+1} Mbar_s."""
    return " ".join(filter(None, (f"q_{term.t}", _product(term.t, term.s), f"Mbar_{term.s}")))


def _terms(layout: Layout, every: Sequence[Term], at: Sequence[int], loss: str) -> None:
    layout.heading(f"5. Every term of d{loss}/dW")
    layout.prose(
        """dE_t/dW = sum over s of q_t J_t ... J_{s+1} Mbar_s, where Mbar_s is dh_s/dW with
        h_{s-1} held fixed: for any row r, r Mbar_s = outer(phi'(a_s) * r, h_{s-1}). The lag of a
        term is t - s."""
    )
    for term in every:
        t, s = term.t, term.s
        layout.lines.append("")
        layout.lines.append(f"lag {term.lag}: loss at t = {t}, W used at s = {s}")
        row = f"r = q_{t} {_product(t, s)}".rstrip()
        layout.show(row, term.row)
        layout.show(f"phi'(a_{s}) * r", term.scaled)
        layout.show(path(term), term.value)
        layout.show(f"|{path(term)}|", term.value.norm())
    layout.lines.append("")
    layout.show(f"d{loss}/dW, the sum of all {len(every)} terms", total(every))


def _adjoint(layout: Layout, back: Adjoint, at: Sequence[int], loss: str) -> None:
    layout.heading("6. The same sum by the adjoint recursion, from the last step to the first")
    T = len(back.c) - 1
    if len(at) == 1:
        layout.prose("With a single loss, delta_s is the row phi'(a_s) * r of section 5.")
    for t in range(T, 0, -1):
        parts = [f"q_{t}"] * (t in at) + [f"J_{t + 1}^T c_{t + 1}"] * (t < T)
        layout.show(f"c_{t} = {' + '.join(parts)}", back.c[t])
        layout.show(f"delta_{t} = phi'(a_{t}) * c_{t}", back.delta[t])
    layout.show(f"d{loss}/dW = sum of outer(delta_t, h_{{t-1}})", back.gradient)


def _compare(
    layout: Layout, example: Example, at: Sequence[int], every: Sequence[Term], back: Adjoint
) -> None:
    layout.heading("7. Four answers")
    automatic = "torch's autograd"
    answers = {
        "sum of terms": total(every),
        "adjoint recursion": back.gradient,
        automatic: gradient(example, Autograd(), at),
        "finite differences": finite_differences(example, at),
    }
    for name, answer in answers.items():
        layout.show(name, answer)
    right = answers.pop(automatic)
    layout.prose("Largest difference of an entry from autograd's:")
    for name, answer in answers.items():
        apart = float((answer - right).abs().max())
        layout.lines.append(f"  {name}".ljust(FORMULA) + f"  {apart:.1e}")


def _strategy(
    layout: Layout, every: Sequence[Term], name: str, found: StrategyGradient, loss: str, T: int
) -> None:
    layout.heading(f"8. What {name} keeps")
    if found.mask is None:
        layout.prose("No fixed mask describes this strategy: it does not choose among the terms.")
    else:
        _mask(layout, every, found.mask, T)
    layout.show(f"d{loss}/dW that it leaves", found.gradient)
    layout.show(f"d{loss}/dW, full", total(every))
    layout.show("cosine of the two", found.cosine)
    layout.show("|difference| / |full|", found.relative_error)


def _mask(layout: Layout, every: Sequence[Term], mask: Tensor, T: int) -> None:
    layout.prose("M[t, s] = 1 where the loss at t reaches the use of W at s:")
    layout.lines.append("          " + "  ".join(f"s={s}" for s in range(1, T + 1)))
    for t in range(1, T + 1):
        cells = (f" {int(mask[t - 1, s - 1])} " if s <= t else " . " for s in range(1, T + 1))
        layout.lines.append(f"    t={t}   {'  '.join(cells)}".rstrip())
    kept = [term for term in every if mask[term.t - 1, term.s - 1]]
    for term in every:
        state = "kept" if mask[term.t - 1, term.s - 1] else "cut"
        layout.show(f"{state:4}  lag {term.lag}  |{path(term)}|", term.value.norm())
    layout.show(f"the sum of the {len(kept)} kept", total(kept))
