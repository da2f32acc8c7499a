"""Small runs for the tests: compose a config, train it in a temporary folder, read it back."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bptt_lab.config import output_paths
from bptt_lab.config.arguments import parse_arguments
from bptt_lab.config.compose import CommandLine
from bptt_lab.config.parse import parse
from bptt_lab.config.schema import Experiment
from bptt_lab.runs.job import Job
from bptt_lab.training.train import perform

# Small and without instruments; settings named later win.
QUICK = (
    "num_threads=1",
    "callbacks=none",
    "trainer.enable_progress_bar=false",
    "trainer.max_epochs=1",
    "model.hidden_size=8",
)
WATCHED = "callbacks=default"


def composed(*overrides: str) -> dict[str, Any]:
    """What Hydra makes of a command line, as plain containers."""
    output_paths.register()
    command = CommandLine(parse_arguments([*overrides]))
    whole = command.compose(command.lines)
    own = OmegaConf.masked_copy(whole, [key for key in whole if key != "hydra"])
    container = OmegaConf.to_container(own, resolve=True)
    assert isinstance(container, dict)
    return container


def config(*overrides: str) -> Experiment:
    """The experiment that a command line asks for; of two values of a key the later one counts."""
    return _parsed(tuple({o.partition("=")[0]: o for o in overrides}.values()))


@lru_cache
def _parsed(overrides: tuple[str, ...]) -> Experiment:
    return parse(composed(*overrides))


def resumed(experiment: Experiment, folder: Path | str, *, force: bool = False) -> Experiment:
    """The same experiment, asked to continue a folder."""
    control = replace(experiment.control, resume=str(folder), force_resume=force)
    return replace(experiment, control=control)


def job(*overrides: str) -> Job:
    choices = dict(o.split("=") for o in overrides if "." not in o.split("=")[0])
    return Job(choices, overrides, "bptt-train " + " ".join(overrides))


def quick_run(folder: Path, *overrides: str) -> dict[str, Any]:
    """Train for an epoch and return the summary."""
    folder.mkdir(parents=True, exist_ok=True)
    perform(config(*QUICK, *overrides), folder, job(*overrides))
    return json.loads((folder / "summary.json").read_text())


def state_dict(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return checkpoint["state_dict"]


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0})
    return accumulator.Reload()
