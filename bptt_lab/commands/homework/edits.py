"""The edits of a word, and which of them make of it what was measured.

Whoever looks for a mistake tries all edits, the fewest first.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bptt_lab.commands.homework.words import (
    LAST,
    SLOPES,
    WT,
    Case,
    Letter,
    W,
    Word,
    near,
    numbers,
    phi,
    ratio,
    scale,
)


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
    Rule(
        "phi'(a_{t-1}) for phi'(a_t), and phi'(a_T) at t=1 (index -1)",
        "phi",
        lambda letter: (phi(letter.step - 1 if letter.step > 1 else LAST),),
    ),
    Rule("phi'(a_{t+1}) for phi'(a_t)", "phi", lambda letter: (phi(letter.step + 1),)),
    Rule("phi'(a_{t-2}) for phi'(a_t)", "phi", lambda letter: (phi(letter.step - 2),)),
    *_slope_rules(),
    Rule("the wrong sign at each step back", "W^T", lambda letter: (WT, Letter("-1"))),
    Rule("each step back counts twice", "W^T", lambda letter: (WT, Letter("2"))),
    Rule("the wrong sign of W_hh", "W", lambda letter: (W, Letter("-1"))),
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
        for new in (
            rule.put(letter) if letter.kind == rule.kind and WHERE[where](i, word) else (letter,)
        )
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
    return tuple(
        letter for kind, part in parts for letter in (sorted(part) if kind == "phi" else part)
    )


def simplest(
    fields: Sequence[Iterable[str]],
    explains: Callable[[tuple[str, ...]], str | None],
    most: int = 3,
) -> list[str]:
    """Say which choices explain what was measured, those with the fewest mistakes.

    Args:
        fields: for each thing that may be wrong the mistakes, "" among them for none.
        explains: returns None where these choices do not explain it, else what more is wrong.
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


def compare(cells: Sequence[tuple[str, Word, Case]]) -> list[str]:
    """Say what is wrong with values each of which is a word of something of the answer's own.

    Args:
        cells: name, right word and what was measured; cells of one name are cases of one thing.
    """
    wrong = [cell for cell in cells if not near(cell[2].got, cell[2].value(cell[1]))]
    if not wrong:
        return []
    name, word, case = wrong[0]
    if not case.got.any():
        return [f"{name}: is missing"]
    same = [c for n, _, c in wrong if n == name]
    found = explain(word, same)
    where = ""
    if len(same) < len([n for n, _, _ in cells if n == name]):
        where = f", where T={case.sizes['T']}"
    text = " or ".join(found[:3])
    text = text or f"is {numbers(case.got)}, must be {numbers(case.value(word))}"
    sentences = [f"{name}{where}: {text}"]
    everywhere = [
        rule.sentence
        for rule in RULES
        if all(near(c.got, c.value(apply(rule, "everywhere", w))) for _, w, c in cells)
    ]
    others = [n for n in dict.fromkeys(n for n, _, _ in wrong) if n != name]
    if others and everywhere:
        sentences.append(f"what explains all steps: {' or '.join(everywhere)}")
    elif others:
        sentences.append(f"wrong, too: {'; '.join(others[:5])}{'; ...' if others[5:] else ''}")
    return sentences
