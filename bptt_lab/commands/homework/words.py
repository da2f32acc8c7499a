"""A term of a gradient as a word of factors, and the word that a wrong term is.

    (1) the credit that the loss at t gives to step s:
        W_hh^T phi'(a_{s+1}) ... W_hh^T phi'(a_t) q_t

Its word is the factors in the order in which they meet the vector q_t. A mistake is an edit of the
word. Whoever looks for it tries all edits, the fewest first, against what was measured.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
TOLERANCE = 1e-5  # relative to the largest number; answers in float32 are near enough

# Mistakes as data: what somebody takes for phi'(a_j), as a function of h_j and a_j.
SLOPES: Mapping[str, Callable[[Array, Array], Array]] = {
    "": lambda h, a: 1 - h**2,
    "1 - a_{j}^2": lambda h, a: 1 - a**2,
    "1 - tanh(h_{j})^2 (tanh twice)": lambda h, a: 1 - np.tanh(h) ** 2,
    "1 - h_{j}": lambda h, a: 1 - h,
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
    "sqrt(1 - h_{j}^2)": lambda h, a: np.sqrt(1 - h**2),
    "1 where h_{j} > 0, else 0 (relu's)": lambda h, a: (h > 0) * 1.0,
    "1 / (1 + a_{j}^2)": lambda h, a: 1 / (1 + a**2),
    "1 - sigmoid(a_{j})^2": lambda h, a: 1 - 1 / (1 + np.exp(-a)) ** 2,
}


class Letter(NamedTuple):
    """A factor: "W", "W^T", phi' at a step by one of SLOPES, or "-", the wrong sign."""

    kind: str
    step: int = 0
    slope: str = ""

    def __str__(self) -> str:
        return {"W": "W_hh", "W^T": "W_hh^T"}.get(self.kind) or f"phi'(a_{self.step})"


Word = tuple[Letter, ...]
W, WT = Letter("W"), Letter("W^T")


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
            elif letter.kind == "-":
                value = -value
            else:
                value = self._weights[letter.kind] @ value
        return value

    def _slope(self, letter: Letter) -> Array:
        if letter not in self._slopes:
            step = letter.step
            if step not in self.states:  # as Python reads a list from its end
                step += self.sizes["T"] * (1 if step < min(self.states) else -1)
            h = self.states[step]
            self._slopes[letter] = SLOPES[letter.slope](h, np.arctanh(h))
        return self._slopes[letter]


def near(got: Array, expected: Array) -> bool:
    """Whether two arrays are the same but for rounding."""
    scale = max(float(np.abs(expected).max(initial=0)), 1e-9)
    return got.shape == expected.shape and bool(np.abs(got - expected).max() <= TOLERANCE * scale)


def ratio(got: Array, expected: Array) -> float | None:
    """Return c where got = c * expected; None where there is no such number, or it is 0."""
    square = float((expected**2).sum())
    c = float((got * expected).sum()) / square if square else 0.0
    return c if abs(c) > TOLERANCE and near(got, c * expected) else None


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
            name
            for name in SCALES
            if all(_equal(c, _factor(name, sizes)) for c, sizes in found)
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


def edits(word: Word, steps: Iterable[int]) -> Iterator[tuple[str, Word]]:
    """Every word that one edit makes of a word, with the sentence that says what was done."""
    steps = list(steps)
    for i, letter in enumerate(word):
        before, after = word[:i], word[i + 1 :]
        yield f"lacks {letter}", before + after
        yield f"has {letter} twice", (*before, letter, letter, *after)
        if letter.kind == "phi":
            for j in steps:
                if j != letter.step:
                    yield f"has {phi(j)} for {letter}", (*before, phi(j), *after)
            for slope in filter(None, SLOPES):
                formula = slope.replace("{j}", str(letter.step))
                yield f"has {formula} for {letter}", (*before, letter._replace(slope=slope), *after)
        else:
            other = W if letter == WT else WT
            yield f"has {other} for its transpose, {letter}", (*before, other, *after)
        if after and after[0].kind != letter.kind:
            sentence = f"has {letter} on the wrong side of {after[0]}"
            yield sentence, (*before, after[0], letter, *after[1:])
    for i in range(len(word) + 1):
        for letter in (*map(phi, steps), WT, W):
            yield f"has a factor {letter} too many", (*word[:i], letter, *word[i:])


class Rule(NamedTuple):
    """An edit of all letters of a kind at once: mistakes as data."""

    sentence: str
    kind: str
    put: Callable[[Letter], Word]


def _slope_rules() -> Iterator[Rule]:
    for slope in filter(None, SLOPES):
        formula = slope.replace("{j}", "t")

        def put(letter: Letter, slope: str = slope) -> Word:
            return (letter._replace(slope=slope),)

        yield Rule(f"{formula} for phi'(a_t)", "phi", put)


RULES = (
    Rule("phi' is lacking", "phi", lambda letter: ()),
    Rule("phi' stands twice", "phi", lambda letter: (letter, letter)),
    Rule("phi'(a_{t-1}) for phi'(a_t)", "phi", lambda letter: (phi(letter.step - 1),)),
    Rule("phi'(a_{t+1}) for phi'(a_t)", "phi", lambda letter: (phi(letter.step + 1),)),
    Rule("phi'(a_{t-2}) for phi'(a_t)", "phi", lambda letter: (phi(letter.step - 2),)),
    *_slope_rules(),
    Rule("the wrong sign at each step back", "W^T", lambda letter: (WT, Letter("-"))),
    Rule("the wrong sign of W_hh", "W", lambda letter: (W, Letter("-"))),
    Rule("W_hh for its transpose", "W^T", lambda letter: (W,)),
    Rule("W_hh^T for W_hh", "W", lambda letter: (WT,)),
    Rule("W_hh^T is lacking", "W^T", lambda letter: ()),
    Rule("W_hh is lacking", "W", lambda letter: ()),
    Rule("W_hh^T stands twice", "W^T", lambda letter: (WT, WT)),
    Rule("W_hh stands twice", "W", lambda letter: (W, W)),
)
# Which letters of a kind a rule changes.
WHERE: Mapping[str, Callable[[int, Word], bool]] = {
    "everywhere": lambda i, word: True,
    "in what is carried back": lambda i, word: i + 1 < len(word) or word[i].kind != "phi",
    "in delta_s = phi'(a_s) * c_s": lambda i, word: i + 1 == len(word) and word[i].kind == "phi",
    "at the loss's own step": lambda i, word: i == 0,
    "but at the loss's own step": lambda i, word: i > 0,
}


def apply(rule: Rule, where: str, word: Word) -> Word:
    """The word after a rule."""
    return tuple(
        new
        for i, letter in enumerate(word)
        for new in (rule.put(letter) if letter.kind == rule.kind and WHERE[where](i, word) else (letter,))
    )


def _uniform(word: Word) -> Iterator[tuple[str, Word]]:
    for where, rule in itertools.product(WHERE, RULES):
        if (new := apply(rule, where, word)) != word:
            yield f"{rule.sentence}, {where}", new


def explain(word: Word, cases: Sequence[Case]) -> list[str]:
    """Say which edits make of a word what was measured in all cases.

    Returns:
        Sentences, each of which explains everything; more than one where the numbers do not
        separate them. Those with the fewest edits only, and none where two are not enough. Where
        nothing explains all cases, those of the first one's number of steps are explained.
    """
    same = [case for case in cases if case.sizes["T"] == cases[0].sizes["T"]]
    found = _explain(word, cases)
    if found or len(same) == len(cases):
        return found
    return [f"{sentence} (where T={cases[0].sizes['T']})" for sentence in _explain(word, same)]


def _explain(word: Word, cases: Sequence[Case]) -> list[str]:
    steps = sorted(cases[0].states)
    single = list(dict.fromkeys(edits(word, steps)))
    levels: list[Iterable[tuple[str, Word]]] = [
        [("", word)],
        single,
        _uniform(word),
        (
            (f"{first} and {second}", twice)
            for first, once in single
            for second, twice in edits(once, steps)
        ),
    ]
    for level in levels:
        exact: dict[Word, str] = {}
        scaled: dict[Word, str] = {}
        seen = set()
        for sentence, new in level:
            if (same := _sorted(new)) in seen:
                continue
            seen.add(same)
            first = ratio(cases[0].got, cases[0].value(new))
            if first is None:
                continue
            found = [(ratio(case.got, case.value(new)), case.sizes) for case in cases]
            factors = [(c, sizes) for c, sizes in found if c is not None]
            if len(factors) < len(cases):
                continue
            if all(abs(c - 1) < 1e-4 for c, _ in factors):
                exact[new] = sentence
            elif name := scale(factors):
                scaled[new] = f"{sentence} and {name}" if sentence else name
        if sentences := list((exact or scaled).values()):
            return sentences
    return []


def _sorted(word: Word) -> Word:
    """The same product with phi's that stand side by side in one order: they commute."""
    parts = itertools.groupby(word, lambda letter: letter.kind)
    return tuple(letter for kind, part in parts for letter in (sorted(part) if kind == "phi" else part))


def simplest(
    fields: Sequence[Iterable[str]],
    explains: Callable[[tuple[str, ...]], str | None],
    most: int = 3,
) -> list[str]:
    """Say which choices explain what was measured, those with the fewest mistakes.

    Args:
        fields: for each thing that may be wrong the mistakes, "" among them for none.
        explains: returns None where these choices do not explain it, else what more is wrong, or "".
        most: mistakes at once.
    """
    for number in range(most + 1):
        found: dict[str, bool] = {}
        for which in itertools.combinations(range(len(fields)), number):
            options = [filter(None, f) if i in which else [""] for i, f in enumerate(fields)]
            for names in itertools.product(*options):
                if (more := explains(names)) is not None:
                    found[" and ".join(filter(None, [*names, more]))] = bool(more)
        if found:
            fewest = min(found.values())
            return [sentence for sentence, scaled in found.items() if scaled == fewest]
    return []
