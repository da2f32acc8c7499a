"""The pictures of docs/truncation.md: which terms of the gradient a strategy keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from bptt_lab.gradients import ARTBP, GradientStrategy
from bptt_lab.training import style

WIDTH = 3.75  # inches, as wide as a page is on a phone


@style.styled
def masks(weights: Mapping[str, Tensor], chunk: int | None = None) -> Figure:
    """Draw what each loss (a row) gives to each step (a column), two pictures in a row.

    Args:
        weights: by title, (T, T); 0 is cut, and above 1 a weight is a number in its cell.
        chunk: steps between two lines; None draws none.
    """
    rows = math.ceil(len(weights) / 2)
    fig = Figure(figsize=(WIDTH, 2.0 * rows + 0.3))
    grid = fig.subplots(rows, 2, squeeze=False, gridspec_kw={"hspace": 0.38, "wspace": 0.22})
    places: list[Axes] = list(grid.flat)
    for axes, (title, weight) in zip(places, weights.items(), strict=False):
        _mask(axes, title, weight, chunk)
    for axes in places[len(weights) :]:
        axes.axis("off")
    for axes in grid[:, 0]:
        axes.set_ylabel("loss at step t", fontsize=9)
    for number, axes in enumerate(places[: len(weights)]):
        if number + 2 >= len(weights):
            axes.set_xlabel("parameters at step s", fontsize=9)
    return fig


def _mask(axes: Axes, title: str, weight: Tensor, chunk: int | None) -> None:
    steps = len(weight)
    possible = np.tril(np.ones((steps, steps)))
    kept = (weight > 0).numpy()
    look, edge = ListedColormap(["white", style.WASH, style.BLUE]), steps + 0.5
    extent = (0.5, edge, edge, 0.5)
    axes.imshow(possible + kept, cmap=look, vmin=0, vmax=2, extent=extent)
    for line in range(1, steps):
        axes.axhline(line + 0.5, color="white", lw=0.8)
        axes.axvline(line + 0.5, color="white", lw=0.8)
    for line in range(chunk or steps, steps, chunk or steps):
        axes.axhline(line + 0.5, color=style.VERMILION, lw=1.2)
        axes.axvline(line + 0.5, color=style.VERMILION, lw=1.2)
    for t, s in zip(*np.nonzero((weight > 1 + 1e-9).numpy()), strict=True):
        number = f"{float(weight[t, s]):.1f}".rstrip("0").rstrip(".")
        axes.text(s + 1, t + 1, number, ha="center", va="center", fontsize=7, color="white")
    ticks = [1, *range(4, steps + 1, 4)]
    axes.set(xticks=ticks, yticks=ticks)
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=8, length=2)
    axes.grid(visible=False)


def seen(strategies: Mapping[str, GradientStrategy], num_steps: int) -> str:
    """How many steps a loss sees and how many terms are kept, as a Markdown table."""
    total = num_steps * (num_steps + 1) // 2
    lines = ["| | steps that a loss sees | on average | terms kept |", "|---|---|---|---|"]
    for title, strategy in strategies.items():
        steps = strategy.mask(num_steps).sum(1).float()
        least, most = int(steps.min()), int(steps.max())
        of = str(most) if least == most else f"{least} to {most}"
        kept = f"{int(steps.sum())} of {total}"
        lines.append(f"| {title} | {of} | {float(steps.mean()):.2f} | {kept} |")
    return "\n".join(lines)


def in_chunks(strategy: GradientStrategy, num_steps: int, chunk: int) -> Tensor:
    """The mask of a sequence that comes in chunks: each chunk's own, nothing between them."""
    return torch.block_diag(
        *(strategy.mask(len(part)) for part in torch.arange(num_steps).split(chunk))
    ).bool()


def artbp_weights(strategy: ARTBP, uniforms: Sequence[float]) -> Tensor:
    """W[t, s], what the term of loss t and step s is multiplied with at these draws, (T, T).

    `uniforms` say, T - 1 times, whether to cut between a step and the next.
    """
    keep = strategy.keep(uniforms)
    steps = range(len(keep))
    rows = [[math.prod(keep[s + 1 : t + 1]) if s <= t else 0.0 for s in steps] for t in steps]
    return torch.tensor(rows, dtype=torch.float64)
