"""Exercise 6: one step of real-time recurrent learning, for W_hh.

    (1) M_t = J_t M_{t-1} + Mbar_t,  J_t = diag(phi'(a_t)) W_hh
    (2) Mbar_t[i, j, m] = phi'(a_t)_i [i = j] h_{t-1, m}
    (3) gradient = 1/N sum_n sum_i q_{t, i} M_t[i]

With M_{t-1} = 0 only Eq. (2) is left, and what M_{t-1} adds is J_t M_{t-1}. The gradient is held to
the answer's own M_t, or to the right one, for who computes it right and returns another.
"""

import itertools
from typing import NamedTuple

import numpy as np

from bptt_lab.commands.homework import batch, edits, words
from bptt_lab.commands.homework.draws import Draws
from bptt_lab.commands.homework.edits import compare
from bptt_lab.commands.homework.exercise import Answers, Call, Exercise, Part, differ
from bptt_lab.commands.homework.rtrl_mistakes import (
    CARRIES,
    FACTORS,
    INFLUENCES,
    PLACES,
    PRODUCTS,
    VECTORS,
)
from bptt_lab.commands.homework.words import Array, Case

UNITS = (3, 4)  # H of the calls that measure
NOW, BEFORE = 2, 1  # the steps t and t - 1 in a word


class Given(NamedTuple):
    """The arguments of a call, in its order."""

    influence: Array
    q_t: Array
    h_t: Array
    h_tm1: Array
    weight_hh: Array


def draw(seed: int, N: int, H: int) -> Given:
    """Draw the arguments."""
    draws = Draws(600 + seed)
    influence, q_t = draws.vectors(N, H, H, H), draws.vectors(N, H)
    return Given(influence, q_t, draws.states(N, H), draws.states(N, H), draws.weights(H, H))


def right(given: Given) -> dict[str, Array]:
    """Eq. (1) to (3)."""
    influence, q, h, before, weight_hh = given
    slope = 1 - h**2
    new = np.einsum("ni,il,nljm->nijm", slope, weight_hh, influence)
    new += np.einsum("ni,ij,nm->nijm", slope, np.eye(len(weight_hh)), before)
    return {"influence": new, "gradient": np.einsum("ni,nijm->jm", q, new) / len(q)}


def calls() -> dict[str, Call]:
    """Make the calls."""
    found = {}
    for number, H in enumerate(UNITS):
        given = draw(number, 1, H)
        found[f"terms {number} without"] = _call(given._replace(influence=0 * given.influence))
        found[f"terms {number} with"] = _call(given)
        found[f"terms {number} 0"] = _call(given._replace(q_t=0 * given.q_t))
    given = draw(8, 3, 4)
    for n in range(3):
        influence, q_t, h_t, h_tm1 = (a[n : n + 1] for a in given[:4])
        found[f"single {n}"] = _call(Given(influence, q_t, h_t, h_tm1, given.weight_hh))
    found["batch"] = _call(given)
    for number, (N, H) in enumerate([(2, 2), (4, 3), (1, 1), (2, 5)]):
        found[f"together {number}"] = _call(draw(20 + number, N, H))
    found["again batch"] = found["batch"]
    return found


def _call(given: Given) -> Call:
    H = len(given.weight_hh)
    shapes = {"influence": given.influence.shape, "gradient": (H, H)}
    return Call("rtrl_step", given._asdict(), shapes)


class Step(NamedTuple):
    """One measured step of one sequence: arguments without the sequence's index, and answers."""

    old: Array
    q: Array
    h: Array
    before: Array
    weight_hh: Array
    immediate: Array
    carried: Array
    new: Array
    gradient: Array

    @property
    def sizes(self) -> dict[str, int]:
        """H alone."""
        return {"H": len(self.h)}


def _steps(answers: Answers) -> list[Step]:
    found = []
    for number in answers.settings():
        given = draw(number, 1, UNITS[number])
        immediate = answers[f"terms {number} without"]["influence"][0]
        answer = answers[f"terms {number} with"]
        new, gradient = answer["influence"][0], answer["gradient"]
        old, q, h, before = (a[0] for a in given[:4])
        made = immediate, new - immediate, new, gradient
        found.append(Step(old, q, h, before, given.weight_hh, *made))
    return found


def judge(answers: Answers) -> list[Part]:
    """Judge the two parts of the influence, the gradient by it, sequences by one another."""
    terms, part = answers.named("terms"), answers.part
    several = answers.several
    parts = [
        part("Mbar_t: the immediate influence", 2, terms, lambda: _immediate(_steps(answers))),
        part("J_t M_{t-1}: what is carried", 3, terms, lambda: _carried(_steps(answers))),
        part("the gradient: q_t M_t", 2, terms, lambda: _gradient(answers)),
        part("each sequence has its own influence", 1, several, lambda: _apart(answers)),
        part("the gradient is the mean over sequences", 1, several, lambda: _mean(answers)),
    ]
    return [*parts, answers.together(parts, lambda *given: right(Given(*given)))]


def _fit(pairs: list[tuple[Array, Array, dict[str, int]]]) -> str | None:
    """Say by which factor all pairs of got and made differ; None where there is no such factor."""
    if all(words.near(got, made) for got, made, _ in pairs):
        return ""
    ratios = [(words.ratio(got, made), sizes) for got, made, sizes in pairs]
    factors = [(c, sizes) for c, sizes in ratios if c is not None]
    return words.scale(factors) if len(factors) == len(pairs) else None


def _immediate(steps: list[Step]) -> list[str]:
    def fit(names: tuple[str, ...]) -> str | None:
        place, vector, factor = names
        made = [
            PLACES[place](
                FACTORS[factor](s.h, s.before), VECTORS[vector](s.h, s.before), s.weight_hh
            )
            for s in steps
        ]
        return _fit([(s.immediate, m, s.sizes) for s, m in zip(steps, made, strict=True)])

    if fit(("", "", "")) == "":
        return []
    if not any(s.immediate.any() for s in steps):
        return ["Mbar_t is lacking: with M_{t-1} = 0 the influence is 0"]
    found = edits.simplest([PLACES, VECTORS, FACTORS], fit)
    wanted = PLACES[""](1 - steps[0].h ** 2, steps[0].before, steps[0].weight_hh)
    return _say("Mbar_t", found, steps[0].immediate, wanted)


def _carried(steps: list[Step]) -> list[str]:
    made = [np.einsum("i,il,ljm->ijm", 1 - s.h**2, s.weight_hh, s.old) for s in steps]
    if all(words.near(s.carried, m) for s, m in zip(steps, made, strict=True)):
        return []
    if all(np.abs(s.carried).max() < words.TOLERANCE for s in steps):
        return ["J_t M_{t-1} is lacking: M_{t-1} changes nothing"]
    found = []
    for name, carry in CARRIES.items():
        pairs = [(s.carried, carry(s.old, s.weight_hh, 1 - s.h**2), s.sizes) for s in steps]
        if (more := _fit(pairs)) is not None:
            found.append(f"{name} and {more}" if more else name)
    if found:
        return _say("J_t M_{t-1}", found, steps[0].carried, made[0])
    cells = []
    for s in steps:
        H = len(s.h)
        states, base = {NOW: s.h, BEFORE: s.before}, s.old.reshape(H, -1)
        case = Case(states, s.weight_hh, base, s.carried.reshape(H, -1), {**s.sizes, "T": 2})
        cells.append(("J_t M_{t-1}", (words.W, words.phi(NOW)), case))
    return [_by_t(sentence) for sentence in compare(cells)]


def _by_t(sentence: str) -> str:
    for letter, (step, name) in itertools.product("ah", ((NOW, "t"), (BEFORE, "{t-1}"))):
        sentence = sentence.replace(f"{letter}_{step}", f"{letter}_{name}")
    return sentence


def _gradient(answers: Answers) -> list[str] | bool:
    steps = _steps(answers)
    if not any(s.new.any() for s in steps):
        return False

    def fit(names: tuple[str, ...]) -> str | None:
        influence, product = names
        pairs = []
        for s in steps:
            met = INFLUENCES[influence](s.old, s.immediate, s.new)
            pairs.append((s.gradient, PRODUCTS[product](s.q, 1 - s.h**2, met), s.sizes))
        return _fit(pairs)

    if fit(("", "")) == "" or _is_right(answers):
        return []
    if constant := answers.constant("gradient", "q_t"):
        return constant
    if not any(s.gradient.any() for s in steps):
        return ["the gradient is 0"]
    found = edits.simplest([INFLUENCES, PRODUCTS], fit)
    wanted = PRODUCTS[""](steps[0].q, steps[0].q, steps[0].new)
    return _say("the gradient", found, steps[0].gradient, wanted)


def _is_right(answers: Answers) -> bool:
    return all(
        words.near(
            answers[f"terms {number} with"]["gradient"],
            right(draw(number, 1, UNITS[number]))["gradient"],
        )
        for number in answers.settings()
    )


def _say(name: str, found: list[str], got: Array, expected: Array) -> list[str]:
    if not found:
        return [differ(name, got, expected)]
    return [f"{name}: {' or '.join(dict.fromkeys(found[:3]))}"]


def _apart(answers: Answers) -> list[str]:
    given = draw(8, 3, 4)
    before = np.broadcast_to(given.influence.mean(0), given.influence.shape)
    shared = right(given._replace(influence=before))["influence"]
    mistakes = {"M_{t-1} is averaged over the sequences before the update": shared}
    got, alone = answers["batch"]["influence"], answers.alone("influence")
    return batch.apart("influence, N=3", got, alone, mistakes, axis=0)


def _mean(answers: Answers) -> list[str] | bool:
    q = draw(8, 3, 4).q_t
    influence = answers["batch"]["influence"]
    own = np.einsum("ni,nijm->jm", q, influence) / len(q)
    if words.near(answers["batch"]["gradient"], own):
        return bool(influence.any())
    crossed = np.einsum("i,ijm->jm", q.mean(0), influence.mean(0))
    mistakes = {"q_t and M_t are averaged over the sequences before their product": crossed}
    got, alone = answers["batch"]["gradient"], answers.alone("gradient")
    return batch.mean("gradient, N=3", got, alone, mistakes)


EXERCISE = Exercise("6_rtrl.py", "one step of RTRL", "lesson 5, Learning online", calls, judge)
