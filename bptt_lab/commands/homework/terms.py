"""What is wrong with the terms (t, s) of an answer: which are there, and what each is made of.

term[t, s] = what the loss at t gives to step s, measured by a q that is 0 at all other steps
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bptt_lab.commands.homework import edits, words
from bptt_lab.commands.homework.edits import WHERE
from bptt_lab.commands.homework.masks import (
    BY_K,
    COUNTS,
    LACKING,
    LACKING_BY_K,
    LOSSES,
    MASKS,
    PLACES,
    Mask,
)
from bptt_lab.commands.homework.words import TOLERANCE, Array, Case, Word, numbers


class Measured(NamedTuple):
    """The terms of one setting: sizes, states h_j, W_hh, q_t by step, and the terms (T, T, H)."""

    sizes: Mapping[str, int]
    states: Mapping[int, Array]
    weight_hh: Array
    q: Array
    got: Array

    @property
    def steps(self) -> range:
        """The steps, from 1."""
        return range(1, self.sizes["T"] + 1)

    def case(self, t: int, s: int) -> Case:
        """What was measured of one term."""
        return Case(self.states, self.weight_hh, self.q[t - 1], self.got[t - 1, s - 1], self.sizes)

    def at(self, t: int, s: int) -> str:
        """The term's name, with k where there is one."""
        k = f"T={self.sizes['T']}, k={self.sizes['k']}: " if "k" in self.sizes else ""
        return f"{k}t={t}, s={s}"


class Judge:
    """The verdict on terms that were measured in several settings.

    Args:
        measured: the terms.
        right: which of them belong there, of those with s <= t.
        delta: whether a term is delta's part, and not credit's.
        step: the letter of a step in a sentence about all terms: t, or s where t is the loss's.

    Attributes:
        misplaced: says that all terms are right and stand in a wrong place; or empty.
        values: what is wrong with terms that are there and belong there; empty if all are right.
        cut: what is wrong with the choice of terms; empty if it is right.
    """

    def __init__(
        self, measured: Sequence[Measured], right: Mask, delta: bool, step: str = "t"
    ) -> None:
        self.measured, self._right, self._delta, self._step = measured, right, delta, step
        self._by_k = all("k" in m.sizes for m in measured)
        self._at = [(m, t, s) for m in measured for t in m.steps for s in m.steps]
        self._value = {(id(m), t, s): self._whole(m, t, s) for m, t, s in self._at}
        self._there = [self._is_there(*at) for at in self._at]
        self._kept = [self.keeps(*at) for at in self._at]
        self.values: list[str] = []
        self.cut: list[str] = []
        self._wrong: list[tuple[Measured, int, int]] = []
        self.misplaced = ""
        self._present = [
            at for at, there in zip(self._at, self._there, strict=True) if there and at[2] <= at[1]
        ]
        wrong = [at for at in self._present if not self._is(at, self._value[_key(at)])]
        if not wrong and self._there == self._kept:
            return
        self.misplaced = self._misplaced()
        if self.misplaced:
            return
        self._wrong = sorted(wrong, key=_by_lag)
        if self._wrong:
            self.values = list(self._explain_values())
        if self._there != self._kept:
            self.cut = [self._explain_cut()]

    def keeps(self, m: Measured, t: int, s: int) -> bool:
        """Whether a term belongs there."""
        return s <= t and self._right(t, s, m.sizes["T"], m.sizes.get("k", 0))

    @property
    def is_empty(self) -> bool:
        """Whether no term is there, so that nothing can be said of what is made of them."""
        return not any(self._there)

    def is_right(self, lag: Callable[[int], bool] = lambda lag: True) -> bool:
        """Whether the terms of some lags t - s are right: there, or cut, and of the right value."""
        bad = [t - s for _, t, s in self._wrong]
        pairs = zip(self._at, self._there, self._kept, strict=True)
        bad += [t - s for (_, t, s), there, kept in pairs if there != kept]
        return not self.misplaced and not any(map(lag, bad))

    def rights(self) -> list[Array]:
        """What the terms must be, as those that were measured."""
        return [
            np.stack(
                [
                    [self._whole(m, t, s) if self.keeps(m, t, s) else 0 * m.q[0] for s in m.steps]
                    for t in m.steps
                ]
            )
            for m in self.measured
        ]

    def _word(self, t: int, s: int) -> Word:
        return words.credit(t, s, delta=self._delta)

    def _whole(self, m: Measured, t: int, s: int) -> Array:
        """The right value of a term, whether or not it is cut."""
        return m.case(t, s).value(self._word(t, s)) if s <= t else 0 * m.q[0]

    def _is_there(self, m: Measured, t: int, s: int) -> bool:
        size = float(np.abs(m.got[t - 1, s - 1]).max())
        usual = max(float(np.abs(self._value[id(m), t, s]).max()) for s in m.steps)
        return size > TOLERANCE * usual

    def _is(self, at: tuple[Measured, int, int], value: Array) -> bool:
        m, t, s = at
        return words.near(m.got[t - 1, s - 1], value)

    def _misplaced(self) -> str:
        """Say that the answer at s is what belongs to another step."""

        def moved(m: Measured, t: int, s: int) -> Array:
            return self._value[id(m), t, s] if s in m.steps and self.keeps(m, t, s) else 0 * m.q[0]

        for sentence, place in PLACES.items():
            if all(self._is(at, moved(*at[:2], place(at[2], at[0].sizes["T"]))) for at in self._at):
                return sentence
        for sentence, taken in LOSSES.items():
            if all(self._is(at, self._taken(taken, *at)) for at in self._at):
                return sentence
        return ""

    def _taken(self, taken: Callable[[int, int], int | None], m: Measured, t: int, s: int) -> Array:
        """The term if q_t is taken at other steps than t."""
        value: Array = 0 * m.q[0]
        for step in m.steps:
            if taken(step, m.sizes["T"]) == t and self.keeps(m, step, s):
                value = value + m.case(t, s).value(self._word(step, s))
        return value

    def _explain_values(self) -> Iterator[str]:
        m, t, s = self._wrong[0]
        cases = [m.case(t, s) for m, *at in self._wrong if at == [t, s]]
        found = edits.explain(self._word(t, s), cases)
        if all(" and " in sentence for sentence in found):
            found = self._elsewhere(t, s, cases) or found
        text = " or ".join(found[:3])
        if not found:
            got, expected = m.got[t - 1, s - 1], self._value[id(m), t, s]
            text = f"is {numbers(got)}, must be {numbers(expected)}"
        always = len(cases) == len([at for at in self._present if at[1:] == (t, s)])
        where = "" if always or self._by_k else f", where T={m.sizes['T']}"
        yield f"{m.at(t, s)}{where}: {text}"
        if len({at[1:] for at in self._wrong}) == 1:
            return
        twice = bool(found) and all(" and " in sentence for sentence in found)
        if everywhere := self._everywhere(twice):
            yield f"what explains all terms: {' or '.join(everywhere[:3])}"
            return
        same = [at for at in self._wrong[1:] if self._has(at, found)]
        others = [at for at in self._wrong[1:] if at[1:] != (t, s)]
        if same and len(same) + len(cases) >= len(self._wrong):
            yield f"so it is with all other wrong terms, (t, s) = {_listed(others)}"
        else:
            yield f"other terms (t, s) that are wrong: {_listed(others)}"

    def _elsewhere(self, t: int, s: int, cases: Sequence[Case]) -> list[str]:
        """Say which other term stands there."""
        steps = range(1, max(cases[0].states) + 1)
        others = {f"is the term (t, s) = ({t}, {j})": self._word(t, j) for j in steps if j <= t}
        more = {f"is what q_{t} gives as q_{j}": self._word(j, s) for j in steps if j >= s}
        return [
            sentence
            for sentence, word in {**others, **more}.items()
            if all(words.near(case.got, case.value(word)) for case in cases)
        ]

    def _everywhere(self, twice: bool) -> list[str]:
        """The rules that explain all terms, each with where it holds; pairs of them if `twice`."""
        ratios = [
            words.ratio(m.got[t - 1, s - 1], self._value[id(m), t, s]) for m, t, s in self._present
        ]
        sizes = [m.sizes for m, _, _ in self._present]
        if all(ratios) and (name := words.scale(list(zip(ratios, sizes, strict=True)))):  # type: ignore[arg-type]
            return [f"every one {name}"]
        if counts := [name for name, count in COUNTS.items() if self._counts(count)]:
            return counts
        found = {}
        for where, rule in itertools.product(WHERE, edits.RULES):
            if rule.sentence not in found and self._holds(rule, where):
                found[rule.sentence] = f"{rule.sentence}, {where}"
        if found or not twice:
            return [words.of_step(sentence, self._step) for sentence in found.values()]
        places = [
            where for where in WHERE if self._delta or where != "in delta_s = phi'(a_s) * c_s"
        ]
        pairs = itertools.combinations(itertools.product(places[:3], edits.RULES), 2)
        for (where, rule), (there, other) in pairs:
            name = ", and ".join(sorted((rule.sentence, other.sentence)))
            new = rule.kind != other.kind and name not in found
            if new and self._holds(rule, where, (other, there)):
                found[name] = words.of_step(name, self._step)
        return list(found.values())

    def _counts(self, count: Callable[[int, int, int, int], float]) -> bool:
        """Whether every term is there as often as that says."""
        return self._by_k and all(
            self._is(at, self._value[_key(at)] * count(*at[1:], at[0].sizes["T"], at[0].sizes["k"]))
            for at in self._present
        )

    def _holds(self, rule: edits.Rule, where: str, *more: tuple[edits.Rule, str]) -> bool:
        def value(m: Measured, t: int, s: int) -> Array:
            word = edits.apply(rule, where, self._word(t, s))
            for other, there in more:
                word = edits.apply(other, there, word)
            return m.case(t, s).value(word)

        return all(self._is(at, value(*at)) for at in self._present)

    def _has(self, at: tuple[Measured, int, int], sentences: Sequence[str]) -> bool:
        """Whether one of the sentences is true of another term, too."""
        case = at[0].case(*at[1:])
        made = dict(edits.edits(self._word(*at[1:]), case.states))
        return any(s in made and self._is(at, case.value(made[s])) for s in sentences)

    def _explain_cut(self) -> str:
        if not any(self._there):
            return "every term is missing: q changes nothing"
        found = [name for name, mask in self._masks() if self._fits(mask, 0)]
        if not found and self._by_k:
            named = [name for name, mask in self._masks() if self._fits(mask, 2)]
            found = [f"{name} (where k > 1)" for name in named]
        pairs = zip(self._at, self._there, self._kept, strict=True)
        wrong = sorted((at for at, there, kept in pairs if there != kept), key=_by_lag)
        m, t, s = wrong[0]
        what = "is missing" if self.keeps(m, t, s) else "is there, and must not be"
        if s > t:
            what = "is there: credit goes forward in time, or index -1 is used"
        if found:
            return f"{' or '.join(found[:3])}; the first such term: {m.at(t, s)} {what}"
        same = [at for at in wrong[1:] if at[0] is m]
        return f"{m.at(t, s)} {what}{f'; wrong, too: (t, s) = {_listed(same)}' if same else ''}"

    def _masks(self) -> Iterator[tuple[str, Mask]]:
        yield from [*MASKS.items(), *(BY_K.items() if self._by_k else ())]
        for name, mask in [*LACKING.items(), *(LACKING_BY_K.items() if self._by_k else ())]:
            yield name, self._and(mask)

    def _and(self, mask: Mask) -> Mask:
        return lambda t, s, T, k: self._right(t, s, T, k) and mask(t, s, T, k)

    def _fits(self, mask: Mask, low: int) -> bool:
        """Whether a mask explains which terms are there, in all settings with k >= low."""
        fits = [
            there == (s <= t and mask(t, s, m.sizes["T"], m.sizes.get("k", 0)))
            for (m, t, s), there in zip(self._at, self._there, strict=True)
            if m.sizes.get("k", 0) >= low
        ]
        return bool(fits) and all(fits)


def _key(at: tuple[Measured, int, int]) -> tuple[int, int, int]:
    return id(at[0]), at[1], at[2]


def _by_lag(at: tuple[Measured, int, int]) -> tuple[int, int]:
    """The shortest lag first: its term has the fewest factors."""
    return abs(at[1] - at[2]), at[1]


def _listed(terms: Sequence[tuple[Measured, int, int]]) -> str:
    found = [f"({t}, {s})" for t, s in dict.fromkeys((t, s) for _, t, s in terms)]
    return ", ".join(found[:6]) + (", ..." if found[6:] else "")
