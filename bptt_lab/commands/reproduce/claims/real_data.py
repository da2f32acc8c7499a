"""Real sequences: chorales and Shakespeare, as far as a vanilla network gets.

Both numbers were measured here; the data are those of Boulanger-Lewandowski et al. (2012) and of
Karpathy (2015). Of Shakespeare's text the last 5 % are harder than the 5 % before, by some .15
nats.
"""

from __future__ import annotations

from bptt_lab.commands.reproduce.claim import Claim, Measure, Result, Trial
from bptt_lab.commands.reproduce.training import train


def _about(preset: str, metric: str, low: float, high: float) -> Measure:
    def measure(trial: Trial) -> Result:
        path = f"dataset.path='{trial.file}'"
        losses = [
            train(preset, path, f"seed={seed}", "num_threads=1")[metric] for seed in trial.seeds
        ]
        said = ", ".join(f"{loss:.3f}" for loss in losses) + " nats"
        return Result(all(low <= loss <= high for loss in losses), said)

    return measure


CLAIMS = [
    Claim(
        name="jsb_chorales",
        kind="regression",
        source="this project",
        expected="about 8.6 nats a step, 8.3 to 8.9",
        measure=_about("music", "test/loss", 8.3, 8.9),
        set_on=range(1),
        tested_on=range(10, 12),
        slow=True,
        file="jsb/jsb-chorales-quarter.json",
    ),
    Claim(
        name="tiny_shakespeare",
        kind="regression",
        source="this project",
        expected="about 1.61 nats a character, 1.5 to 1.7, on the 5 % after 90 %",
        measure=_about("text", "val/loss", 1.5, 1.7),
        set_on=range(1),
        tested_on=range(10, 11),
        slow=True,
        file="tinyshakespeare/input.txt",
    ),
]
