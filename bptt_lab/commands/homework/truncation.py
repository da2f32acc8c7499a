"""Exercises 4 and 5: the gradient of the weights, with credit cut by chunk and by lag.

    (1) dE/dW = 1/N sum_n sum over (t, s) that are kept: outer(delta[t, s], x_s or h_{s-1})
    (2) delta[t, s] = phi'(a_s) W_hh^T phi'(a_{s+1}) ... W_hh^T phi'(a_t) q_t
    (3) chunk k keeps s <= t in the same chunk; lag k keeps 0 <= t - s < k

A q that is 0 but at t, and inputs and states that are independent, give every delta[t, s]. It is
read twice, off weight_ih and off weight_hh, and the better reading is what the rest is held to.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from bptt_lab.commands.homework import uses, weights, words
from bptt_lab.commands.homework.draws import Draws, only
from bptt_lab.commands.homework.exercise import Answers, Call, Exercise, Part
from bptt_lab.commands.homework.masks import chunk, lag
from bptt_lab.commands.homework.terms import Judge, Measured
from bptt_lab.commands.homework.uses import INPUTS_BY_K, STATES_BY_K, WINDOW_STATES, Use
from bptt_lab.commands.homework.words import Array

SETTINGS = ((5, 2), (4, 2), (5, 3), (3, 1), (7, 3), (7, 2), (6, 5))  # T and k; H is T + 1
DOUBT = (
    "what follows is read off {}, and {} says otherwise: is each delta multiplied with the right "
    "input and the right state?"
)
Keeps = Callable[[int, int, int], bool]  # of t, s and k


class Setting(NamedTuple):
    """The arguments of a call, in its order."""

    q: Array
    input: Array
    h: Array
    hx: Array
    weight_hh: Array
    k: int


def draw(seed: int, T: int, N: int, I: int, H: int, k: int) -> Setting:
    """Draw the arguments."""
    draws = Draws(400 + seed)
    q, input = draws.vectors(T, N, H), draws.vectors(T, N, I)
    return Setting(q, input, draws.states(T, N, H), draws.states(N, H), draws.weights(H, H), k)


def right(keeps: Keeps, given: Setting) -> dict[str, Array]:
    """Eq. (1), term by term."""
    T = len(given.q)
    kept = np.zeros_like(given.q)
    slope = 1 - given.h**2
    for t in range(1, T + 1):
        delta = slope[t - 1] * given.q[t - 1]
        for s in range(t, 0, -1):
            if keeps(t, s, given.k):
                kept[s - 1] += delta
            if s > 1:
                delta = slope[s - 2] * (delta @ given.weight_hh)
    return weights.right(kept, given.input, given.h, given.hx)


def calls(function: str) -> dict[str, Call]:
    """Make the calls."""
    found = {}
    for number, given in _measuring().items():
        for t in range(len(given.q) + 1):
            found[f"terms {number} {t}"] = _call(function, given._replace(q=only(given.q, t)))
    given = draw(30, 5, 3, 2, 4, 2)
    for n in range(3):
        q, input, h, hx = (a[..., n : n + 1, :] for a in given[:4])
        one = given._replace(q=q, input=input, h=h, hx=hx)
        found[f"single {n}"] = _call(function, one)
    found["batch"] = _call(function, given)
    others = [(1, 2, 3, 3, 1), (7, 4, 2, 3, 3), (4, 2, 2, 2, 9), (5, 1, 1, 4, 5), (9, 2, 3, 5, 4)]
    for number, sizes in enumerate(others):
        found[f"together {number}"] = _call(function, draw(40 + number, *sizes))
    found["again batch"] = found["batch"]
    return found


def _measuring() -> dict[int, Setting]:
    sizes = enumerate(SETTINGS)
    return {number: draw(number, T, 1, T + 2, T + 1, k) for number, (T, k) in sizes}


def _call(function: str, given: Setting) -> Call:
    I, H = given.input.shape[-1], given.h.shape[-1]
    shapes = {"weight_ih": (H, I), "weight_hh": (H, H), "bias": (H,)}
    return Call(function, given._asdict(), shapes)


class Reading:
    """The terms of an answer, read off its gradients, and the verdict on them.

    Where both are wrong the terms may be right, and what they are multiplied with wrong: that is
    tried first.

    Attributes:
        best: the verdict on the better reading, or on the right terms.
        doubt: says that the best reading may be none; or empty.
    """

    def __init__(self, answers: Answers, keeps: Keeps, step: str) -> None:
        def mask(t: int, s: int, T: int, k: int) -> bool:
            return keeps(t, s, k)

        self._answers, self._step = answers, step
        measuring = _measuring()
        self._given = {number: measuring[number] for number in answers.settings()}
        self._own = {
            output: Judge(list(self._measured(output)), mask, True, step)
            for output in ("weight_ih", "weight_hh")
        }
        read, other = sorted(self._own, key=lambda output: _faults(self._own[output]))
        self.best = self._own[read]
        self.doubt = ""
        both = zip(self.best.measured, self._own[other].measured, strict=True)
        same = all(words.near(one.got, another.got) for one, another in both)
        if self.best.is_right() or self.best.is_empty:
            return
        measured = zip(self.best.measured, self.best.rights(), strict=True)
        right = Judge([m._replace(got=got) for m, got in measured], mask, True, step)
        if self._is_made_of(right, same):
            self.best = right
        elif not same and self.best.values and not self._named(other, self.best):
            self.doubt = DOUBT.format(read, other)

    def _is_made_of(self, right: Judge, same: bool) -> bool:
        """Whether known mistakes make both weights' gradients of the right terms.

        Where both readings are the `same`, the bias's gradient must be right, too.
        """
        if not (self._named("weight_ih", right) and self._named("weight_hh", right)):
            return False
        if "" in self._named("bias", right):
            return True
        return not same and "" not in self._named("bias", self.best)

    def _named(self, output: str, judge: Judge) -> list[str]:
        """The mistakes of a table that make a gradient of a reading's terms; "" for none."""
        return uses.named(self._uses(output, judge), self._table(output, judge))

    def _table(self, output: str, judge: Judge) -> dict[str, uses.Partner]:
        table = words.by_step(weights.TABLES[output][0], self._step)
        if output == "bias":
            return table
        if output == "weight_ih":
            return {**table, **INPUTS_BY_K}
        return {**table, **STATES_BY_K, **({} if judge.cut else WINDOW_STATES)}

    def _measured(self, output: str) -> Iterator[Measured]:
        for number, given in self._given.items():
            T = len(given.q)
            use = self._use(number, output, np.zeros((T, T, T + 1)))
            by_step = dict(enumerate(np.concatenate([given.hx, given.h[:, 0]])))
            parts = use.parts()[:, :T]
            yield Measured(use.sizes, by_step, given.weight_hh, given.q[:, 0], parts)

    def _use(self, number: int, output: str, deltas: Array) -> Use:
        given = self._given[number]
        sizes = {"T": len(given.q), "N": 1, "H": given.h.shape[-1], "k": given.k}
        vectors = given.input, given.h, given.hx
        return weights.used(self._answers, number, output, sizes, vectors, deltas)

    def _uses(self, output: str, judge: Judge) -> list[Use]:
        """What the deltas of a reading are multiplied with."""
        pairs = zip(self._given, judge.measured, strict=True)
        return [self._use(number, output, measured.got) for number, measured in pairs]

    def weight(self, output: str) -> list[str] | bool:
        """What is wrong with a weight's gradient, given the terms; false where that is said."""
        if constant := self._answers.constant(output, "q"):
            return constant
        own = self._own[output]
        if own.is_right() or self.best.is_empty:
            return own.is_right()
        if self.doubt and own is not self.best:
            return False
        _, letter = weights.TABLES[output]
        table = self._table(output, self.best)
        found = uses.judge(output, self._uses(output, self.best), table, letter, self._step)
        if found and uses.UNNAMED in found[0] and not own.misplaced:
            if own is self.best or (self.best.cut and own.cut and not own.values):
                return False  # the same terms
            return [f"{output}: {sentence}" for sentence in [*own.values, *own.cut]] or found
        return found

    def bias(self) -> list[str] | bool:
        """What is wrong with the bias's gradient, given the terms."""
        if constant := self._answers.constant("bias", "q"):
            return constant
        found = self._uses("bias", self.best)
        pairs = zip(found, self.best.rights(), strict=True)
        if "" in uses.named([use._replace(deltas=d) for use, d in pairs], uses.BIAS):
            return True
        return not self.best.is_empty and uses.judge("bias", found, uses.BIAS, "", self._step)


def _faults(judge: Judge) -> int:
    return len(judge.values) + len(judge.cut) + 9 * bool(judge.misplaced)


def judge(answers: Answers, keeps: Keeps, step: str) -> list[Part]:
    """Judge the terms, then what is made of them; `step` is the letter of a step in the text."""
    terms, part = answers.named("terms"), answers.part
    readings: list[Reading] = []

    def reading() -> Reading:
        if not readings:
            readings.append(Reading(answers, keeps, step))
        return readings[0]

    def best(values: bool) -> list[str] | bool:
        judge = reading().best
        if values and judge.is_empty:
            return False
        if judge.misplaced:
            return [judge.misplaced] if values else []
        found = judge.values if values else judge.cut
        first = found and values != bool(judge.cut)  # of the parts that are wrong
        return [reading().doubt, *found] if first and reading().doubt else found

    parts = [
        part("which terms (t, s) are kept", 3, terms, lambda: best(False)),
        part("the terms' factors: phi' and W_hh", 2, terms, lambda: best(True)),
        part(
            f"weight_ih: outer(delta_{step}, x_{step})",
            1,
            terms,
            lambda: reading().weight("weight_ih"),
        ),
        part(
            f"weight_hh: outer(delta_{step}, h_{{{step}-1}})",
            1,
            terms,
            lambda: reading().weight("weight_hh"),
        ),
        part(f"bias: the sum of delta_{step}", 1, terms, lambda: reading().bias()),
        part(
            "the mean over sequences",
            1,
            answers.several,
            lambda: weights.over_sequences(answers, "q"),
        ),
    ]
    return [*parts, answers.together(parts, lambda *given: right(keeps, Setting(*given)))]


CHUNK = Exercise(
    "4_chunk.py",
    "truncation by chunk",
    "lesson 3, What truncation throws away, and the page Truncation in four senses",
    lambda: calls("chunk_gradients"),
    lambda answers: judge(answers, chunk, "t"),
)
LAG = Exercise(
    "5_lag.py",
    "truncation by lag",
    "lesson 3, What truncation throws away, and the page Truncation in four senses",
    lambda: calls("lag_gradients"),
    lambda answers: judge(answers, lag, "s"),
)
