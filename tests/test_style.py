"""The style of pictures: a strategy's colour follows from its name; numbers on axes are plain."""

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bptt_lab.training import style

# Those for which the rule's constant was chosen. A later one may come near another's colour.
STRATEGIES = (
    *("adaptive", "artbp", "autograd", "checkpointed", "credit_clip", "feedback_alignment", "full"),
    *("kf_rtrl", "rflo", "rtrl", "snap1", "truncated", "uoro"),
)
# Linear RGB as seen without one kind of cones, Machado, Oliveira & Fernandes (2009), severity 1.
EYES = {
    "normal": np.eye(3),
    "deuteranope": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanope": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}
XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
WHITE = (0.9505, 1.0, 1.089)


def lab(colour: str, eye: str) -> np.ndarray:
    """CIE Lab of a colour as an eye sees it."""
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    x, y, z = XYZ @ np.clip(EYES[eye] @ linear, 0, 1) / WHITE
    f = [np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(colour: str, other: str = "#FFFFFF") -> float:
    """The contrast of two colours, WCAG 2.2."""
    levels = []
    for each in (colour, other):
        srgb = np.array([int(each[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        levels.append(float(np.array(XYZ[1]) @ linear) + 0.05)
    return max(levels) / min(levels)


# 2 is the least difference that one sees at all.
@pytest.mark.parametrize(("eye", "apart"), [("normal", 20), ("deuteranope", 12), ("protanope", 12)])
def test_strategies_are_told_apart_by_their_colours(eye: str, apart: float) -> None:
    for one, other in combinations(STRATEGIES, 2):
        distance = np.linalg.norm(lab(style.colour(one), eye) - lab(style.colour(other), eye))
        assert distance > apart, (one, other)


@pytest.mark.parametrize("number", [2, 3, 5])
def test_shades_of_truncation_are_no_other_strategy_s_colour(number: int) -> None:
    for i in range(number):
        shade = lab(style.shade(style.colour("truncated"), i, number), "normal")
        for name in set(STRATEGIES) - {"truncated"}:
            assert np.linalg.norm(shade - lab(style.colour(name), "normal")) > 20, name


def test_a_new_strategy_has_a_colour_that_is_the_same_in_every_process() -> None:
    code = "from bptt_lab.training import style; print(style.colour('mine'))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == style.colour("mine")
    assert style.colour("mine") in style.COLOURS


def test_any_colour_is_seen_on_white() -> None:
    assert len(set(style.COLOURS)) == 48
    assert all(
        np.linalg.norm(lab(c, "normal") - lab("#FFFFFF", "normal")) > 40 for c in style.COLOURS
    )


def test_shades_run_from_dark_to_light() -> None:
    assert style.shade("#C46D01", 0, 1) == "#C46D01"
    for number in (2, 3, 7):
        lightness = [lab(style.shade("#C46D01", i, number), "normal")[0] for i in range(number)]
        assert lightness == sorted(lightness) and len(set(lightness)) == number


def test_the_style_needs_no_torch_and_leaves_nothing_behind() -> None:
    code = (
        "import sys\n"
        "from matplotlib import rcParams\n"
        "from bptt_lab.training import style\n"
        "grid = style.styled(lambda: rcParams['axes.grid'])()\n"
        "assert grid and not rcParams['axes.grid']\n"
        "assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_lines_that_cover_each_other_take_turns() -> None:
    axes = Figure().subplots()
    (one,), (same,), (other,) = (axes.plot([0, 1], ys) for ys in ([1, 2], [1, 2.0001], [1, 3]))
    dots = axes.plot([0, 1], [1, 2], "o")[0]
    style.take_turns(axes.lines)
    assert [line.get_linestyle() for line in (one, same, other, dots)] == ["-", "--", "-", "None"]


@pytest.mark.parametrize(("low", "high"), [(1e-4, 1.0), (0.6, 1.9)])
def test_numbers_on_logarithmic_axes_are_plain(low: float, high: float) -> None:
    axes = Figure().subplots()
    axes.plot([0, 1], [low, high])
    style.logarithmic(axes.yaxis, low, high)
    assert len(labels(axes.yaxis, low, high)) >= 3


def test_powers_of_two_are_plain_numbers() -> None:
    axes = Figure().subplots()
    axes.plot([1, 64], [0, 1])
    style.powers_of_two(axes.xaxis, [1, 8, 64])
    assert labels(axes.xaxis, 1, 64) == ["1", "8", "64"]


def labels(axis, low: float, high: float) -> list[str]:
    """The labels of an axis, each of which is a number."""
    FigureCanvasAgg(axis.figure).draw()
    pairs = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
    texts = [label.get_text() for tick, label in pairs if low <= tick <= high]
    assert all(float(text) for text in texts)  # "0.001", and no TeX
    return texts


def test_what_is_drawn_is_seen_on_white_and_what_is_written_can_be_read() -> None:
    for base in (*style.COLOURS, *(style.plain(i).colour for i in range(4))):
        assert contrast(base) == pytest.approx(style.contrast(base), rel=1e-3)
        assert contrast(base) >= 3
        assert contrast(style.readable(base)) >= 4.5
        shades = [style.shade(base, i, n) for n in (2, 3, 7) for i in range(n)]
        assert min(map(contrast, shades)) >= 3


def test_ticks_stand_where_their_labels_have_room() -> None:
    axes = Figure().subplots()
    axes.set(xlim=(0, 100), ylim=(0, 100))
    style.tick_at(axes.xaxis, [1, 50, 51, 99])
    style.tick_at(axes.yaxis, [0, 50, 51, 100], ["a", "b", "c", "d"])
    assert labels(axes.xaxis, 0, 100) == ["1", "50", "99"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "d"]
