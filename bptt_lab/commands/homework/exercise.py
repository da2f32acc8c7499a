"""What an exercise is: calls of a student's functions, and a judge of the answers.

The judge sees numbers only. Where they come from, a process of its own or a test, is not its
business.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bptt_lab.commands.homework import words
from bptt_lab.commands.homework.words import Array, numbers

Shapes = Mapping[str, tuple[int, ...]]


class Call(NamedTuple):
    """A call of a student's function: its arguments by name, and the shapes of what it returns."""

    function: str
    arguments: Mapping[str, Array | int]
    shapes: Shapes

    @property
    def sizes(self) -> str:
        """The arguments' shapes in a few words."""
        parts = (
            f"{name}={value}" if isinstance(value, int) else f"{name} {value.shape}"
            for name, value in self.arguments.items()
        )
        return f"{self.function}({', '.join(parts)})"


@dataclass(frozen=True)
class Answer:
    """What came of a call: the values, or the problem in words.

    Attributes:
        values: one array an output; none where there is a problem.
        problem: as "raises ValueError in line 3: ..."; empty where there is none.
        not_done: whether it raises NotImplementedError.
        changed: arguments that the call has changed.
    """

    values: Sequence[Any] = ()
    problem: str = ""
    not_done: bool = False
    changed: Sequence[str] = ()


@dataclass(frozen=True)
class Part:
    """A part of an exercise, what it is worth, and what is wrong with it: empty if it is right.

    Attributes:
        name: what is asked.
        worth: its points.
        right: whether they are given.
        findings: sentences; none also where an earlier part's say it.
        not_done: whether the function is still a hole.
    """

    name: str
    worth: int
    right: bool
    findings: Sequence[str] = ()
    not_done: bool = False


class Answers:
    """The answers to all calls, checked for shape and numbers."""

    def __init__(self, calls: Mapping[str, Call], answers: Mapping[str, Answer]) -> None:
        self.calls, self._answers = calls, answers
        self._checked = {name: _check(call, answers[name]) for name, call in calls.items()}
        self._said: set[str] = set()

    def __getitem__(self, name: str) -> dict[str, Array]:
        """The outputs of a call by name."""
        found = self._checked[name]
        assert not isinstance(found, str), found
        return found

    def linear(self, number: int, t: int, output: str) -> Array:
        """What a setting's loss at t adds to an output, over what is there without any loss."""
        found: Array = self[f"terms {number} {t}"][output] - self[f"terms {number} 0"][output]
        return found

    def constant(self, output: str, what: str) -> list[str]:
        """Say so where an output is not 0 although all credit is."""
        for number in self.settings():
            found = self[f"terms {number} 0"][output]
            if np.abs(found).max() > words.TOLERANCE:
                return [f"{output}: is {numbers(found)} where {what} is 0 at all steps"]
        return []

    def problem(self, names: Iterable[str]) -> str:
        """Return the name of the first of some calls that has no usable answer."""
        return next((name for name in names if not self.ok(name)), "")

    def ok(self, name: str) -> bool:
        """Whether a call has a usable answer."""
        return not isinstance(self._checked[name], str)

    def usable(self, name: str) -> bool:
        """Whether a call is a measurement, "terms SETTING T", and its whole setting is answered."""
        kind, *setting = name.split()[:2]
        return kind == "terms" and all(map(self.ok, self.named(f"terms {setting[0]} ")))

    def settings(self) -> list[int]:
        """The numbers of the settings that are usable."""
        numbers = dict.fromkeys(int(name.split()[1]) for name in self.named("terms "))
        return [number for number in numbers if self.usable(f"terms {number}")]

    @property
    def several(self) -> list[str]:
        """The names of the calls with each of a few sequences, and with all of them."""
        return [*self.named("single"), *self.named("batch")]

    def alone(self, output: str) -> list[Array]:
        """An output of each of these sequences."""
        return [self[name][output] for name in self.named("single")]

    def named(self, prefix: str) -> list[str]:
        """The names of calls that begin so."""
        return [name for name in self.calls if name.startswith(prefix)]

    def part(
        self, name: str, worth: int, calls: Sequence[str], find: Callable[[], Sequence[str] | bool]
    ) -> Part:
        """Judge a part, if the calls that it rests on have answers.

        Args:
            name: what is asked.
            worth: its points.
            calls: names of these calls.
            find: what is wrong; or false where it is wrong, and said elsewhere.
        """
        if any(self._answers[call].not_done for call in calls):
            return Part(name, worth, False, not_done=True)
        if bad := self.problem(calls):
            what = str(self._checked[bad])
            kind = re.sub("[0-9]+", "", what)  # the same in other sizes
            said = kind in self._said
            self._said.add(kind)
            others = find() if any(map(self.usable, calls)) else False
            more = [] if isinstance(others, bool) else list(others)
            if said:
                return Part(name, worth, others is not False and not more, more)
            called = "" if what.startswith("the file ") else f"; called as {self.calls[bad].sizes}"
            return Part(name, worth, False, [*more, what + called])
        found = find()
        if isinstance(found, bool):
            return Part(name, worth, found)
        return Part(name, worth, not found, found)

    def together(self, parts: Sequence[Part], right: Callable[..., Mapping[str, Array]]) -> Part:
        """Judge the part of everything together, given what makes of arguments the right answer."""
        names, again = [*self.named("batch"), *self.named("together")], self.named("again")

        def find() -> list[str]:
            for name in names:
                for output, expected in right(*self.calls[name].arguments.values()).items():
                    got = self[name][output]
                    if not words.near(got, expected):
                        at = np.unravel_index(np.abs(got - expected).argmax(), got.shape)
                        values = f"is {got[at]:.5g}, must be {expected[at]:.5g}"
                        where = f"{output}{list(map(int, at))}"
                        return [f"{self.calls[name].sizes}: {where} {values}"]
            for name in again:
                for output, value in self[name.removeprefix("again ")].items():
                    if not words.near(self[name][output], value):
                        return ["the same arguments give another answer the second time"]
            return []

        name = "everything together, in other sizes"
        part = self.part(name, 1, [*names, *again], find)
        if not part.right and not all(p.right for p in parts):
            return Part(name, 1, False, not_done=part.not_done)
        return part


@dataclass(frozen=True)
class Exercise:
    """One file of the homework.

    Attributes:
        file: its name.
        title: what it is about, in a few words.
        see: where to read about it.
        calls: makes the calls.
        judge: makes the parts of the answers.
    """

    file: str
    title: str
    see: str
    calls: Callable[[], dict[str, Call]]
    judge: Callable[[Answers], list[Part]]


@dataclass(frozen=True)
class Verdict:
    """What became of one exercise.

    Attributes:
        exercise: which.
        parts: judged one by one; empty where nothing could be called.
        problem: why nothing could be called.
        notes: what is no mistake, and better known.
    """

    exercise: Exercise
    parts: Sequence[Part] = ()
    problem: str = ""
    notes: Sequence[str] = ()

    @property
    def points(self) -> int:
        """The points that it got."""
        return sum(part.worth for part in self.parts if part.right)

    @property
    def status(self) -> str:
        """One of right, wrong, not done, failed."""
        if self.problem:
            return "not done" if self.problem == MISSING else "failed"
        if all(part.right for part in self.parts):
            return "right"
        done = any(not part.not_done for part in self.parts)
        return "wrong" if done else "not done"


MISSING = "there is no such file"
WORTH = 10  # points of an exercise


def judge(exercise: Exercise, answers: Mapping[str, Answer]) -> Verdict:
    """Judge the answers to an exercise's calls."""
    with np.errstate(all="ignore"):  # an answer may hold numbers whose squares are infinite
        parts = exercise.judge(Answers(exercise.calls(), answers))
    assert sum(part.worth for part in parts) == WORTH
    changed = sorted({name for answer in answers.values() for name in answer.changed})
    note = f"changes its argument {', '.join(changed)}; whoever calls it may still need that"
    return Verdict(exercise, parts, notes=[note] if changed else [])


def _check(call: Call, answer: Answer) -> dict[str, Array] | str:
    """The outputs by name, or what is wrong with them."""
    if answer.problem:
        return answer.problem
    if len(answer.values) != len(call.shapes):
        names = ", ".join(call.shapes)
        return f"returns {len(answer.values)} things, must return {len(call.shapes)}: {names}"
    found = {}
    for (name, shape), value in zip(call.shapes.items(), answer.values, strict=True):
        try:
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            return (
                f"returns {name} that is no tensor, array or list of numbers in rows of one length"
            )
        if array.shape != shape:
            hint = ""
            if array.ndim == 2 and array.shape[::-1] == shape:
                hint = ": it is transposed"
            elif others := [n for n, other in call.shapes.items() if other == array.shape]:
                hint = f", which is that of {others[0]}: is the order right?"
            return f"returns {name} of shape {array.shape}, must be {shape}{hint}"
        if not np.isfinite(array).all():
            index = list(map(int, np.argwhere(~np.isfinite(array))[0]))
            bad = "nan" if math.isnan(array[tuple(index)]) else "infinite"
            return f"returns {name} that is {bad} at index {index}"
        found[name] = array
    return found


def differ(name: str, got: Array, expected: Array) -> str:
    """Say what is and what must be."""
    return f"{name}: is {numbers(got)}, must be {numbers(expected)}"
