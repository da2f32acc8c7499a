"""Exercise 1: the forward step and the forward pass.

    (1) h_t = tanh(W_ih x_t + W_hh h_{t-1} + b)

Each step of a pass is held to the answer's own state before it, so that the first wrong step is
found, and a wrong step does not make those after it wrong.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from bptt_lab.commands.homework import edits, words
from bptt_lab.commands.homework.draws import Draws
from bptt_lab.commands.homework.exercise import Answers, Call, Exercise, Part, differ
from bptt_lab.commands.homework.forward_mistakes import (
    BESIDES,
    FIELDS,
    INPUT,
    JOINED,
    LAST,
    OUTER,
    RIGHT,
    STATE,
    TAKES_INPUT,
    TAKES_STATE,
    TIMES_OF,
    Weights,
)
from bptt_lab.commands.homework.words import Array

STEPS = ((3, 2, 4), (2, 3, 3), (1, 5, 3))  # N, I and H of calls of `step`
PASSES = ((4, 2, 3, 2), (3, 1, 2, 4), (5, 3, 3, 3))  # T, N, I and H of calls of `forward`


def compute(names: Sequence[str], x: Array, h: Array, weights: Weights) -> Array | None:
    """One step with these mistakes; None where the sizes do not allow them."""
    outer, of_x, of_h, *times, joined, besides = names
    c_x, c_h, c_b = (table[name] for table, name in zip(TIMES_OF, times, strict=True))
    try:
        of_input, of_state = c_x * INPUT[of_x](x, weights), c_h * STATE[of_h](h, weights)
        made = JOINED[joined](OUTER[outer], of_input, of_state, c_b * weights.bias)
        found: Array = BESIDES[besides](made, h)
    except ValueError:
        return None
    return found


def _weights(draws: Draws, I: int, H: int) -> Weights:
    return Weights(draws.weights(H, I), draws.weights(H, H), draws.weights(H))


def _step(seed: int, N: int, I: int, H: int) -> tuple[Array, Array, Weights]:
    draws = Draws(100 + seed)
    return draws.vectors(N, I), draws.states(N, H), _weights(draws, I, H)


def _pass(seed: int, T: int, N: int, I: int, H: int) -> tuple[Array, Array, Weights]:
    draws = Draws(150 + seed)
    return draws.vectors(T, N, I), draws.states(N, H), _weights(draws, I, H)


def calls() -> dict[str, Call]:
    """Make the calls."""
    found = {}
    for number, sizes in enumerate(STEPS):
        found[f"terms {number} step"] = _call("step", *_step(number, *sizes))
    for number, more in enumerate(PASSES):
        found[f"terms {10 + number} pass"] = _call("forward", *_pass(number, *more))
    for number, other in enumerate([(1, 2, 3, 3), (7, 4, 2, 5), (2, 1, 1, 1)]):
        found[f"together {number}"] = _call("forward", *_pass(20 + number, *other))
    found["again terms 10 pass"] = found["terms 10 pass"]
    return found


def _call(function: str, x: Array, h: Array, weights: Weights) -> Call:
    first = {"x_t": x, "h_tm1": h} if function == "step" else {"input": x, "hx": h}
    shapes = {"h_t": h.shape}
    if function == "forward":
        shapes = {"output": (*x.shape[:2], h.shape[-1]), "h_n": h.shape}
    more = {"weight_ih": weights.ih, "weight_hh": weights.hh, "bias": weights.bias}
    return Call(function, {**first, **more}, shapes)


def right(x: Array, h: Array, weights: Weights) -> dict[str, Array]:
    """Eq. (1), step by step."""
    output = []
    for x_t in x:
        h = np.tanh(x_t @ weights.ih.T + h @ weights.hh.T + weights.bias)
        output.append(h)
    return {"output": np.stack(output), "h_n": h}


def judge(answers: Answers) -> list[Part]:
    """Judge a step, then a pass step by step, then what it hands on."""
    step = [f"terms {number} step" for number in range(len(STEPS))]
    whole = [f"terms {10 + number} pass" for number in range(len(PASSES))]
    part = answers.part
    parts = [
        part(
            "step: h_t = tanh(W_ih x_t + W_hh h_{t-1} + b)", 4, step, lambda: _judge_step(answers)
        ),
        part("forward: from step to step", 3, whole, lambda: _judge_pass(answers)),
        part("forward: h_n, the state to go on from", 2, whole, lambda: _judge_last(answers)),
    ]
    return [*parts, answers.together(parts, lambda x, h, *w: right(x, h, Weights(*w)))]


def _judge_step(answers: Answers) -> list[str]:
    settings = [n for n in answers.settings() if n < 10]
    cases = [(_step(n, *STEPS[n]), answers[f"terms {n} step"]["h_t"]) for n in settings]
    if not any(got.any() for _, got in cases):
        return ["step: h_t is 0"] if cases else []
    found = edits.simplest(FIELDS, lambda names: _fits(names, cases))
    if found == [""]:
        return []
    (x, h, weights), got = cases[0]
    expected = compute(RIGHT, x, h, weights)
    assert expected is not None
    return [f"step: {' or '.join(found[:3])}"] if found else [differ("step: h_t", got, expected)]


Cases = Sequence[tuple[tuple[Array, Array, Weights], Array]]


def _fits(names: tuple[str, ...], cases: Cases) -> str | None:
    for (x, h, weights), got in cases:
        made = compute(names, x, h, weights)
        if made is None or not words.near(got, made):
            return None
    return ""


def _judge_pass(answers: Answers) -> list[str] | bool:
    passes = {
        n: (_pass(n - 10, *PASSES[n - 10]), answers[f"terms {n} pass"]["output"])
        for n in answers.settings()
        if n >= 10
    }
    if not any(output.any() for _, output in passes.values()):
        return ["forward: output is 0"]

    takes = (TAKES_INPUT, TAKES_STATE)

    def steps(names: tuple[str, str], only: int = 0) -> Cases:
        """Every step with the input and the state that it takes; or step `only`."""
        found = []
        for (x, hx, weights), output in passes.values():
            states = [hx, *output]
            for t in range(1, len(x) + 1):
                of_x, of_h = (f[n](t, len(x)) for f, n in zip(takes, names, strict=True))
                x_t = 0 * x[0] if of_x is None else x[of_x - 1]
                h = 0 * hx if of_h is None else states[of_h]
                if only in (0, t):
                    found.append(((x_t, h, weights), output[t - 1]))
        return found

    def explained(only: int = 0) -> list[str]:
        made = {names: steps(names, only) for names in itertools.product(*takes)}
        return edits.simplest([*FIELDS, *takes], lambda n: _fits(n[:-2], made[n[-2], n[-1]]), 2)

    found = explained()
    if found == [""]:
        return []
    own, plain = " or ".join(_judge_step(answers)), steps(("", ""))
    of_step = [[name for name in field if name in own] for field in FIELDS]
    if edits.simplest(of_step, lambda n: _fits(n, plain), len(FIELDS)):
        return False  # nothing but the mistakes of the step
    if found:
        return [f"forward: {' or '.join(found[:3])}"]
    flipped = [(given, output[::-1]) for given, output in passes.values()]
    if all(words.near(got, right(*given)["output"]) for given, got in flipped):
        return ["forward: output stands in reverse order: index 0 holds the last step"]
    before = [np.stack([given[1], *right(*given)["output"][:-1]]) for given, _ in passes.values()]
    if all(words.near(got, h) for (_, got), h in zip(passes.values(), before, strict=True)):
        return ["forward: output holds h_0 ... h_{T-1}: it begins with hx and lacks the last state"]
    for t in range(1, max(T for T, *_ in PASSES) + 1):
        cases = steps(("", ""), t)
        if _fits(RIGHT, cases) is None:
            if found := explained(t):
                return [f"forward, t={t}: {' or '.join(found[:3])}"]
            for given, got in cases:
                expected = compute(RIGHT, *given)
                assert expected is not None
                if not words.near(got, expected):
                    return [differ(f"forward, t={t}: h_{t}", got, expected)]
    return []


def _judge_last(answers: Answers) -> list[str] | bool:
    """Compare h_n with the answer's own states."""
    cases = []
    for n in answers.settings():
        if n >= 10:
            answer = answers[f"terms {n} pass"]
            given = _pass(n - 10, *PASSES[n - 10])
            if not words.near(answer["h_n"], right(*given)["h_n"]):
                cases.append((answer["h_n"], answer["output"], given[1]))
    if all(words.near(got, output[-1]) for got, output, _ in cases):
        return not cases or any(output.any() for _, output, _ in cases)
    for sentence, make in LAST.items():
        if all(words.near(got, make(output, hx)) for got, output, hx in cases):
            return [f"h_n {sentence}, must be h_T"]
    got, output, _ = cases[0]
    return [differ("h_n", got, output[-1])]


EXERCISE = Exercise(
    "1_forward.py",
    "the forward step and the forward pass",
    "lesson 1, By hand; or run bptt-explain, whose section 2 works the states out",
    calls,
    judge,
)
