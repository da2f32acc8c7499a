"""The pictures of docs/performance.md, from a file that scripts/benchmark.py wrote."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bptt_lab.training import style

ROOT = Path(__file__).parents[2]
BASELINE = "nn.RNN"
WIDTH = 3.75  # inches, as wide as a page is on a phone
Rows = list[dict[str, str]]
# The package's own colours, and others for what is no strategy.
OTHERS = {"full-reference": style.GREY, "jax": style.VERMILION, BASELINE: style.INK}


def read(path: str) -> Rows:
    """The measurements of forward and backward together."""
    with (ROOT / path).open() as file:
        return [row for row in csv.DictReader(file) if row["pass"] == "forward+backward"]


@style.styled
def times_as_fast(rows: Rows, threads: int) -> Figure:
    """How many times as fast as nn.RNN each implementation is, a row for each shape."""
    rows = [row for row in rows if row["threads"] == str(threads)]
    shapes = list(dict.fromkeys(_shape(row) for row in rows))
    names = list(dict.fromkeys(row["implementation"] for row in rows))
    fig = Figure(figsize=(WIDTH, 0.36 * len(shapes) + 1.1))
    axes = fig.add_axes((0.3, 0.14, 0.66, 0.72))
    for place, shape in enumerate(shapes):
        axes.axhline(place, color=style.FAINT, lw=0.6, zorder=0)
        for row in rows:
            if _shape(row) == shape and row["implementation"] != BASELINE:
                name = row["implementation"]
                ratio, marker = float(row["times_as_fast_min"]), style.MARKERS[names.index(name)]
                axes.plot(ratio, place, marker, color=_colour(name), ms=6)
                if name == "full":
                    number = f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:.0f}"
                    look = {"fontsize": 8, "color": _colour(name), "fontweight": "bold"}
                    offset = {"textcoords": "offset points", "va": "center"}
                    axes.annotate(number, (ratio, place), (7, 0), **offset, **look)
    axes.axvline(1, color=style.INK, lw=1)
    axes.set(yticks=range(len(shapes)), yticklabels=shapes, ylim=(len(shapes) - 0.5, -0.6))
    axes.tick_params(labelsize=8, length=0, axis="y")
    style.logarithmic(axes.xaxis, 0.7, 40)
    axes.set(xlim=(0.7, 40), xticks=[1, 2, 5, 10, 20])
    axes.set_xlabel(f"times as fast as nn.RNN, {threads} thread{'s' * (threads > 1)}", fontsize=9)
    axes.grid(visible=False, axis="y")
    _key(fig, [name for name in names if name != BASELINE], names)
    fig.text(0.285, 0.87, "L, N, I, H", ha="right", fontsize=8, color=style.GREY)
    return fig


def _key(fig: Figure, shown: list[str], names: list[str]) -> None:
    look = {"ls": "", "ms": 5}
    entries = [
        Line2D(
            [], [], marker=style.MARKERS[names.index(name)], color=_colour(name), label=name, **look
        )
        for name in shown
    ]
    place = {"loc": "upper left", "bbox_to_anchor": (0.02, 1.0), "ncols": 4, "fontsize": 8}
    fig.legend(handles=entries, handletextpad=0.1, columnspacing=0.9, **place)


@style.styled
def memory(rows: Rows) -> Figure:
    """Peak memory where the states are largest, in units of the states."""
    measured = [row for row in rows if row["peak_states"]]
    largest = max(measured, key=lambda row: int(row["L"]) * int(row["N"]) * int(row["H"]))
    shown = [row for row in measured if _shape(row) == _shape(largest)]
    shown.sort(key=lambda row: float(row["peak_states"]))
    fig = Figure(figsize=(WIDTH, 0.3 * len(shown) + 0.6))
    axes = fig.add_axes((0.3, 0.28, 0.62, 0.7))
    for place, row in enumerate(shown):
        peak, name = float(row["peak_states"]), row["implementation"]
        axes.barh(place, peak, color=_colour(name), height=0.6)
        axes.text(peak + 0.1, place, f"{peak:.1f}", va="center", fontsize=8)
    axes.set(yticks=range(len(shown)), yticklabels=[row["implementation"] for row in shown])
    axes.set(ylim=(len(shown) - 0.5, -0.5), xlim=(0, 1.1 * float(shown[-1]["peak_states"])))
    axes.tick_params(labelsize=8, length=0)
    axes.set_xlabel("peak memory / memory of the states", fontsize=9)
    axes.grid(visible=False, axis="y")
    return fig


def _colour(name: str) -> str:
    return OTHERS.get(name) or style.colour(name)


def _shape(row: dict[str, str]) -> str:
    return ", ".join(row[letter] for letter in "LNIH")
