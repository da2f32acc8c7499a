"""Exercise 3: the gradients of the weights from delta.

    (1) dE/dW_ih = 1/N sum_n sum_t outer(delta_t, x_t),  dE/dW_hh with h_{t-1} for x_t,
        dE/db = 1/N sum_n sum_t delta_t

A delta that is 0 but at t says what it is multiplied with, as the vectors are independent.
"""

from collections.abc import Mapping

import numpy as np

from bptt_lab.commands.homework import batch, uses
from bptt_lab.commands.homework.draws import Draws, only
from bptt_lab.commands.homework.exercise import Answers, Call, Exercise, Part
from bptt_lab.commands.homework.uses import BIAS, INPUTS, STATES, Use
from bptt_lab.commands.homework.words import Array

OUTPUTS = ("weight_ih", "weight_hh", "bias")
TABLES = {"weight_ih": (INPUTS, "x"), "weight_hh": (STATES, "h"), "bias": (BIAS, "")}
STEPS = (4, 3, 5)  # T of the calls that measure; H is T + 1, so that h_0 ... h_T are a basis


def right(delta: Array, input: Array, h: Array, hx: Array) -> dict[str, Array]:
    """Eq. (1)."""
    before = np.concatenate([hx[None], h[:-1]])
    N = delta.shape[1]
    return {
        "weight_ih": np.einsum("tnh,tni->hi", delta, input) / N,
        "weight_hh": np.einsum("tnh,tni->hi", delta, before) / N,
        "bias": delta.sum((0, 1)) / N,
    }


def draw(seed: int, T: int, N: int, I: int, H: int) -> tuple[Array, Array, Array, Array]:
    """Draw the arguments."""
    draws = Draws(300 + seed)
    vectors = draws.vectors(T, N, H), draws.vectors(T, N, I)
    return *vectors, draws.states(T, N, H), draws.states(N, H)


def calls() -> dict[str, Call]:
    """Make the calls."""
    found = {}
    for number, T in enumerate(STEPS):
        delta, input, h, hx = draw(number, T, 1, T + 2, T + 1)
        for t in range(T + 1):
            found[f"terms {number} {t}"] = _call(only(delta, t), input, h, hx)
    arguments = draw(8, 4, 3, 2, 5)
    for n in range(3):
        found[f"single {n}"] = _call(*(a[..., n : n + 1, :] for a in arguments))
    found["batch"] = _call(*arguments)
    for number, sizes in enumerate([(1, 2, 3, 3), (6, 4, 2, 3), (2, 2, 2, 2), (3, 1, 1, 4)]):
        found[f"together {number}"] = _call(*draw(20 + number, *sizes))
    found["again batch"] = found["batch"]
    return found


def _call(delta: Array, input: Array, h: Array, hx: Array) -> Call:
    I, H = input.shape[-1], h.shape[-1]
    shapes = {"weight_ih": (H, I), "weight_hh": (H, H), "bias": (H,)}
    arguments = {"delta": delta, "input": input, "h": h, "hx": hx}
    return Call("weight_gradients", arguments, shapes)


def judge(answers: Answers) -> list[Part]:
    """Judge each gradient by its terms, several sequences by one another."""
    terms, part = answers.named("terms"), answers.part
    parts = [
        part("weight_ih: outer(delta_t, x_t)", 2, terms, lambda: _weights(answers, "weight_ih")),
        part(
            "weight_hh: outer(delta_t, h_{t-1})", 3, terms, lambda: _weights(answers, "weight_hh")
        ),
        part("bias: the sum of delta_t", 1, terms, lambda: _weights(answers, "bias")),
        part(
            "the mean over sequences",
            3,
            answers.several,
            lambda: over_sequences(answers, "delta", crossed()),
        ),
    ]
    return [*parts, answers.together(parts, right)]


def over_sequences(
    answers: Answers, credit: str, mistakes: Mapping[str, Mapping[str, Array]] | None = None
) -> list[str] | bool:
    """Compare N=3 with the answer's own to each of the three; false where that says nothing.

    Args:
        answers: to the calls "batch" and "single 0" to "single 2".
        credit: the argument that is 0 in a setting's call 0.
        mistakes: for an output sentences, and what they make of it.
    """
    sentences = []
    for output in OUTPUTS:
        if answers.constant(output, credit):
            return False
        got, known = answers["batch"][output], (mistakes or {}).get(output)
        sentences += batch.mean(f"{output}, N=3", got, answers.alone(output), known)
    same = {sentence.partition(": ")[2] for sentence in sentences}
    if len(sentences) == len(OUTPUTS) and len(same) == 1:
        return [f"all gradients, N=3: {same.pop()}"]
    return sentences


def crossed() -> dict[str, dict[str, Array]]:
    """The gradients if sequences are averaged before the product, and not after it."""
    delta, input, h, hx = (a.mean(-2, keepdims=True) for a in draw(8, 4, 3, 2, 5))
    sentence = "the mean is taken of delta and of the other factor, not of their product"
    found = right(delta, input, h, hx)
    return {output: {sentence: found[output]} for output in ("weight_ih", "weight_hh")}


def _weights(answers: Answers, output: str) -> list[str]:
    found = []
    for number in answers.settings():
        T = STEPS[number]
        delta, input, h, hx = draw(number, T, 1, T + 2, T + 1)
        deltas = np.eye(T)[:, :, None] * delta[:, 0]
        found.append(
            used(answers, number, output, {"T": T, "N": 1, "H": T + 1}, (input, h, hx), deltas)
        )
    table, letter = TABLES[output]
    return answers.constant(output, "delta") or uses.judge(output, found, table, letter)


def used(
    answers: Answers,
    number: int,
    output: str,
    sizes: Mapping[str, int],
    given: tuple[Array, Array, Array],
    deltas: Array,
) -> Use:
    """What a setting's gradients are made of, given input, h and hx of one sequence."""
    T, (input, h, hx) = sizes["T"], given
    slope = 1 - h[:, 0] ** 2
    got = np.stack([answers.linear(number, t, output) for t in range(1, T + 1)])
    if output == "bias":
        return Use(sizes, np.ones((T, 1)), 1, got[:, :, None], deltas, slope)
    vectors = input[:, 0] if output == "weight_ih" else np.concatenate([hx, h[:, 0]])
    return Use(sizes, vectors, int(output == "weight_ih"), got, deltas, slope)


EXERCISE = Exercise(
    "3_weights.py",
    "the gradients of the weights",
    "lesson 1, By hand; or run bptt-explain, which prints every term of dE/dW_hh",
    calls,
    judge,
)
