"""Temporal order: vanilla networks learn it once the gradient's norm is clipped.

The settings were chosen on 50 steps. With them a net was seen to learn without clipping, too: an
orthogonal start and small steps of Adam already do much of what clipping is there for.
"""

from __future__ import annotations

from collections.abc import Callable

from bptt_lab.commands.reproduce.claim import Claim, Result, Trial
from bptt_lab.commands.reproduce.training import train

SOURCE = "Pascanu, Mikolov & Bengio 2013"


def _solved(num_steps: int) -> Callable[[Trial], Result]:
    def check(trial: Trial) -> Result:
        steps, clip = f"dataset.num_steps={num_steps}", "trainer.gradient_clip_val=1.0"
        found = [
            train("temporal_order", steps, clip, f"seed={seed}")["test/accuracy"]
            for seed in trial.seeds
        ]
        return Result(min(found) > 0.99, ", ".join(f"{accuracy:.3f}" for accuracy in found))

    return check


CLAIMS = [
    Claim(
        f"{num_steps}_steps",
        SOURCE,
        "accuracy > .99, 100 units, norm clipped at 1",
        _solved(num_steps),
        range(3),
        range(10, 13),
        slow=True,
    )
    for num_steps in (20, 35, 50)
]
