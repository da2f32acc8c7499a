"""What claims measure with: a net and its gradient as one vector, or one that a preset trains."""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bptt_lab.commands.reproduce.topics import Claim, Result, Trial
from bptt_lab.config import arguments, output_paths
from bptt_lab.config.compose import CommandLine, resolved
from bptt_lab.config.parse import parse
from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.nn.initialisation import initialise
from bptt_lab.nn.rnn import VanillaRNN
from bptt_lab.runs.job import Job
from bptt_lab.training import train as training

# What says nothing about the result.
QUIET = ("callbacks=none", "trainer.enable_progress_bar=false", "checkpoint_seconds=3600")


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
    plain = "trainer.ema_decay=null"  # the sources have no average, and the bands were set without
    lines = [f"experiment={preset}", *QUIET, plain, *overrides]
    command = CommandLine(arguments.parse_arguments(lines))
    config = parse(resolved(command.compose(command.lines)))
    with (
        tempfile.TemporaryDirectory() as folder,
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        return training.train(config, Path(folder), Job({}))


def net(
    gradient: GradientStrategy,
    seed: int,
    sizes: tuple[int, int, int] = (3, 8, 1),
    init: str = "orthogonal",
    gain: float = 1.0,
    **cell: Any,
) -> VanillaRNN:
    """Make a net in float64 of so many inputs, units and layers; its cell is as VanillaRNN's."""
    rnn = VanillaRNN(*sizes, **cell, dtype=torch.float64, gradient=gradient)
    initialise(rnn, init, gain, None, torch.Generator().manual_seed(seed))
    return rnn


def normal(seed: int, *shape: int) -> Tensor:
    """Draw standard normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def gradient(rnn: VanillaRNN, input: Tensor, q: Tensor, num_chunks: int = 1) -> Tensor:
    """The net's gradient of sum(q * output), added up over chunks."""
    rnn.zero_grad()
    carry = None
    for x, q_chunk in zip(input.chunk(num_chunks), q.chunk(num_chunks), strict=True):
        output, carry = rnn.unroll(x, carry)
        (output * q_chunk).sum().backward()  # type: ignore[no-untyped-call]
    return torch.cat([p.grad.flatten() for p in rnn.parameters() if p.grad is not None])


def exact(rnn: VanillaRNN, input: Tensor, q: Tensor) -> Tensor:
    """The same by torch's own graph; the net keeps its strategy."""
    own, rnn.gradient = rnn.gradient, Autograd()
    found = gradient(rnn, input, q)
    rnn.gradient = own
    return found


def difference(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|."""
    return float((found - expected).norm() / expected.norm())
