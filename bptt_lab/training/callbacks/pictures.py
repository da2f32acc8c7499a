"""Pictures for TensorBoard: curves, maps and the complex plane, each readable by itself."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from bptt_lab.training import naming, style

TICKS = 5  # of an axis, at most
FLOOR, CEILING = -10.0, 0.0  # decades; beyond, a map shows no difference


def blank(title: str, x: str, y: str, right: float = 0.96) -> tuple[Figure, Axes]:
    """Return a figure with a title and labelled axes, which end at `right` of its width.

    Where titles go and how many ticks there are is said here: to find it out, and to draw more,
    takes a third of the time of a picture, of which a sweep has thousands.
    """
    figure = Figure(figsize=(style.ACROSS, 3.6), dpi=100)
    axes = figure.subplots(gridspec_kw={"left": 0.15, "right": right, "top": 0.9, "bottom": 0.15})
    axes.set_title(title, y=1)
    axes.set(xlabel=x, ylabel=y)
    axes.locator_params(nbins=TICKS)
    return figure, axes


@style.styled
def curves(title: str, x: str, y: str, lines: Mapping[str, tuple[Tensor, Tensor]]) -> Figure:
    """Draw lines (x, y) by name."""
    figure, axes = blank(title, x, y, 0.96 if len(lines) == 1 else 0.74)
    for index, (name, (xs, ys)) in enumerate(lines.items()):
        axes.plot(xs.cpu().numpy(), ys.cpu().numpy(), label=name, **style.plain(index).line())
    if len(lines) > 1:
        naming.name_lines(axes)
    return figure


@style.styled
def decades(
    title: str, x: str, y: str, log10: Tensor, rows: Sequence[float], first: int = 0
) -> Figure:
    """Draw a map of log10 values, (rows, columns); nothing where nan or -inf.

    Colours are the same in all maps, so that those of two runs can be compared. On the y axis the
    rows have rising labels, on the x axis the columns have those from `first` on.
    """
    figure, axes = blank(title, x, y)
    values = np.ma.masked_invalid(log10.double().cpu().numpy())
    columns = np.arange(values.shape[1] + 1) + first - 0.5
    centres = np.asarray(rows, dtype=float)
    between = (centres[1:] + centres[:-1]) / 2  # the outer cells end half a unit beyond their rows
    edges = np.concatenate([[centres[0] - 0.5], between, [centres[-1] + 0.5]])
    mesh = axes.pcolormesh(columns, edges, values, cmap="viridis", vmin=FLOOR, vmax=CEILING)
    axes.set_facecolor(style.WASH)
    axes.grid(visible=False)
    ticks = MaxNLocator(TICKS)
    figure.colorbar(mesh, ax=axes, label="log10", extend="both", ticks=ticks)
    return figure


@style.styled
def complex_plane(title: str, eigenvalues: Mapping[str, Tensor]) -> Figure:
    """Draw eigenvalues by layer beside the unit circle."""
    figure, axes = blank(title, "real part", "imaginary part", 0.74)
    angle = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(angle), np.sin(angle), color=style.GREY, lw=1, ls="--", label="modulus 1")
    for index, (name, values) in enumerate(eigenvalues.items()):
        points, look = values.cpu().numpy(), style.plain(index)
        axes.plot(points.real, points.imag, look.marker, label=name, **look.dots())
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), handlelength=1.2)
    return figure
