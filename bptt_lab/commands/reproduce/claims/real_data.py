"""Real sequences: chorales and Shakespeare, as far as a vanilla network gets.

Both numbers were measured here; the data are those of Boulanger-Lewandowski et al. (2012) and of
Karpathy (2015). Of Shakespeare's text the last 5 % are harder than the 5 % before, by some .15
nats.
"""

from __future__ import annotations

from bptt_lab.commands.reproduce.claim import Result, Trial, claim
from bptt_lab.commands.reproduce.training import over_seeds


def _within(trial: Trial, preset: str, metric: str, low: float, high: float) -> Result:
    path = f"dataset.path='{trial.file}'"
    losses = over_seeds(trial, metric, preset, path, "num_threads=1")
    said = ", ".join(f"{loss:.3f}" for loss in losses) + " nats"
    return Result(all(low <= loss <= high for loss in losses), said)


@claim(
    "regression",
    "this project",
    "about 8.6 nats a step, 8.3 to 8.9",
    set_on=range(1),
    tested_on=range(10, 12),
    slow=True,
    file="jsb/jsb-chorales-quarter.json",
)
def jsb_chorales(trial: Trial) -> Result:
    """Nats a step on the test split."""
    return _within(trial, "music", "test/loss", 8.3, 8.9)


@claim(
    "regression",
    "this project",
    "about 1.61 nats a character, 1.5 to 1.7, on the 5 % after 90 %",
    set_on=range(1),
    tested_on=range(10, 11),
    slow=True,
    file="tinyshakespeare/input.txt",
)
def tiny_shakespeare(trial: Trial) -> Result:
    """Nats a character on the validation split."""
    return _within(trial, "text", "val/loss", 1.5, 1.7)


CLAIMS = [jsb_chorales, tiny_shakespeare]
