"""Which vector each delta_s is multiplied with: the gradient of a weight, taken apart.

    (1) dE/dW_ih = sum_s outer(delta_s, x_s),  dE/dW_hh = sum_s outer(delta_s, h_{s-1}),
        dE/db with 1 for x_s

Where the vectors are independent, the gradient says what each of them was multiplied with.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bptt_lab.commands.homework import words
from bptt_lab.commands.homework.exercise import differ
from bptt_lab.commands.homework.words import Array

UNNAMED = ", loss at t="  # in a sentence that no named mistake explains
Partner = Callable[[int, int, int, int], int | None]  # of s, T, k and the loss's t


class Use(NamedTuple):
    """What was measured in one setting.

    Attributes:
        sizes: T, N, H and maybe k.
        vectors: the vectors by their steps, the first of them first.
        first: the step of the first vector.
        gradients: of a loss at each t, (T, H, width).
        deltas: what the loss at t gives to step s, (T, T, H).
        slope: phi'(a_s), (T, H).
    """

    sizes: Mapping[str, int]
    vectors: Array
    first: int
    gradients: Array
    deltas: Array
    slope: Array

    def by(self, partner: Partner) -> Array:
        """The gradients if delta_s meets the vector of partner(s)."""
        T, k = self.sizes["T"], self.sizes.get("k", 0)
        met = np.zeros((T, T, self.vectors.shape[1]))
        for t, s in itertools.product(range(1, T + 1), repeat=2):
            step = partner(s, T, k, t)
            if step is not None and 0 <= step - self.first < len(self.vectors):
                met[t - 1, s - 1] = self.vectors[step - self.first]
        found: Array = np.einsum("tsh,tsm->thm", self.deltas, met)
        return found

    def parts(self) -> Array:
        """What each vector was multiplied with, (T, vectors, H), where that makes the gradient."""
        inverse = np.linalg.pinv(self.vectors)  # (width, vectors)
        found: Array = np.einsum("thm,mv->tvh", self.gradients, inverse)
        return found


def _no_first(s: int, T: int, k: int, t: int) -> int | None:
    return None if s == 1 else s - 1


# Mistakes as data: what somebody multiplies delta_s with.
INPUTS: Mapping[str, Partner] = {
    "": lambda s, T, k, t: s,
    "x_{t-1} for x_t, and nothing at t=1": _no_first,
    "x_{t-1} for x_t, and x_T at t=1 (index -1)": lambda s, T, k, t: s - 1 if s > 1 else T,
    "x_{t-1} for x_t, and x_1 at t=1": lambda s, T, k, t: max(s - 1, 1),
    "x_{t+1} for x_t": lambda s, T, k, t: s + 1,
    "x_{t+1} for x_t, and x_1 at t=T": lambda s, T, k, t: s % T + 1,
    "x_{t+1} for x_t, and x_T at t=T": lambda s, T, k, t: min(s + 1, T),
    "the inputs are taken in reverse order": lambda s, T, k, t: T + 1 - s,
    "x_1 at every step": lambda s, T, k, t: 1,
    "x_T at every step": lambda s, T, k, t: T,
    "the first step's part is lacking": lambda s, T, k, t: None if s == 1 else s,
    "the last step's part is lacking": lambda s, T, k, t: None if s == T else s,
    "only the last step's part is there": lambda s, T, k, t: s if s == T else None,
    "only the first step's part is there": lambda s, T, k, t: s if s == 1 else None,
}
INPUTS_BY_K: Mapping[str, Partner] = {
    "x_t of the loss's step for x_s": lambda s, T, k, t: t,
    "0 for the input of each chunk's first step": (
        lambda s, T, k, t: None if (s - 1) % k == 0 else s
    ),
}
STATES: Mapping[str, Partner] = {
    "": lambda s, T, k, t: s - 1,
    "h_t for h_{t-1}": lambda s, T, k, t: s,
    "h_0, which is hx, is not used: the carried state is forgotten, or step 1 left out": _no_first,
    "h_T for h_0 at t=1 (index -1): hx is not used": lambda s, T, k, t: s - 1 if s > 1 else T,
    "h_1 for h_0 at t=1: hx is not used": lambda s, T, k, t: max(s - 1, 1),
    "h_{t-2} for h_{t-1}": lambda s, T, k, t: s - 2,
    "h_{t-2} for h_{t-1}, and h_0 at t=1": lambda s, T, k, t: max(s - 2, 0),
    "h_{t-2} for h_{t-1}, and h_{T-1} at t=1 (index -1)": (
        lambda s, T, k, t: s - 2 if s > 1 else T - 1
    ),
    "h_{t+1} for h_{t-1}": lambda s, T, k, t: s + 1,
    "h_t for h_{t-1}, and nothing at t=1": lambda s, T, k, t: s if s > 1 else None,
    "h_t for h_{t-1}, and nothing at t=T": lambda s, T, k, t: s if s < T else None,
    "h_0 at every step": lambda s, T, k, t: 0,
    "h_T at every step": lambda s, T, k, t: T,
    "the states are taken in reverse order": lambda s, T, k, t: T - s,
    "the states after the steps are taken, in reverse order": lambda s, T, k, t: T + 1 - s,
    "the last step's part is lacking": lambda s, T, k, t: None if s == T else s - 1,
    "only the last step's part is there": lambda s, T, k, t: s - 1 if s == T else None,
    "only the first step's part is there": lambda s, T, k, t: 0 if s == 1 else None,
}
STATES_BY_K: Mapping[str, Partner] = {
    "h_{t-1} of the loss's step for h_{s-1}": lambda s, T, k, t: t - 1,
    "the state is reset to 0 at the start of each chunk, where only the credit is cut": (
        lambda s, T, k, t: None if (s - 1) % k == 0 else s - 1
    ),
    "the state is reset to 0 at the start of each chunk but the first, where only the credit is "
    "cut": lambda s, T, k, t: None if s > 1 and (s - 1) % k == 0 else s - 1,
    "each chunk starts from hx again, where only the credit is cut": (
        lambda s, T, k, t: 0 if (s - 1) % k == 0 else s - 1
    ),
    "the state is reset to 0 at the start of each chunk counted from the end": (
        lambda s, T, k, t: None if (T - s + 1) % k == 0 else s - 1
    ),
}
# Where the right terms are kept: other terms might lack just these states.
WINDOW_STATES: Mapping[str, Partner] = {
    "the state that a window of k steps starts from is taken as 0, where only the credit is cut": (
        lambda s, T, k, t: None if t - s == k - 1 else s - 1
    ),
    "the state that a window of k steps starts from, and hx, is taken as 0, where only the credit "
    "is cut": lambda s, T, k, t: None if s == 1 or t - s == k - 1 else s - 1,
    "each window of k steps starts from hx again, where only the credit is cut": (
        lambda s, T, k, t: 0 if t - s == k - 1 else s - 1
    ),
}
BIAS: Mapping[str, Partner] = {
    "": lambda s, T, k, t: s,
    "the first step's delta is lacking": lambda s, T, k, t: None if s == 1 else s,
    "the last step's delta is lacking": lambda s, T, k, t: None if s == T else s,
    "only the last step's delta is there": lambda s, T, k, t: s if s == T else None,
    "only the first step's delta is there": lambda s, T, k, t: s if s == 1 else None,
}
# What somebody takes for delta_s: it times a function of phi'(a_s).
DELTAS: Mapping[str, Callable[[Array], Array]] = {
    "phi'(a_t) is applied again: delta_t holds it": lambda slope: slope,
    "c_t for delta_t: phi'(a_t) is lacking": lambda slope: 1 / slope,
}


def judge(
    name: str,
    uses: Sequence[Use],
    partners: Mapping[str, Partner],
    letter: str,
    step: str = "t",
) -> list[str]:
    """Say what is wrong with a weight's gradient, given the deltas that it is made of.

    Args:
        name: of the weight.
        uses: what was measured.
        partners: INPUTS, STATES or BIAS.
        letter: x, h, or "" for the bias.
        step: the letter of a step in the exercise's text.
    """
    right = partners[""]
    if all(words.near(use.gradients, use.by(right)) for use in uses):
        return []
    if not any(np.abs(use.gradients).max() > 1e-9 for use in uses):
        return [f"{name}: is 0"]
    found = named(uses, partners)
    for sentence, factor in () if found else words.by_step(DELTAS, step).items():
        replaced = [use._replace(deltas=use.deltas * factor(use.slope)) for use in uses]
        found += [f"{sentence}{f', and {m}' if m else ''}" for m in named(replaced, partners)]
    if found:
        return [f"{name}: {' or '.join(found[:3])}"]
    square = [use for use in uses if use.gradients.shape[1] == use.gradients.shape[2]]
    if len(square) == len(uses):
        turned = [use._replace(gradients=use.gradients.transpose(0, 2, 1)) for use in uses]
        text = f"is transposed: outer({letter}, delta) for outer(delta, {letter})"
        if words.near(turned[0].gradients, turned[0].by(right)):
            return [f"{name}: {text}"]
        if found := named(turned, partners):
            return [f"{name}: {text}, and {' or '.join(found[:3])}"]
    return list(_first(name, uses, right, letter))


def named(uses: Sequence[Use], partners: Mapping[str, Partner]) -> list[str]:
    """Say which mistakes of a table explain everything; "" where nothing is wrong."""
    sentences = []
    for sentence, partner in partners.items():  # the right one comes first
        made = [(use.gradients, use.by(partner), use.sizes) for use in uses]
        ratios = [
            (1.0 if words.near(got, value) else words.ratio(got, value), sizes)
            for got, value, sizes in made
        ]
        factors = [(c, sizes) for c, sizes in ratios if c is not None]
        if len(factors) < len(uses):
            continue
        if all(abs(c - 1) < 1e-4 for c, _ in factors):
            sentences.append(sentence)
        elif name := words.scale(factors):
            if not sentence:
                return [*sentences, name]
            sentences.append(f"{sentence}, and {name}")
    return sentences


def _first(name: str, uses: Sequence[Use], right: Partner, letter: str) -> Iterator[str]:
    """The first vector that is multiplied with something wrong."""
    for use in uses:
        parts, T, k = use.parts(), use.sizes["T"], use.sizes.get("k", 0)
        expected = np.zeros_like(parts)
        for s in range(1, T + 1):
            step = right(s, T, k, T)
            assert step is not None
            expected[:, step - use.first] = use.deltas[:, s - 1]
        made = np.einsum("tvh,vm->thm", parts, use.vectors)
        for t in range(T):
            if words.near(use.gradients[t], use.by(right)[t]):
                continue
            if not words.near(made[t], use.gradients[t]):
                text = f"{name}{UNNAMED}{t + 1}: is not a sum of outer(delta_s, {letter}_j)"
                yield differ(text, use.gradients[t], use.by(right)[t])
                return
            limit = words.TOLERANCE * max(np.abs(use.deltas[t]).max(), 1e-9)
            wrong = np.abs(parts[t] - expected[t]).max(1) > limit
            if wrong.any():
                text = letter and _meets(use, parts[t], expected[t], wrong, letter)
                at = f"{name}{UNNAMED}{t + 1}"
                yield f"{at}: {text}" if text else differ(at, use.gradients[t], use.by(right)[t])
                return


def _meets(use: Use, parts: Array, expected: Array, wrong: NDArray[np.bool_], letter: str) -> str:
    """Say what the first vector that meets something wrong meets; empty if more than one does."""
    indices = [int(v) for v in np.flatnonzero(wrong)]
    v = indices[0]
    for j in indices[1:]:  # one of them has what belongs to the other
        for a, b in ((v, j), (j, v)):
            lacks = expected[a].any() and np.abs(parts[a]).max() < words.TOLERANCE
            if lacks and words.near(parts[b], expected[b] + expected[a]):
                return f"{letter}_{b + use.first} for {letter}_{a + use.first}"
    if any(not expected[j].any() for j in indices):  # no vector alone explains it
        return ""
    what = f"what {letter}_{v + use.first} is multiplied with"
    if np.abs(parts[v]).max() < words.TOLERANCE:
        return f"{what} is missing"
    if c := words.ratio(parts[v], expected[v]):
        return f"{what} {words.scale([(c, use.sizes)])}"
    return differ(what, parts[v], expected[v])
