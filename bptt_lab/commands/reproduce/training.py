"""Claims about nets trained by a preset, as `bptt-train experiment=NAME ...` trains one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

from bptt_lab.commands.reproduce.topics import Claim, Result, Trial
from bptt_lab.config import arguments, output_paths
from bptt_lab.config.compose import CommandLine, resolved
from bptt_lab.config.parse import parse
from bptt_lab.runs.job import Job
from bptt_lab.training import train as training

# What says nothing about the result.
QUIET = ("callbacks=none", "trainer.enable_progress_bar=false", "checkpoint_seconds=3600")
# What the sources do not have, and the bands were set without.
PLAIN = ("trainer.ema_decay=null",)


def trained(
    preset: str, metric: str, band: tuple[float, float], *overrides: str, **claim: Any
) -> Claim:
    """Claim that nets trained by a preset, one a seed, all end with a metric within a band.

    Where the claim has a file of data, its path is the dataset's.
    """

    def measure(trial: Trial) -> Result:
        data = [f"dataset.path='{trial.file}'"] if "file" in claim else []
        runs = [train(preset, *overrides, *data, f"seed={seed}") for seed in trial.seeds]
        found = [metrics[metric] for metrics in runs]
        said = ", ".join(f"{value:.4f}" for value in found) + " nats" * metric.endswith("loss")
        return Result(all(band[0] < value <= band[1] for value in found), said)

    return Claim(measure=measure, **claim)


def train(preset: str, *overrides: str) -> dict[str, float]:
    """Train one net, in a folder that is gone afterwards.

    Args:
        preset: option of the group `experiment`.
        overrides: Hydra's, such as "gradient.k=8".

    Returns:
        The final metrics by tag, such as test/accuracy.

    Raises:
        ConfigError: for settings that do not go together.
    """
    output_paths.register()
    lines = [f"experiment={preset}", *QUIET, *PLAIN, *overrides]
    command = CommandLine(arguments.parse_arguments(lines))
    config = parse(resolved(command.compose(command.lines)))
    with (
        tempfile.TemporaryDirectory() as folder,
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        return training.train(config, Path(folder), Job({}))
