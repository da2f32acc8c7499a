"""The paths of credit as a picture: the network over time, and under it one lane a term.

A lane leads from the loss at t back to the use of W at s. It is as wide as its term is large, and
broken where the strategy's mask cuts it; all are grey where no mask describes the strategy.
"""

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from bptt_lab.commands.explain.derivation import Derivation, Term
from bptt_lab.commands.explain.example import StrategyGradient
from bptt_lab.training import style
from bptt_lab.training.style import GREY, INK, WASH

KEPT, CUT = style.BLUE, style.VERMILION  # dashes and the cross say it too
# In steps of the network, which are SCALE inches long.
SCALE, RADIUS, TOP, LANE, FIRST, HEAD = 1.25, 0.21, 0.85, 0.36, -0.95, 0.75
LABELS = (0.55, 1.05, 1.5, 3.7)  # of a lane, from the last step


@style.styled
def draw(derivation: Derivation, name: str, found: StrategyGradient, path: Path) -> None:
    """Write the figure of a derivation; the same numbers give the same bytes."""
    T, every = derivation.example.num_steps, derivation.terms
    low, high, left, right = FIRST - LANE * len(every), TOP + RADIUS, -0.4, T + 3.85
    figure = Figure(figsize=(SCALE * (right - left), SCALE * (high - low + HEAD)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, right), ylim=(low, high + HEAD))
    axes.axis("off")
    with rc_context({"text.parse_math": True}):
        _title(axes, left + 0.15, high + HEAD - 0.12, derivation.loss, name, found)
        _network(axes, derivation)
        whole = sum(float(term.value.norm()) for term in every)
        for number, term in enumerate(every):
            _lane(axes, T, term, FIRST - LANE * (number + 0.25), found.mask, whole)
        axes.text(T + LABELS[-1], FIRST + 0.2, "share", ha="right", va="center", color=GREY)
        style.save(figure, path)


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


def _network(axes: Axes, derivation: Derivation) -> None:
    _node(axes, 0, 0, "$h_0$", "white", GREY)
    for t in derivation.steps:
        axes.fill_between([t - 0.32, t + 0.32], axes.get_ylim()[0], -0.36, color=WASH, linewidth=0)
        _node(axes, t, 0, f"$h_{t}$", INK, "white")
        _arrow(axes, (t - 1 + RADIUS, 0), (t - RADIUS, 0))
        axes.text(t - 0.5, 0.07, "$W$", ha="center", color=GREY)
        label = f"$W$ used\nat $s={t}$"
        axes.text(t, -0.58, label, ha="center", va="center", fontsize=9, color=INK)
        if t in derivation.at:
            _arrow(axes, (t, RADIUS), (t, TOP - RADIUS))
            axes.text(t + 0.06, TOP / 2, "$V$", va="center", color=GREY)
            _node(axes, t, TOP, f"$E_{t}$", "white", INK)


def _node(axes: Axes, x: float, y: float, text: str, face: str, colour: str) -> None:
    size = 2 * RADIUS * SCALE * 72  # points
    edge: Any = {"markeredgecolor": INK if face == INK else colour, "markeredgewidth": 1.4}
    axes.plot(x, y, "o", color=face, markersize=size, **edge)
    axes.text(x, y, text, ha="center", va="center", color=colour, fontsize=12)


def _arrow(axes: Axes, begin: tuple[float, float], end: tuple[float, float], **more: Any) -> None:
    usual = {"arrowstyle": "-|>", "color": GREY, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, begin, arrowprops=usual | more)


def _lane(axes: Axes, T: int, term: Term, y: float, mask: Tensor | None, whole: float) -> None:
    """One term: from a dot at t to an arrowhead at s, as far as the mask lets it."""
    t, s, norm = term.t, term.s, float(term.value.norm())
    kept = mask is None or bool(mask[t - 1, s - 1])
    colour = GREY if mask is None else KEPT if kept else CUT
    width = 1.2 + 6 * norm / whole
    middle = "".join(rf"\,J_{u}" for u in range(t, s, -1))
    path = rf"$|q_{t}{middle}\,\overline{{M}}_{s}| = {norm:.4f}$"
    state = "" if mask is None else "kept" if kept else "cut"
    for x, part in zip(
        LABELS, (f"lag {term.lag}", state, path, f"{norm / whole:.0%}"), strict=True
    ):
        where: Any = {"ha": "right"} if x == LABELS[-1] else {}
        axes.text(T + x, y, part, va="center", color=colour, **where)
    axes.plot(t, y, "o", color=colour, markersize=5 + width)
    if mask is None or kept:
        if s < t:
            head = {"linewidth": width, "mutation_scale": 9 + 2.2 * width}
            _arrow(axes, (t, y), (s, y), color=colour, **head)
        return
    reached = [u for u in range(s, t + 1) if mask[t - 1, u - 1]]
    end = min(reached) - 0.5 if reached else t + 0.0  # not even the loss's own step is kept
    axes.plot([t, end], [y, y], color=colour, linewidth=width, solid_capstyle="butt")
    mark: Any = {"color": colour if reached else "white", "markersize": 10 if reached else 5}
    axes.plot(end, y, "x", markeredgewidth=2.6 if reached else 1.6, **mark)
    if s < t:
        dashes = {"linewidth": 1.2, "linestyle": (0, (3, 2)), "arrowstyle": "->"}
        _arrow(axes, (end - 0.1, y), (s, y), color=colour, **dashes)
