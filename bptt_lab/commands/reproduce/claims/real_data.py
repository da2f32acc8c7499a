"""Real sequences: chorales and Shakespeare, as far as a vanilla network gets.

Of Shakespeare's text the last 5 % are harder than the 5 % before, by some .15 nats.
"""

from __future__ import annotations

from collections.abc import Callable

from bptt_lab.commands.reproduce.claim import Claim, Result, Trial
from bptt_lab.commands.reproduce.training import train


def _about(preset: str, metric: str, low: float, high: float) -> Callable[[Trial], Result]:
    def check(trial: Trial) -> Result:
        path = f"dataset.path='{trial.file}'"
        losses = [
            train(preset, path, f"seed={seed}", "num_threads=1")[metric] for seed in trial.seeds
        ]
        said = ", ".join(f"{loss:.3f}" for loss in losses) + " nats"
        return Result(all(low <= loss <= high for loss in losses), said)

    return check


CLAIMS = [
    Claim(
        "jsb_chorales",
        "Boulanger-Lewandowski et al. 2012",
        "about 8.6 nats a step, 8.3 to 8.9",
        _about("music", "test/loss", 8.3, 8.9),
        range(1),
        range(10, 12),
        slow=True,
        file="jsb/jsb-chorales-quarter.json",
    ),
    Claim(
        "tiny_shakespeare",
        "Karpathy 2015",
        "about 1.61 nats a character, 1.5 to 1.7, on the 5 % after 90 %",
        _about("text", "val/loss", 1.5, 1.7),
        range(1),
        range(10, 11),
        slow=True,
        file="tinyshakespeare/input.txt",
    ),
]
