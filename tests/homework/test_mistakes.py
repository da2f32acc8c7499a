"""Each planted mistake gets the right sentence, and no right answer loses a point."""

import pytest

from .answers import RIGHT, findings, grade, planted
from .mistakes import ONE, TWO
from .variants import VARIANTS


def some(cases: list) -> list:
    """Every fourth of them; the others are slow tests."""
    return [
        pytest.param(*case, marks=[pytest.mark.slow] if number % 4 else [])
        for number, case in enumerate(cases)
    ]


@pytest.mark.parametrize(("file", "replacement", "sentence"), some(ONE))
def test_a_mistake_is_named(file, replacement, sentence):
    verdict = planted(file, replacement)
    assert any(sentence in finding for finding in findings(verdict)), findings(verdict)
    assert verdict.status == "wrong" and verdict.points < 10


@pytest.mark.parametrize(("file", "replacements", "sentences"), some(TWO))
def test_mistakes_at_once_are_all_named(file, replacements, sentences):
    found = findings(planted(file, *replacements))
    for sentence in sentences:
        assert any(sentence in finding for finding in found), found


@pytest.mark.parametrize(
    ("file", "code"),
    [*RIGHT.items(), *((file, code) for file, _, code in VARIANTS)],
    ids=[*RIGHT, *(f"{file} {name}" for file, name, _ in VARIANTS)],
)
def test_a_right_answer_gets_all_points(file, code):
    verdict = grade(file, code)
    assert findings(verdict) == []
    assert verdict.status == "right" and verdict.points == 10 and not verdict.notes


@pytest.mark.parametrize("file", ["4_chunk.py", "5_lag.py"])
def test_two_shifts_get_no_word_of_the_terms(file):
    s = "t" if file == "4_chunk.py" else "s"
    shifted = (f"input[{s}]", f"input[{s} - 1]"), (f"before[{s}]", f"h[{s}]")
    parts = planted(file, *shifted).parts
    assert [part.name.partition(":")[0] for part in parts if part.findings] == [
        "weight_ih",
        "weight_hh",
    ]
