"""The paths of credit as a picture: the network over time, and under it one lane a term.

A lane leads from the loss at t back to the use of W at s. It is as wide as its term is large, and
broken where the strategy's mask cuts it; all are grey where no mask describes the strategy.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle
from torch import Tensor

from bptt_lab.commands.explain.derivation import Derivation, Term
from bptt_lab.commands.explain.example import StrategyGradient
from bptt_lab.training import style
from bptt_lab.training.style import GREY, INK, WASH

KEPT, CUT = style.BLUE, style.VERMILION  # dashes and the cross say it too
# In steps of the network, which are SCALE inches long.
SCALE, RADIUS, TOP, LANE, FIRST, HEAD = 1.25, 0.21, 0.85, 0.36, -0.95, 0.75
LABEL = 0.55  # from the last step to the labels of the lanes


@style.styled
def draw(derivation: Derivation, name: str, found: StrategyGradient, path: Path) -> None:
    """Write the figure of a derivation; the same numbers give the same bytes."""
    with rc_context({"text.parse_math": True}):
        style.save(_figure(derivation, name, found), path)


def _figure(derivation: Derivation, name: str, found: StrategyGradient) -> Figure:
    T, every = derivation.example.num_steps, derivation.terms
    low, high, left, right = FIRST - LANE * len(every), TOP + RADIUS, -0.4, T + 3.85
    figure = Figure(figsize=(SCALE * (right - left), SCALE * (high - low + HEAD)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, right), ylim=(low, high + HEAD))
    axes.axis("off")
    _title(axes, left + 0.15, high + HEAD - 0.12, derivation.loss, name, found)
    _network(axes, T, derivation.at, low)
    whole = sum(float(term.value.norm()) for term in every)
    for number, term in enumerate(every):
        _lane(axes, term, FIRST - LANE * (number + 0.25), found.mask, whole, T + LABEL)
    axes.text(T + LABEL + 3.15, FIRST + 0.2, "share", ha="right", va="center", color=GREY)
    return figure


def _title(axes: Axes, x: float, y: float, loss: str, name: str, found: StrategyGradient) -> None:
    # A strategy's name is text, dollars included.
    title = f"Which paths of credit {name} keeps"
    if found.mask is None:
        title = f"Paths of credit; no mask describes {name}"
    axes.text(x, y, title, fontsize=13, weight="bold", va="top", parse_math=False)
    what = r"$q_t\, J_t \cdots J_{s+1}\, \overline{M}_s$"
    axes.text(
        x,
        y - 0.25,
        rf"terms {what} of $d{loss}/dW$; the gradient left has cosine {found.cosine:.3f} with "
        f"the full one, relative error {found.relative_error:.3f}",
        va="top",
        color=GREY,
    )


def _network(axes: Axes, T: int, at: Sequence[int], low: float) -> None:
    for t in range(T + 1):
        _node(axes, t, 0, f"$h_{t}$", INK if t else "white", INK if t else GREY)
        if t == 0:
            continue
        band = (t - 0.32, low + 0.08), 0.64, -0.36 - low - 0.08
        axes.add_patch(Rectangle(*band, color=WASH, linewidth=0, zorder=0))
        _arrow(axes, (t - 1 + RADIUS, 0), (t - RADIUS, 0))
        axes.text(t - 0.5, 0.07, "$W$", ha="center", color=GREY)
        label = f"$W$ used\nat $s={t}$"
        axes.text(t, -0.58, label, ha="center", va="center", fontsize=9, color=INK)
        if t in at:
            _arrow(axes, (t, RADIUS), (t, TOP - RADIUS))
            axes.text(t + 0.06, TOP / 2, "$V$", va="center", color=GREY)
            _node(axes, t, TOP, f"$E_{t}$", "white", INK)


def _node(axes: Axes, x: float, y: float, text: str, face: str, edge: str) -> None:
    axes.add_patch(Circle((x, y), RADIUS, facecolor=face, edgecolor=edge, linewidth=1.4, zorder=3))
    colour = "white" if face == INK else edge
    axes.text(x, y, text, ha="center", va="center", color=colour, zorder=4, fontsize=12)


def _arrow(axes: Axes, begin: tuple[float, float], end: tuple[float, float], **more: Any) -> None:
    usual = {"arrowstyle": "-|>", "mutation_scale": 11, "color": GREY, "linewidth": 1.2}
    axes.add_patch(FancyArrowPatch(begin, end, shrinkA=0, shrinkB=0, **{**usual, **more}))


def _lane(
    axes: Axes, term: Term, y: float, mask: Tensor | None, whole: float, label_x: float
) -> None:
    """One term: from a dot at t to an arrowhead at s, as far as the mask lets it."""
    t, s = term.t, term.s
    norm = float(term.value.norm())
    kept = mask is None or bool(mask[t - 1, s - 1])
    colour = GREY if mask is None else KEPT if kept else CUT
    width = 1.2 + 6 * norm / whole
    label = [f"lag {term.lag}", "" if mask is None else "kept" if kept else "cut"]
    label += [f"$|{_path(term)}| = {norm:.4f}$", f"{norm / whole:.0%}"]
    for x, part in zip((0, 0.5, 0.95, 3.15), label, strict=True):
        where: Any = {"ha": "right"} if part is label[-1] else {}
        axes.text(label_x + x, y, part, va="center", color=colour, **where)
    axes.plot(t, y, "o", color=colour, markersize=5 + width, zorder=3)
    if kept and s < t:
        more = {"linewidth": width, "mutation_scale": 9 + 2.2 * width}
        _arrow(axes, (t, y), (s, y), color=colour, zorder=2, **more)
    if kept:
        return
    assert mask is not None
    reached = [u for u in range(s, t + 1) if mask[t - 1, u - 1]]
    cut = min(reached) - 0.5 if reached else t + 0.0  # not even the loss's own step is kept
    axes.plot([t, cut], [y, y], color=colour, linewidth=width, solid_capstyle="butt")
    mark: Any = {"color": colour, "markersize": 10, "markeredgewidth": 2.6}
    small: Any = {"color": "white", "markersize": 5, "markeredgewidth": 1.6}
    axes.plot(cut, y, "x", zorder=4, **(mark if reached else small))
    if s < t:
        dashes = {"linewidth": 1.2, "linestyle": (0, (3, 2)), "arrowstyle": "->"}
        _arrow(axes, (cut - 0.1, y), (s, y), color=colour, **dashes)


def _path(term: Term) -> str:
    middle = "".join(rf"\,J_{u}" for u in range(term.t, term.s, -1))
    return rf"q_{term.t}{middle}\,\overline{{M}}_{term.s}"
