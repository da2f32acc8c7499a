"""The whole account as text: each number beside its formula, in the order of a calculation."""

from __future__ import annotations

from collections.abc import Sequence

from bptt_lab.commands.explain.account import Account, Adjoint, Term, adjoint, product, terms, total
from bptt_lab.commands.explain.account import account as work_out
from bptt_lab.commands.explain.example import Example
from bptt_lab.commands.explain.sheet import Sheet
from bptt_lab.commands.explain.verdict import Verdict, autograd, finite_differences

INTRODUCTION = """h_t = tanh(U x_t + W h_{t-1}), ybar_t = softmax(V h_t), and E_t is the sum of
(d_t - ybar_t)^2 over the classes. Two hidden units, one input, two classes, one sequence, no
biases; U is the network's weight_ih, W its weight_hh. Steps count from 1. Vectors are written as
rows; * multiplies entry by entry; outer(u, v) is the matrix of all u_i v_j. Every number is
rounded when printed, never before."""


def write(example: Example, at: Sequence[int], name: str, verdict: Verdict, digits: int = 5) -> str:
    """Return the text.

    Args:
        example: the numbers given.
        at: the steps t, from 1, whose losses count.
        name: how to call the strategy.
        verdict: what it makes of the example.
        digits: decimals of every number.
    """
    sheet = Sheet(digits)
    account, T = work_out(example), example.num_steps
    every = terms(account, at)
    back = adjoint(account, at)
    loss = f"E_{T}" if list(at) == [T] else "E"
    sheet.lines.append(f"Backpropagation through time, T = {T}: every term of d{loss}/dW")
    sheet.blank()
    sheet.prose(INTRODUCTION)
    _given(sheet, example)
    _forward(sheet, account, T)
    _credit(sheet, account, at)
    _jacobians(sheet, account, at)
    _terms(sheet, every, at, loss)
    _adjoint(sheet, back, at, loss)
    _compare(sheet, example, at, every, back)
    _strategy(sheet, every, name, verdict, loss, T)
    return str(sheet)


def _given(sheet: Sheet, example: Example) -> None:
    sheet.heading("1. What is given")
    sheet.show("U = W_ih, written as a row", example.U[:, 0])
    sheet.show("W = W_hh", example.W)
    sheet.show("V, the readout", example.V)
    sheet.show("h_0, not 0, so that no term vanishes", example.h_0)
    for t, (x_t, d_t) in enumerate(zip(example.x, example.d, strict=True), 1):
        sheet.show(f"x_{t}", x_t[0])
        sheet.show(f"d_{t}, the class wanted", d_t)


def _forward(sheet: Sheet, account: Account, T: int) -> None:
    sheet.heading("2. Forward")
    for t in range(1, T + 1):
        sheet.show(f"a_{t} = U x_{t} + W h_{t - 1}", account.a[t])
        sheet.show(f"h_{t} = tanh(a_{t})", account.h[t])
        sheet.show(f"z_{t} = V h_{t}", account.z[t])
        sheet.show(f"ybar_{t} = exp(z_{t}) / sum(exp(z_{t}))", account.ybar[t])
        sheet.show(f"E_{t} = sum((d_{t} - ybar_{t})^2)", account.E[t])
        if t < T:
            sheet.blank()


def _credit(sheet: Sheet, account: Account, at: Sequence[int]) -> None:
    sheet.heading("3. Immediate credit q_t = dE_t/dh_t")
    sheet.prose("What the loss of a step says of the state of the same step, back through V.")
    for t in at:
        sheet.show(f"e_{t} = dE_{t}/dybar_{t} = 2 (ybar_{t} - d_{t})", account.e[t])
        sheet.show(f"g_{t} = ybar_{t} * (e_{t} - sum(e_{t} * ybar_{t}))", account.g[t])
        sheet.show(f"q_{t} = V^T g_{t}", account.q[t])


def _jacobians(sheet: Sheet, account: Account, at: Sequence[int]) -> None:
    sheet.heading("4. Recurrent Jacobians J_t = dh_t/dh_{t-1}, and their products")
    for t in range(1, max(at) + 1):
        sheet.show(f"phi'(a_{t}) = 1 - h_{t}^2", account.slope[t])
        if t > 1:
            sheet.show(f"J_{t} = diag(phi'(a_{t})) W", account.J[t])
    for t in at:
        for s in range(t - 2, 0, -1):
            sheet.show(_product(t, s), product(account, t, s))


def _product(t: int, s: int) -> str:
    """Name J_t J_{t-1} ... J_{s+1}; nothing where s is t."""
    return " ".join(f"J_{u}" for u in range(t, s, -1))


def path(term: Term) -> str:
    """Name a term: q_t J_t ... J_{s+1} Mbar_s."""
    return " ".join(filter(None, (f"q_{term.t}", _product(term.t, term.s), f"Mbar_{term.s}")))


def _terms(sheet: Sheet, every: Sequence[Term], at: Sequence[int], loss: str) -> None:
    sheet.heading(f"5. Every term of d{loss}/dW")
    sheet.prose(
        """dE_t/dW = sum over s of q_t J_t ... J_{s+1} Mbar_s, where Mbar_s is dh_s/dW with
        h_{s-1} held fixed: for any row r, r Mbar_s = outer(phi'(a_s) * r, h_{s-1}). The lag of a
        term is t - s."""
    )
    for term in every:
        t, s = term.t, term.s
        sheet.blank()
        sheet.lines.append(f"lag {term.lag}: loss at t = {t}, W used at s = {s}")
        row = f"r = q_{t} {_product(t, s)}".rstrip()
        sheet.show(row, term.row)
        sheet.show(f"phi'(a_{s}) * r", term.scaled)
        sheet.show(path(term), term.value)
        sheet.show(f"|{path(term)}|", term.value.norm())
    sheet.blank()
    sheet.show(f"d{loss}/dW, the sum of all {len(every)} terms", total(every))


def _adjoint(sheet: Sheet, back: Adjoint, at: Sequence[int], loss: str) -> None:
    sheet.heading("6. The same sum by the adjoint recursion, from the last step to the first")
    T = len(back.c) - 1
    if len(at) == 1:
        sheet.prose("With a single loss, delta_s is the row phi'(a_s) * r of section 5.")
    for t in range(T, 0, -1):
        parts = [f"q_{t}"] * (t in at) + [f"J_{t + 1}^T c_{t + 1}"] * (t < T)
        sheet.show(f"c_{t} = {' + '.join(parts)}", back.c[t])
        sheet.show(f"delta_{t} = phi'(a_{t}) * c_{t}", back.delta[t])
    sheet.show(f"d{loss}/dW = sum of outer(delta_t, h_{{t-1}})", back.gradient)


def _compare(
    sheet: Sheet, example: Example, at: Sequence[int], every: Sequence[Term], back: Adjoint
) -> None:
    sheet.heading("7. Four answers")
    automatic = autograd(example, at)
    finite = finite_differences(example, at)
    sheet.show("sum of terms", total(every))
    sheet.show("adjoint recursion", back.gradient)
    sheet.show("torch's autograd", automatic)
    sheet.show("finite differences", finite)
    sheet.prose("Largest difference of an entry from autograd's:")
    sheet.tiny("sum of terms", float((total(every) - automatic).abs().max()))
    sheet.tiny("adjoint recursion", float((back.gradient - automatic).abs().max()))
    sheet.tiny("finite differences", float((finite - automatic).abs().max()))


def _strategy(
    sheet: Sheet, every: Sequence[Term], name: str, verdict: Verdict, loss: str, T: int
) -> None:
    sheet.heading(f"8. What {name} keeps")
    if verdict.mask is None:
        sheet.prose("No fixed mask describes this strategy: it does not choose among the terms.")
    else:
        _mask(sheet, every, verdict, T)
    sheet.show(f"d{loss}/dW that it leaves", verdict.gradient)
    sheet.show(f"d{loss}/dW, full", total(every))
    sheet.show("cosine of the two", verdict.cosine)
    sheet.show("|difference| / |full|", verdict.relative_error)


def _mask(sheet: Sheet, every: Sequence[Term], verdict: Verdict, T: int) -> None:
    assert verdict.mask is not None
    mask = verdict.mask
    sheet.prose("M[t, s] = 1 where the loss at t reaches the use of W at s:")
    sheet.lines.append("          " + "  ".join(f"s={s}" for s in range(1, T + 1)))
    for t in range(1, T + 1):
        cells = (f" {int(mask[t - 1, s - 1])} " if s <= t else " . " for s in range(1, T + 1))
        sheet.lines.append(f"    t={t}   {'  '.join(cells)}".rstrip())
    kept = [term for term in every if mask[term.t - 1, term.s - 1]]
    for term in every:
        state = "kept" if mask[term.t - 1, term.s - 1] else "cut"
        sheet.show(f"{state:4}  lag {term.lag}  |{path(term)}|", term.value.norm())
    sheet.show(f"the sum of the {len(kept)} kept", total(kept))
