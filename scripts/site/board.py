"""A run's event file as TensorBoard shows it: lines, histograms behind one another, images, texts.

A page asks for tags by patterns; what it has not asked for in the end is an error.
"""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import zip_longest
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from show import figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.summary_pb2 import HistogramProto
from tensorboard.plugins.custom_scalar.layout_pb2 import Chart, Layout

from bptt_lab.training import naming, style
from bptt_lab.training.style import LineStyle

SIZE = 3.3, 2.1  # inches: two side by side, or one on a phone
AT_MOST, BINS = 12, 30  # histograms in a picture, and their bins
LINES = 14  # of a text
TALL = 1e6  # a chart whose values span more is logarithmic
KINDS = "scalars", "histograms", "images", "tensors"
LAYOUT = "custom_scalars__config__"  # of the charts of a tab, and no picture


Series = Sequence[tuple[int, float]]


class Board:
    """The event file of one run.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        everything = dict.fromkeys(KINDS, 0)
        self._events = EventAccumulator(str(folder), size_guidance=everything).Reload()
        found = self._events.Tags()
        self.tags = {tag: kind for kind in KINDS for tag in found[kind] if tag != LAYOUT}
        self._left = dict(self.tags)

    def show(self, *panels: str) -> str:
        """Return panels side by side.

        Args:
            panels: Patterns of tags, with spaces between those whose scalars share a chart.
        """
        drawn = [part for patterns in panels for part in self._panel(patterns.split())]
        return _grid(drawn)

    def charts(self) -> str:
        """Return a table of the Custom Scalars tab's charts and their tags."""
        (event,) = self._events.Tensors(LAYOUT)
        layout = Layout.FromString(event.tensor_proto.string_val[0])
        rows = [
            f"| {category.title} | {chart.title} | {_tags(chart)} |"
            for category in layout.category
            for chart in category.chart
        ]
        return "\n".join(["| question | chart | tags |", "|---|---|---|", *rows])

    def left(self) -> list[str]:
        """Return the tags that nobody has asked for."""
        return sorted(self._left)

    def _panel(self, patterns: Sequence[str]) -> list[str]:
        tags = [t for pattern in patterns for t in self.tags if fnmatchcase(_name(t), pattern)]
        assert tags, f"the run has no {' '.join(patterns)}"
        for tag in tags:
            self._left.pop(tag, None)
        lines = [tag for tag in tags if self.tags[tag] == "scalars"]
        one = {"histograms": self._histogram, "images": self._image, "tensors": self._text}
        alone = [one[self.tags[tag]](tag) for tag in tags if tag not in lines]
        return ([self._lines(lines)] if lines else []) + alone

    def series(self, tag: str) -> Series:
        """Return a scalar's steps and values."""
        return [(event.step, event.value) for event in self._events.Scalars(tag)]

    def _lines(self, tags: Sequence[str]) -> str:
        lines = {_own(tag, tags) if len(tags) > 1 else tag: self.series(tag) for tag in tags}
        flat = {name for name, tag in zip(lines, tags, strict=True) if "reference/" in tag}
        return _captioned(_chart(lines, ", ".join(tags), flat), tags)

    @style.styled
    def _histogram(self, tag: str) -> str:
        fig, axes = _blank()
        events = self._events.Histograms(tag)
        events = [
            events[i] for i in np.unique(np.linspace(0, len(events) - 1, AT_MOST).astype(int))
        ]
        parts = [e.histogram_value for e in events]
        low, high = (end(p.bucket_limit[i] for p in parts) for end, i in ((min, 0), (max, -1)))
        edges = np.linspace(low, high, BINS + 1)
        counts = [_binned(part, edges) for part in parts]
        tallest = max(map(max, counts))
        places = np.linspace(1, 0, len(events)) if len(events) > 1 else [0.0]
        middles = (edges[1:] + edges[:-1]) / 2
        for order, (place, count) in enumerate(zip(places, counts, strict=True)):
            colour = style.shade(style.BLUE, len(events) - 1 - order, len(events))
            look = {"color": colour, "lw": 0.7, "ec": "white", "zorder": order + 2}
            axes.fill_between(middles, place, place + 0.6 * count / tallest, **look)
        shown = [0, len(events) // 2, len(events) - 1]
        axes.set_yticks([places[i] for i in shown], [f"step {events[i].step}" for i in shown])
        axes.yaxis.tick_right()
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("log10")
        return _captioned(figure(fig, f"{tag}: histograms over optimizer steps"), [tag])

    def _image(self, tag: str) -> str:
        last = self._events.Images(tag)[-1]
        data = base64.b64encode(last.encoded_image_string).decode()
        alt = html.escape(f"the run's picture {tag}", quote=True)
        img = f'<img alt="{alt}" src="data:image/png;base64,{data}" style="background: #fff">'
        return _captioned(f'<figure class="picture">{img}</figure>', [tag])

    def _text(self, tag: str) -> str:
        text = self._events.Tensors(tag)[-1].tensor_proto.string_val[0].decode()
        text = text.replace(str(self._folder.parent), "FOLDER")  # of whoever builds the site
        lines = [line for line in text.strip().splitlines() if not line.startswith("```")]
        lines = [*lines[:LINES], "..."] if len(lines) > LINES else lines
        return _captioned(f"<pre><code>{html.escape(chr(10).join(lines))}</code></pre>", [tag])


def across(folders: Mapping[str, str | Path], *tags: str) -> str:
    """Return a chart for each tag, with a line for each run.

    Args:
        folders: The runs' folders by what the lines are to be called.
        tags: Of scalars; a run without one has no line.
    """
    boards = {name: Board(folder) for name, folder in folders.items()}
    charts = []
    for tag in tags:
        lines = {name: b.series(tag) for name, b in boards.items() if tag in b.tags}
        charts.append(_captioned(_chart(lines, tag), [tag]))
    return _grid(charts)


def _grid(panels: Sequence[str]) -> str:
    columns = "grid-template-columns: repeat(auto-fill, minmax(290px, 1fr))"
    return f'<div style="display: grid; gap: 0 1rem; {columns}">{"".join(panels)}</div>'


@style.styled
def _chart(lines: Mapping[str, Series], alt: str, flat: Collection[str] = ()) -> str:
    """Lines over optimizer steps, with their names if there are several; `flat` ones are grey."""
    fig, axes = _blank()
    for index, (name, points) in enumerate(lines.items()):
        steps, values = zip(*[p for p in points if math.isfinite(p[1])], strict=True)
        look = LineStyle(style.GREY, (2, 2)) if name in flat else style.plain(index)
        marker = "o" if len(steps) == 1 else ""
        axes.plot(steps, values, marker=marker, ms=4, label=name, **look.line())
    values = [value for points in lines.values() for _, value in points if math.isfinite(value)]
    if min(values) > 0 and max(values) > TALL * min(values):
        style.logarithmic(axes.yaxis, min(values), max(values))
    if not any(values):
        axes.set_ylim(-0.05, 1)  # what never happened is a line at the bottom
    if len(lines) > 1:
        naming.name_lines(axes)
    return figure(fig, f"{alt} over optimizer steps")


def _binned(part: HistogramProto, edges: np.ndarray) -> np.ndarray:
    """A histogram's counts in other bins, spread evenly within each bin, as TensorBoard does it."""
    limits = np.asarray(part.bucket_limit)
    return np.diff(np.interp(edges, limits, np.cumsum(part.bucket)))


def _tags(chart: Chart) -> str:
    tags = (re.sub(r"\(\?!.*?\)", "", tag) for tag in chart.multiline.tag)
    return " ".join(f"`{tag.replace('.*', '...')}`" for tag in tags)


def _name(tag: str) -> str:
    """A tag as TensorBoard shows it."""
    return tag.removesuffix("/text_summary")


def _own(tag: str, tags: Sequence[str]) -> str:
    """What tells a tag from those beside it."""
    group, _, rest = tag.partition("/")
    if all(other.startswith(f"{group}/") for other in tags):
        words = [other.partition("/")[2].split("_") for other in tags]
        shared = next(n for n, same in enumerate(zip_longest(*words)) if len({*same}) > 1)
        return "_".join(rest.split("_")[shared:])
    metric = tags[0].partition("/")[2]
    return rest.removesuffix(f"_{metric}") if group == "reference" else group


def _blank() -> tuple[Figure, Axes]:
    fig = Figure(figsize=SIZE, layout="constrained")
    axes = fig.subplots()
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_size(8)
    axes.set_xlabel("optimizer step")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    return fig, axes


def _captioned(picture: str, tags: Sequence[str]) -> str:
    names = " ".join(f"<code>{html.escape(_name(tag))}</code>" for tag in tags)
    return f'<div style="min-width: 0; font-size: .65rem">{names}{picture}</div>'
