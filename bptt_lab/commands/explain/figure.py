"""The paths of credit as a picture: a disc for every term, at its loss t and its use of W at s.

A disc is as large as its term. A cross says that the strategy's mask cuts it; all are grey where no
mask describes the strategy.
"""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from bptt_lab.commands.explain.derivation import Derivation, weight
from bptt_lab.commands.explain.example import StrategyGradient
from bptt_lab.training import style
from bptt_lab.training.style import GREY

KEPT, CUT = style.BLUE, style.VERMILION  # the cross says it too
INCHES = 1.45  # a row
LARGEST = 40  # points, of a disc
ROOM = 48  # letters in a line of all labels of a row


@style.styled
def draw(derivation: Derivation, name: str, found: StrategyGradient, path: Path) -> None:
    """Write the figure of a derivation; the same numbers give the same bytes."""
    T, mask, terms = derivation.example.num_steps, found.mask, derivation.terms
    norms = [float(term.value.norm()) for term in terms]
    size = style.ACROSS, INCHES * len(derivation.at) + 1.5
    figure = Figure(figsize=size, layout="constrained")
    title = f"Which paths of credit {name} keeps"
    style.heading(figure, title if mask is not None else f"No mask describes {name}")
    axes = figure.subplots()
    cosine, error = f"cosine {found.cosine:.3f}", f"relative error {found.relative_error:.3f}"
    left = f"what is left has {cosine} with all, {error}"
    axes.set_title(
        f"every term of d{derivation.loss}/dW, its norm and its share;\n{left}", color=GREY
    )
    for term, norm in zip(terms, norms, strict=True):
        share = 1.0 if mask is None else weight(mask, term.t, term.s)
        kept = share != 0
        colour = GREY if mask is None else KEPT if kept else CUT
        disc: Any = {"color": colour, "markersize": LARGEST * (norm / max(norms)) ** 0.5}
        axes.plot(term.s, term.t, "o", **disc)
        if not kept:
            axes.plot(term.s, term.t, "x", color="white", markersize=8, markeredgewidth=2.6)
        known = {0.0: ", cut", 1.0: "" if mask is None else ", kept"}
        state = known.get(share, f", times {share:.2f}")
        factors = style.wrapped(f"|{term.name}|", ROOM // T)
        label = f"lag {term.lag}{state}\n{factors}\n{norm:.4f}, {norm / sum(norms):.0%}"
        below: Any = {"xytext": (0, -25), "textcoords": "offset points", "fontsize": style.SMALL}
        dark = style.readable(colour)
        axes.annotate(label, (term.s, term.t), color=dark, ha="center", va="top", **below)
    axes.grid(visible=False)
    axes.set(xlabel="step s at which W is used", ylabel="step t of the loss")
    axes.set(xticks=derivation.steps, yticks=derivation.at)
    axes.set(xlim=(0.45, T + 0.55), ylim=(max(derivation.at) + 0.75, min(derivation.at) - 0.3))
    style.save(figure, path)
