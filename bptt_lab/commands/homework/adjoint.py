"""Exercise 2: the adjoint sweep.

    (1) c_t = q_t + W_hh^T (phi'(a_{t+1}) * c_{t+1}),  delta_t = phi'(a_t) * c_t

A q that is 0 but at t gives what the loss at t sends to each step: a term. The delta is compared
with the answer's own credit, so that a wrong credit costs its points once.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bptt_lab.commands.homework import batch, words
from bptt_lab.commands.homework.draws import Draws, only
from bptt_lab.commands.homework.edits import compare
from bptt_lab.commands.homework.exercise import Answers, Call, Exercise, Part
from bptt_lab.commands.homework.terms import Judge, Measured
from bptt_lab.commands.homework.words import Array

SETTINGS = ((4, 5), (3, 7), (4, 3))  # T and H of the calls that measure terms


Mix = Callable[[Array], Array]
# Mistakes as data: what somebody makes of the sequences in what is carried back, (N, H).
MIXES: Mapping[str, Mix] = {
    "what is carried back is averaged over the sequences": lambda back: back.mean(0),
    "what is carried back is summed over the sequences": lambda back: back.sum(0),
    "what is carried back is that of the first sequence": lambda back: back[0],
}


def right(q: Array, h: Array, weight_hh: Array, mix: Mix = lambda back: back) -> dict[str, Array]:
    """Credit and delta by Eq. (1), or with one of MIXES."""
    credit = q.copy()
    slope = 1 - h**2
    for t in reversed(range(len(q) - 1)):
        credit[t] += mix((slope[t + 1] * credit[t + 1]) @ weight_hh)
    return {"credit": credit, "delta": slope * credit}


def calls() -> dict[str, Call]:
    """Make the calls."""
    found = {}
    for number, (T, H) in enumerate(SETTINGS):
        q, h, weight_hh = _draw(number, T, 1, H)
        for t in range(T + 1):
            found[f"terms {number} {t}"] = _call(only(q, t), h, weight_hh)
    q, h, weight_hh = _draw(8, 4, 3, 5)
    for n in range(3):
        found[f"single {n}"] = _call(q[:, n : n + 1], h[:, n : n + 1], weight_hh)
    found["batch"] = _call(q, h, weight_hh)
    for number, (T, N, H) in enumerate([(1, 2, 3), (6, 4, 2), (2, 2, 2), (3, 1, 1)]):
        found[f"together {number}"] = _call(*_draw(20 + number, T, N, H))
    found["again batch"] = found["batch"]
    return found


def _draw(seed: int, T: int, N: int, H: int) -> tuple[Array, Array, Array]:
    draws = Draws(200 + seed)
    return draws.vectors(T, N, H), draws.states(T, N, H), draws.weights(H, H)


def _call(q: Array, h: Array, weight_hh: Array) -> Call:
    shapes = {"credit": q.shape, "delta": q.shape}
    return Call("adjoint", {"q": q, "h": h, "weight_hh": weight_hh}, shapes)


def measured(answers: Answers, output: str) -> list[Measured]:
    """The terms of an output."""
    found = []
    for number in answers.settings():
        T, H = SETTINGS[number]
        q, h, weight_hh = _draw(number, T, 1, H)
        terms = [answers.linear(number, t, output)[:, 0] for t in range(1, T + 1)]
        states = {j + 1: h[j, 0] for j in range(T)}
        sizes = {"T": T, "N": 1, "H": H}
        found.append(Measured(sizes, states, weight_hh, q[:, 0], np.stack(terms)))
    return found


def judge(answers: Answers) -> list[Part]:
    """Judge credit by its terms, delta by the credit, sequences by one another."""
    terms, part = answers.named("terms"), answers.part
    verdicts: list[Judge] = []

    def lags(low: int, high: int) -> Sequence[str] | bool:
        if not verdicts:
            verdicts.append(Judge(measured(answers, "credit"), _all, False))
        (verdict,) = verdicts
        if verdict.misplaced:
            return [verdict.misplaced] if low < 0 else False
        if low < 0 and (found := answers.constant("credit", "q")):
            return found
        if verdict.is_right(lambda lag: low <= lag <= high):
            return True
        first = verdict.is_right(lambda lag: lag < low)
        if first and _are_swapped(answers):
            return ["credit and delta are swapped"]
        return [*verdict.values, *verdict.cut] if first else False

    def singles(output: str) -> list[str]:
        more = {name: right(*_draw(8, 4, 3, 5), mix)[output] for name, mix in MIXES.items()}
        got = answers["batch"][output]
        return batch.apart(f"{output}, N=3", got, answers.alone(output), more)

    parts = [
        part("credit: each step has its own q_t", 1, terms, lambda: lags(-9, 0)),
        part("credit: from the loss at t one step back", 3, terms, lambda: lags(1, 1)),
        part("credit: from the loss at t over several steps", 1, terms, lambda: lags(2, 9)),
        part("delta from credit", 3, terms, lambda: _delta(answers)),
        part(
            "each sequence by itself",
            1,
            answers.several,
            lambda: singles("credit") or singles("delta"),
        ),
    ]
    return [*parts, answers.together(parts, right)]


def _are_swapped(answers: Answers) -> bool:
    """Whether what is called credit is wrong, and delta of what is called delta."""
    credits, deltas = measured(answers, "credit"), measured(answers, "delta")
    if Judge(credits, _all, False).is_right():
        return False
    slopes = [np.stack([1 - c.states[s] ** 2 for s in c.steps]) for c in credits]
    return all(
        c.got.any() and words.near(c.got, slope * d.got)
        for c, d, slope in zip(credits, deltas, slopes, strict=True)
    )


def _delta(answers: Answers) -> Sequence[str] | bool:
    """Compare delta with what it is of the answer's own credit, and of the right one."""
    if found := answers.constant("delta", "q"):
        return found
    deltas, credits = measured(answers, "delta"), measured(answers, "credit")
    of_delta = Judge(deltas, _all, True)
    if of_delta.is_right():
        return True
    if _are_swapped(answers) or not any(m.got.any() for m in credits):
        return False
    if of_delta.misplaced:
        same = of_delta.misplaced == Judge(credits, _all, False).misplaced
        return False if same else [of_delta.misplaced]
    cells = [
        (f"t={t}, s={s}: delta_{s}", (words.phi(s),), d.case(t, s).on(c.got[t - 1, s - 1]))
        for d, c in zip(deltas, credits, strict=True)
        for t in d.steps
        for s in d.steps
    ]
    return compare(sorted(cells, key=lambda cell: cell[0]))


def _all(t: int, s: int, T: int, k: int) -> bool:
    return s <= t


EXERCISE = Exercise(
    "2_adjoint.py",
    "the adjoint sweep",
    "lesson 1, By hand; or run bptt-explain, which works a small network out term by term",
    calls,
    judge,
)
