"""Draw README's picture: credit against lag for three strategies, and accuracy against k.

    python scripts/front_picture.py             # writes docs/pictures/front.svg
    python scripts/front_picture.py other.png

Credit is computed here. The accuracies were measured once, and lie in
benchmarks/digits_accuracy_by_k.csv with the command that measured them.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bptt_lab import VanillaRNN, initialise
from bptt_lab.diagnostics import credit_flow
from bptt_lab.gradients import Full, GradientStrategy, Truncated
from bptt_lab.training.style import (
    BLUE,
    GREEN,
    GREY,
    VERMILION,
    logarithmic,
    powers_of_two,
    save,
    styled,
)

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "benchmarks" / "digits_accuracy_by_k.csv"
STEPS, K = 48, 16
STRATEGIES: dict[str, tuple[GradientStrategy, str]] = {
    "full": (Full(), BLUE),
    f"chunk, k = {K}": (Truncated(k=K), GREEN),
    f"lag, k = {K}": (Truncated(k=K, mode="lag"), VERMILION),
}


def credit() -> torch.Tensor:
    """Return |dE_t/dh_s| as (t, s), in parts of |dE_t/dh_t|: a loss at every step of 48."""
    generator = torch.Generator().manual_seed(0)
    rnn = VanillaRNN(4, 64, dtype=torch.float64)
    initialise(rnn, "gaussian", 0.8, None, generator)
    x = torch.randn(STEPS, 32, 4, generator=generator, dtype=torch.float64)
    goal = torch.randn(STEPS, 32, 64, generator=generator, dtype=torch.float64)
    flow = credit_flow(rnn, x, lambda output: (output * goal).sum())
    pairs = 10 ** flow.log10[0].nan_to_num(-torch.inf)
    return pairs / pairs.diagonal().mean()


def by_lag(pairs: torch.Tensor, strategy: GradientStrategy) -> list[float]:
    """Return what a strategy keeps of the credit at each lag, mean over the losses that have it."""
    kept = pairs * strategy.mask(STEPS).to(pairs)
    return [float(kept.diagonal(-lag).mean()) for lag in range(STEPS)]


def draw_credit(axes: Axes) -> None:
    """Draw credit against lag, each line with its name."""
    pairs = credit()
    for name, (strategy, colour) in STRATEGIES.items():
        values = by_lag(pairs, strategy)
        felt = [lag for lag, value in enumerate(values) if value > 0]
        axes.plot(felt, [values[lag] for lag in felt], color=colour, linewidth=2)
        axes.plot(felt[-1], values[felt[-1]], "o", color=colour, markersize=5)
        named = {"color": colour, "textcoords": "offset points"}
        if name == "full":
            axes.annotate(name, (28, values[28]), (4, 8), **named)
        else:
            place = (8, 2) if strategy.mode == "lag" else (-56, -16)
            axes.annotate(name, (felt[-1], values[felt[-1]]), place, **named)
    logarithmic(axes.yaxis, 1e-3, 1)
    axes.set(
        title="How far back a loss is felt",
        xlabel="lag: steps from state to loss",
        ylabel="credit, relative to lag 0",
    )


def accuracies() -> dict[int, list[float]]:
    """Return the stored test accuracies of each k."""
    lines = [line for line in MEASURED.read_text().splitlines() if not line.startswith("#")]
    found = defaultdict(list)
    for row in csv.DictReader(lines):
        found[int(row["k"])].append(float(row["test_accuracy"]))
    return dict(sorted(found.items()))


def draw_accuracy(axes: Axes) -> None:
    """Draw accuracy against k: a dot for each seed, a line through the means."""
    found = accuracies()
    seeds = min(len(values) for values in found.values())
    for k, values in found.items():
        axes.plot([k] * len(values), values, "o", color=VERMILION, markersize=4, alpha=0.4, mew=0)
    axes.plot([*found], [mean(values) for values in found.values()], color=VERMILION, linewidth=2)
    axes.axhline(0.1, color=GREY, linestyle=(0, (4, 2)), linewidth=1.2)
    axes.annotate("chance", (1, 0.1), (0, 4), textcoords="offset points", color=GREY)
    powers_of_two(axes.xaxis, [*found])
    axes.set(
        title=f"Digits by pixel, {seeds} seeds",
        xlabel="k: steps of 64 that credit travels",
        ylabel="test accuracy",
        ylim=(0, 1),
    )


@styled
def main() -> None:
    """Draw both halves, and write the picture."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "pictures" / "front.svg"
    figure = Figure(figsize=(6.4, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_credit(left)
    draw_accuracy(right)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)


if __name__ == "__main__":
    main()
