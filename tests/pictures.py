"""Pictures as readers meet them: what is drawn, and what is wrong with it on a phone, measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from league import league_folders
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from report.sweep_folders import half_finished, write_sweep
from test_style import STRATEGIES, contrast

from bptt_lab.commands.compare import figure as compare
from bptt_lab.commands.compare.measurement import Alike, Comparison, Measurement
from bptt_lab.commands.compare.request import Option
from bptt_lab.commands.explain import cli as explain
from bptt_lab.commands.horizon import figure as horizon
from bptt_lab.commands.horizon.longest import Line
from bptt_lab.commands.league import cli as league
from bptt_lab.commands.report import write_report
from bptt_lab.config.schema import Component
from bptt_lab.lab import figures
from bptt_lab.training import style
from bptt_lab.training.callbacks import pictures

PHONE = 390  # pixels across
PIXELS = 9  # of the smallest text there
LONG = "a_gradient_strategy_of_ours_with_a_name_that_goes_on_and_on"
MODES = ("chunk", "lag", "window", "tail")


@contextmanager
def gathered(found: list[Figure]) -> Iterator[None]:
    """Have pictures handed over where they would be written."""

    def save(figure: Figure, path: Path) -> None:
        found.append(figure)
        path.write_bytes(b"")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", save)
        yield


def drawn_texts(figure: Figure) -> list[tuple[Text, Any]]:
    """The texts that a reader sees, each with its box in pixels."""
    texts: list[Text] = []
    draw = Text.draw

    def record(self: Text, renderer: Any, *args: Any, **kwargs: Any) -> Any:
        if self.get_visible() and self.get_text().strip():
            texts.append(self)
        return draw(self, renderer, *args, **kwargs)

    canvas = FigureCanvasAgg(figure)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", record)
        canvas.draw()
    renderer = canvas.get_renderer()
    return [(text, Text.get_window_extent(text, renderer)) for text in dict.fromkeys(texts)]


def faults(figure: Figure) -> list[str]:
    """Say what is wrong with a picture that is shown as wide as a phone."""
    found = []
    texts = drawn_texts(figure)
    width, height = figure.canvas.get_width_height()
    for text, box in texts:
        words = repr(text.get_text())
        pixels = text.get_fontsize() * PHONE / (72 * figure.get_figwidth())
        if pixels < PIXELS:
            found.append(f"{words} has {pixels:.1f} pixels")
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1:
            found.append(f"{words} goes over the edge")
        if (seen := contrast(to_hex(text.get_color()))) < 4.5:
            found.append(f"{words} has a contrast of {seen:.1f}")
    for (one, box), (other, its) in combinations(texts, 2):
        across = min(box.x1, its.x1) - max(box.x0, its.x0)
        along = min(box.y1, its.y1) - max(box.y0, its.y0)
        if across > 1 and along > 1.5:
            found.append(f"{one.get_text()!r} lies on {other.get_text()!r}")
    for axes in figure.axes:
        numbers = [*axes.get_yticklabels()][:1]
        named = axes.get_ylabel() or axes.get_title(loc="left") or axes.get_title()
        if numbers and not named and _is_number(numbers[0].get_text()):
            found.append("the y axis has no name")
        if axes.get_label().startswith("<colorbar"):
            continue
        shared = axes.get_shared_x_axes().get_siblings(axes)
        if axes.get_xaxis().get_visible() and not any(each.get_xlabel() for each in shared):
            found.append("the x axis has no name")
    return found


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text.replace("\N{MINUS SIGN}", "-")))
    except ValueError:
        return False


def report(jobs: Sequence[dict[str, Any]]) -> Callable[[Path], list[Figure]]:
    def draw(folder: Path) -> list[Figure]:
        found: list[Figure] = []
        with gathered(found):
            write_report(write_sweep(folder / "sweep", jobs))
        return found

    return draw


def contested(jobs: Sequence[dict[str, Any]]) -> Callable[[Path], list[Figure]]:
    def draw(folder: Path) -> list[Figure]:
        found: list[Figure] = []
        sweep = league_folders.write_sweep(folder / "sweep", jobs)
        with gathered(found):
            assert league.main([str(sweep), "--no-timing"]) == 0
        return found

    return draw


def explained(*arguments: str) -> Callable[[Path], list[Figure]]:
    def draw(folder: Path) -> list[Figure]:
        found: list[Figure] = []
        with gathered(found):
            assert explain.main([*arguments, "--figure", str(folder / "x.png")]) == 0
        return found

    return draw


def compared(number: int, values: Callable[[int], float], steps: int) -> Any:
    """A comparison of so many strategies, as if measured."""

    def row(name: str, value: float, claims: str = "biased", **settings: Any) -> Measurement:
        estimate = SimpleNamespace(value=value)
        aligned: Any = SimpleNamespace(cosine=estimate, relative_error=estimate)
        option = Option(name, Component("x", settings))
        times = 1 + abs(value)
        quartiles = (0.9 * times, 1.2 * times)
        return Measurement(option, claims, aligned, False, 1, times, quartiles, 1, None)

    names = [name for name in STRATEGIES if name != "truncated"][:number]
    rows = [row(name, values(index)) for index, name in enumerate(names)]
    ks = [2**i for i in range((steps - 1).bit_length())]
    curve = [
        row("truncated", 1 / k**0.5 + 0.01 * i, k=k, mode=m)
        for i, m in enumerate(MODES)
        for k in ks
    ]
    sentence = "one and the same gradient: truncated chunk, lag, window, tail at each k; 1 of 32"
    alike = Alike([MODES[:3], MODES[3:]], [f"{sentence} steps have a loss (32)"])
    found = Comparison((steps, 32, 2, 64), rows, curve, {}, alike)

    def draw(folder: Path) -> list[Figure]:
        gathered_here: list[Figure] = []
        with gathered(gathered_here):
            compare.draw(found, "copy_memory, orthogonal", folder / "x.png")
        return gathered_here

    return draw


def horizons(tasks: int, strategies: int, others: str = "") -> Callable[[Path], list[Figure]]:
    delays = {10, 20, 40, 80, 160}
    lines = [
        Line(
            *(task, strategy, "tail" if strategy == "truncated" else "", others),
            {k: {seed: min(160, k * (seed + 1)) for seed in range(3)} for k in (1, 4, 16, 64)},
            dict.fromkeys((1, 4, 16, 64), delays),
        )
        for task in ("adding", "temporal_order", "copy_memory")[:tasks]
        for strategy in STRATEGIES[-strategies:]
    ]

    def draw(folder: Path) -> list[Figure]:
        found: list[Figure] = []
        with gathered(found):
            horizon.draw(lines, folder / "x.png")
        return found

    return draw


def plotted(kind: str) -> Callable[[Path], list[Figure]]:
    """What lab draws of runs and sweeps."""
    title = "2026-11-29_01-30-19_3dad4f5d_sweep"

    def row(x: Any, by: str, y: float) -> dict[str, Any]:
        return {"x": x, "gradient": by, "test/loss": y}

    steps = range(0, 300, 10)
    logged = [
        {"step": s, "train/loss": math.exp(-s), "val/loss": 1.0, "val/accuracy": math.nan}
        for s in steps
    ]
    numbers = [row(4**k, n, 1 / (i + k + 1)) for i, n in enumerate(STRATEGIES) for k in range(4)]
    words = [row(n, f"{k}", i + k) for i, n in enumerate(STRATEGIES) for k in range(4)]
    search = [row(0.001 * 1.07**i, "full", 0.1 * (i % 7)) for i in range(100)]
    near = [row(1 + i / 97, "full", 1.0) for i in range(16)]
    long = [row(f"{LONG}_{i}", LONG, 0.0) for i in range(3)]
    too_long = [row(i, f"{LONG}_{k}", 0.0) for i in range(3) for k in range(3)]
    against = {"numbers": numbers, "words": words, "search": search, "near": near}
    against |= {"long": long, "too_long": too_long, "nothing": []}

    def draw(_: Path) -> list[Figure]:
        if kind == "losses":
            return [figures.curves(title, logged, ())]
        if kind == "accuracy":
            return [figures.curves(title, logged, ("val/accuracy",))]
        return [figures.against(title, against[kind], "x", "test/loss", ["gradient"])]

    return draw


def dashboard(kind: str) -> Callable[[Path], list[Figure]]:
    """What callbacks draw for TensorBoard."""
    k = torch.arange(1, 257)
    pair = "Which states does step 256's loss feel? log10 |dE_t/dh_s|"
    maps = torch.linspace(-12, 3, 40 * 60).view(40, 60)

    def draw(_: Path) -> list[Figure]:
        if kind == "curve":
            lines = {"cosine": (k, 1 - 0.9**k), "relative error": (k, 0.9**k)}
            return [pictures.curves("The gradient of lag k", "lag k (steps)", "cosine", lines)]
        if kind == "alike":
            lines = {"cosine": (k, k * 0), "relative error": (k, k * 0)}
            return [pictures.curves("The gradient of lag k", "lag k (steps)", "cosine", lines)]
        if kind == "pair":
            return [pictures.curves(pair, "step s", "log10", {"credit": (k, -k * 1.0)})]
        if kind == "map":
            return [pictures.decades(pair, "lag d (steps)", "optimizer step", maps, range(40))]
        layers = {f"l{i}": torch.randn(64, dtype=torch.cfloat) for i in range(4)}
        return [pictures.complex_plane("Eigenvalues of the recurrent weights W_hh", layers)]

    return draw


def searched(number: int) -> list[dict[str, Any]]:
    return [
        {"gradient": "truncated", "k": 1 + i, "lr": 1e-4 * 1.07**i, "final": 0.001 * i}
        for i in range(number)
    ]


KS = [
    {"gradient": "truncated", "k": k, "lr": lr, "seed": s, "final": 0.5 + 0.01 * k}
    for k in (1, 4, 16, 64, 256, 1024)
    for lr in (0.001, 0.01, 0.1)
    for s in range(2)
]
RULES = ("rtrl", "sketched_rtrl", "sparse_rtrl", "snap1", "rflo", "kf_rtrl", "uoro")
CONTEST = league_folders.league(
    {rule: 0.1 + 0.02 * i for i, rule in enumerate(RULES)},
    7,
    {rule: 1 - 0.14 * i for i, rule in enumerate(RULES)},
)
EXACT = league_folders.league(  # as good as exact, all of them, and with long names
    {f"{rule}_of_a_long_name": 0.1 for rule in RULES},
    2,
    {f"{rule}_of_a_long_name": 0.85 + 0.05 * min(i, 3) for i, rule in enumerate(RULES)},
)
ALIKE = [{"gradient": name, "final": 0.5, "seed": s} for name in STRATEGIES for s in range(2)]
# Of the first ones every second is drawn in the fast tests.
PICTURES: dict[str, Callable[[Path], list[Figure]]] = {
    "report, 13 strategies": report(ALIKE),
    "compare, 13 strategies": compared(12, lambda i: 0.9**i, 1024),
    "explain, all losses": explained("--steps", "4", "--all"),
    "horizon, 2 tasks": horizons(2, 2),
    "league, 7 rules": contested(CONTEST),
    "lab, numbers": plotted("numbers"),
    "lab, words": plotted("words"),
    "dashboard, curve": dashboard("curve"),
    "dashboard, map": dashboard("map"),
    "dashboard, plane": dashboard("plane"),
}
FAST = len(PICTURES)
PICTURES |= {
    "report, half of it": report(half_finished()),
    "report, 18 settings": report(KS),
    "report, 100 runs": report(searched(100)),
    "report, one run": report([{}]),
    "report, zeros": report([{"lr": lr, "final": 0.0} for lr in (0.0, 0.1, 0.2)]),
    "report, not finite": report(
        [{"lr": i, "final": v} for i, v in enumerate((math.inf, math.nan, 0.5))]
    ),
    "report, long names": report(
        [{"gradient": f"{LONG}_{i}", "k": k} for i in range(4) for k in (1, 2)]
    ),
    "report, diverged": report([{"status": "diverged"}, {"seed": 1}]),
    "compare, one strategy": compared(1, lambda i: 1.0, 2),
    "compare, equal values": compared(12, lambda i: 1.0, 24),
    "compare, not finite": compared(12, lambda i: math.nan, 24),
    "explain, one loss": explained("--steps", "3"),
    "explain, no mask": explained("--steps", "4", "--gradient", "kf_rtrl"),
    "horizon, 13 strategies": horizons(3, 13),
    "horizon, one line": horizons(1, 1),
    "horizon, long names": horizons(2, 2, "trainer.gradient_clip_val=0.5"),
    **{
        f"lab, {kind}": plotted(kind)
        for kind in ("losses", "accuracy", "search", "near", "long", "too_long", "nothing")
    },
    "league, exact and long": contested(EXACT),
    "league, no alignment": contested(league_folders.league(dict.fromkeys(RULES, 0.1), 2)),
    "league, diverged": contested([job | {"status": "diverged"} for job in CONTEST]),
    "dashboard, equal values": dashboard("alike"),
    "dashboard, one loss": dashboard("pair"),
}
