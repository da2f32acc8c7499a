"""Every picture can be read on a phone, whatever it shows."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from pictures import FAST, PICTURES, faults

from bptt_lab.training import naming

SLOW = pytest.mark.slow
CASES = [
    pytest.param(name, marks=() if number < FAST and number % 2 == 0 else SLOW)
    for number, name in enumerate(PICTURES)
]


@pytest.mark.parametrize("name", CASES)
def test_all_that_is_written_can_be_read(name: str, tmp_path: Path) -> None:
    drawn = PICTURES[name](tmp_path)
    assert drawn
    for figure in drawn:
        title = figure.get_suptitle() or figure.axes[0].get_title(loc="left")
        assert faults(figure) == [], title


def test_names_move_no_farther_than_they_must() -> None:
    assert naming.apart([10, 30, 60], 10, 0, 100) == [10, 30, 60]
    assert naming.apart([50, 50, 50], 10, 0, 100) == [40, 50, 60]
    assert naming.apart([0, 0, 100], 10, 5, 95) == [5, 15, 95]
    assert naming.apart([98, 99], 10, 5, 95) == [85, 95]


@pytest.mark.parametrize(
    ("draw", "fault"),
    [
        (lambda figure: figure.text(0.5, 0.5, "x", fontsize=5), "has 6"),
        (lambda figure: figure.text(0.98, 0.5, "over"), "goes over the edge"),
        (lambda figure: figure.text(0.5, 0.5, "pale", color="#BBBBBB"), "has a contrast of 1.9"),
        (lambda figure: [figure.text(0.5, 0.5, "a b"), figure.text(0.5, 0.5, "c d")], "lies on"),
        (lambda figure: figure.subplots(gridspec_kw={"left": 0.2}), "has no name"),
    ],
)
def test_each_fault_is_seen(draw, fault: str) -> None:
    draw(figure := Figure(figsize=(4, 3)))
    assert any(fault in found for found in faults(figure))
