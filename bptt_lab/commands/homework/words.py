"""A term of a gradient as a word of factors.

    (1) the credit that the loss at t gives to step s:
        W_hh^T phi'(a_{s+1}) ... W_hh^T phi'(a_t) q_t

Its word is the factors in the order in which they meet the vector q_t. A mistake is an edit of the
word (edits.py).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Found = TypeVar("Found")
TOLERANCE = 1e-5  # relative to the largest number; answers in float32 are near enough

# Mistakes as data: what somebody takes for phi'(a_j), as a function of h_j and a_j.
SLOPES: Mapping[str, Callable[[Array, Array], Array]] = {
    "": lambda h, a: 1 - h**2,
    "1 - a_{j}^2": lambda h, a: 1 - a**2,
    "1 - tanh(h_{j})^2 (tanh twice)": lambda h, a: 1 - np.tanh(h) ** 2,
    "1 - h_{j}": lambda h, a: 1 - h,
    "2 (1 - h_{j}^2)": lambda h, a: 2 * (1 - h**2),
    "1 + h_{j}^2": lambda h, a: 1 + h**2,
    "h_{j}^2": lambda h, a: h**2,
    "h_{j}^2 - 1 (wrong sign)": lambda h, a: h**2 - 1,
    "(1 - h_{j})^2": lambda h, a: (1 - h) ** 2,
    "1 - |h_{j}|": lambda h, a: 1 - abs(h),
    "1 - 2 h_{j}": lambda h, a: 1 - 2 * h,
    "1 - h_{j}^4": lambda h, a: 1 - h**4,
    "1 - h_{j}^3": lambda h, a: 1 - h**3,
    "h_{j} (1 - h_{j}) (the logistic function's)": lambda h, a: h * (1 - h),
    "tanh(h_{j})": lambda h, a: np.tanh(h),
    "h_{j}": lambda h, a: h,
    "a_{j}": lambda h, a: a,
    "-2 h_{j}": lambda h, a: -2 * h,
    "2 h_{j}": lambda h, a: 2 * h,
    "1 / (1 - h_{j}^2)": lambda h, a: 1 / (1 - h**2),
    "sqrt(1 - h_{j}^2)": lambda h, a: (1 - h**2) ** 0.5,
    "1 where h_{j} > 0, else 0 (relu's)": lambda h, a: np.where(h > 0, 1.0, 0.0),
    "1 / (1 + a_{j}^2)": lambda h, a: 1 / (1 + a**2),
}


class Letter(NamedTuple):
    """A factor: "W", "W^T", phi' at a step by one of SLOPES, or a number such as "-1"."""

    kind: str
    step: int = 0
    slope: str = ""

    def __str__(self) -> str:
        return {"W": "W_hh", "W^T": "W_hh^T"}.get(self.kind) or f"phi'(a_{self.step})"


Word = tuple[Letter, ...]
W, WT = Letter("W"), Letter("W^T")
LAST = 10**6  # stands for the step T, whatever it is


def phi(step: int) -> Letter:
    """Return the letter phi'(a_step)."""
    return Letter("phi", step)


def credit(t: int, s: int, *, delta: bool = False) -> Word:
    """Eq. (1), with phi'(a_s) in front where it is that of delta_s."""
    word = [letter for j in range(t, s, -1) for letter in (phi(j), WT)]
    return (*word, *([phi(s)] if delta else []))


class Case:
    """A measured term: the numbers of its letters, the vector that they meet, and what came out.

    Args:
        states: h_j by step, each (H,).
        weight_hh: (H, H).
        base: what the word is applied to, (H,) or (H, columns).
        got: of base's shape.
        sizes: what else a wrong factor may be made of, as T, N, H and k.
    """

    def __init__(
        self,
        states: Mapping[int, Array],
        weight_hh: Array,
        base: Array,
        got: Array,
        sizes: Mapping[str, int],
    ) -> None:
        self.states, self.base, self.got, self.sizes = states, base, got, sizes
        self._weights = {"W": weight_hh, "W^T": weight_hh.T}
        self._slopes: dict[Letter, Array] = {}

    def on(self, base: Array) -> "Case":
        """The same with the word applied to something else."""
        weight_hh = self._weights["W"]
        return Case(self.states, weight_hh, base, self.got, self.sizes)

    def value(self, word: Word) -> Array:
        """Apply a word to the base."""
        value = self.base
        for letter in word:
            if letter.kind == "phi":
                value = self._slope(letter).reshape(-1, *[1] * (value.ndim - 1)) * value
            elif letter.kind in self._weights:
                value = self._weights[letter.kind] @ value
            else:
                value = float(letter.kind) * value
        return value

    def _slope(self, letter: Letter) -> Array:
        if letter not in self._slopes:
            step = max(self.states) if letter.step == LAST else letter.step
            if step not in self.states:  # as Python reads a list from its end
                step += self.sizes["T"] * (1 if step < min(self.states) else -1)
            h = self.states[step]
            self._slopes[letter] = SLOPES[letter.slope](h, np.arctanh(h))
        return self._slopes[letter]


def of_step(sentence: str, step: str) -> str:
    """A sentence about a step t, with another letter for that."""
    return re.sub("(?<![a-z])t(?![a-z])", step, sentence)


def by_step(table: Mapping[str, Found], step: str) -> dict[str, Found]:
    """A table of such sentences with another letter."""
    return {of_step(sentence, step): found for sentence, found in table.items()}


def near(got: Array, expected: Array) -> bool:
    """Whether two arrays are the same but for rounding."""
    scale = max(float(np.abs(expected).max(initial=0)), 1e-9)
    return got.shape == expected.shape and bool(np.abs(got - expected).max() <= TOLERANCE * scale)


def ratio(got: Array, expected: Array) -> float | None:
    """Return c where got = c * expected; None where there is no such number, or it is 0."""
    square = float((expected**2).sum())
    c = float((got * expected).sum()) / square if square else 0.0
    return c if abs(c) > TOLERANCE and near(got, c * expected) else None


def numbers(values: Array) -> str:
    """Write a few numbers."""
    flat = values.reshape(-1)
    return f"[{', '.join(f'{v:.4g}' for v in flat[:4])}{', ...' if len(flat) > 4 else ''}]"


# Mistakes as data: a factor too many that is a number, and what it means.
FIXED: Mapping[str, float] = {"has the wrong sign": -1, "counts twice": 2, "is halved": 0.5}
SCALES: Mapping[str, Callable[[Mapping[str, int]], float]] = {
    "is divided by T: a mean over the steps, not their sum": lambda n: 1 / n["T"],
    "is divided by T - 1": lambda n: 1 / (n["T"] - 1),
    "is multiplied by T": lambda n: n["T"],
    "is divided by H: a mean over the hidden units": lambda n: 1 / n["H"],
    "is multiplied by H": lambda n: n["H"],
    "is divided by k": lambda n: 1 / n["k"],
    "is multiplied by k": lambda n: n["k"],
    "is divided by the number of chunks": lambda n: 1 / -(-n["T"] // n["k"]),
    "is divided by T // k": lambda n: 1 / (n["T"] // n["k"]),
    "is divided by T k": lambda n: 1 / (n["T"] * n["k"]),
}


def scale(found: Sequence[tuple[float, Mapping[str, int]]]) -> str | None:
    """Name the number by which all cases are too large; None where they have none in common."""
    first = found[0][0]
    same = all(_equal(c, first) for c, _ in found)
    for name, number in FIXED.items():
        if same and _equal(first, number):
            return name
    if len({tuple(sizes.items()) for _, sizes in found}) > 1:  # or any size may be the number
        names = [
            name for name in SCALES if all(_equal(c, _factor(name, sizes)) for c, sizes in found)
        ]
        if names:
            return " or ".join(names)
    return f"is {first:.3g} times what it should be" if same else None


def _factor(name: str, sizes: Mapping[str, int]) -> float:
    try:
        return SCALES[name](sizes)
    except (KeyError, ZeroDivisionError):
        return 0.0


def _equal(one: float, other: float) -> bool:
    return abs(one - other) < 1e-4 * abs(one)
