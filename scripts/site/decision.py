"""The picture of docs/choosing.md: from questions to a gradient strategy."""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from bptt_lab.training import style


class Question(NamedTuple):
    """A question, and what to take where the answer is yes."""

    words: str
    strategy: str
    hint: str


QUESTIONS = (
    Question("Do the states of a\nwhole sequence fit in\nmemory? L·N·H numbers", "full", "exact"),
    Question(
        "Does the sequence end,\nand may the update\nwait for its end?",
        "checkpointed",
        "exact, about\n4.5 √L·N·H numbers",
    ),
    Question(
        "Does what is to be\nlearnt lie less than\nk steps back?",
        "truncated",
        "mode=lag or window;\nadaptive finds k",
    ),
    Question(
        "One layer of at most\nsome 64 units?",
        "rtrl",
        "exact, and nothing\nis cut",
    ),
    Question(
        "Must the gradient be\nunbiased?",
        "uoro",
        "noisy; kf_rtrl less so,\nto some 100 units",
    ),
)
LAST = ("snap1", "biased; rflo with a\nleak below 1")
# Inches: of the picture, of a row, of the boxes.
WIDTH, ROW, LEFT, RIGHT, HIGH = 3.75, 0.92, 1.72, 1.55, 0.66


@style.styled
def decision() -> Figure:
    """Questions down the left, strategies on the right, the remaining one at the bottom."""
    rows = len(QUESTIONS) + 1
    fig = Figure(figsize=(WIDTH, rows * ROW))
    axes = fig.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(rows * ROW, 0))
    axes.axis("off")
    right = WIDTH - RIGHT - 0.04
    for number, question in enumerate(QUESTIONS):
        y = (number + 0.5) * ROW
        _box(axes, 0.04, y, LEFT, style.WASH, style.FAINT)
        axes.text(0.12, y, question.words, va="center", fontsize=8.5, color=style.INK)
        _answer(axes, right, y, question.strategy, question.hint)
        _arrow(axes, (LEFT + 0.06, y), (right - 0.02, y), "yes", (0, -0.09))
        below = y + ROW - HIGH / 2
        _arrow(axes, (0.04 + LEFT / 2, y + HIGH / 2), (0.04 + LEFT / 2, below), "no", (0.17, 0.04))
    _answer(axes, 0.04, (rows - 0.5) * ROW, *LAST, LEFT)
    return fig


def _answer(axes: Axes, left: float, y: float, name: str, hint: str, width: float = RIGHT) -> None:
    _box(axes, left, y, width, "white", style.colour(name))
    axes.text(left + 0.08, y - 0.18, name, va="center", fontsize=10, fontweight="bold")
    axes.text(left + 0.08, y + 0.1, hint, va="center", fontsize=8, color=style.INK)


def _box(axes: Axes, left: float, y: float, width: float, face: str, edge: str) -> None:
    shape = "round,pad=0,rounding_size=0.06"
    corner = (left, y - HIGH / 2)
    box = FancyBboxPatch(corner, width, HIGH, shape, facecolor=face, edgecolor=edge, linewidth=1.6)
    axes.add_patch(box)


def _arrow(
    axes: Axes,
    begin: tuple[float, float],
    end: tuple[float, float],
    word: str,
    beside: tuple[float, float],
) -> None:
    look = {"arrowstyle": "-|>", "color": style.GREY, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, begin, arrowprops=look)
    x, y = ((one + other) / 2 for one, other in zip(begin, end, strict=True))
    place = {"ha": "center", "va": "center", "fontsize": 8, "color": style.GREY}
    axes.text(x + beside[0], y + beside[1], word, **place)
