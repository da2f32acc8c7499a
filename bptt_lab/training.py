"""The composition root: from a config to a trained network and a run folder."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from bptt_lab import ranks, records
from bptt_lab.callbacks.bundle import Bundle
from bptt_lab.callbacks.credit import CreditHistogram
from bptt_lab.callbacks.gradient_norms import GradientNorms
from bptt_lab.callbacks.progress import Progress
from bptt_lab.callbacks.run_card import RunCard
from bptt_lab.callbacks.training_loss import TrainingLoss
from bptt_lab.initialisation import initialise
from bptt_lab.limits import ConfigError
from bptt_lab.losses import LOSSES
from bptt_lab.metrics_log import MetricsLog
from bptt_lab.module import SequenceModule
from bptt_lab.rnn import VanillaRNN
from bptt_lab.seeds import generator
from bptt_lab.tasks.base import SequenceDataModule

Config = dict[str, Any]  # plain containers: what a process or a file can be handed


@dataclass(frozen=True)
class Job:
    """Who asked for a run: the options chosen in each group, the overrides, the command."""

    choices: Mapping[str, str]
    overrides: tuple[str, ...] = ()
    command: str = ""


class Terminated(SystemExit):
    """SIGTERM came; the exit code is the shell's for it."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Experiment(NamedTuple):
    """What a config builds: a task and a network to learn it."""

    task: SequenceDataModule
    module: SequenceModule


def run(cfg: DictConfig) -> None:
    """Train what the command line asked for, in the folder that Hydra made for it."""
    hydra = HydraConfig.get()
    overrides = tuple(hydra.overrides.task)
    sources = [s.path for s in hydra.runtime.config_sources if s.provider == "command-line"]
    options = [word for path in sources for word in ("--config-dir", path)]
    # A preset may ask for a sweep; one of its jobs by itself does not.
    alone = ["hydra.mode=RUN"] if hydra.mode == RunMode.MULTIRUN else []
    job = Job(
        choices={
            group: choice
            for group, choice in hydra.runtime.choices.items()
            if "/" not in group and choice is not None
        },
        overrides=overrides,
        command=shlex.join(["bptt-train", *options, *overrides, *alone]),
    )
    config = cast(Config, OmegaConf.to_container(cfg, resolve=True))
    folder = Path(hydra.runtime.output_dir)
    try:
        if config["device"]["devices"] > 1:
            build(config)  # refuses here, in one line, what every process would refuse
            ranks.launch(train, (config, folder, job), config["device"]["devices"])
        else:
            train(config, folder, job)
    except BaseException as error:
        signalled = isinstance(error, KeyboardInterrupt | Terminated)
        papers = {
            "status": "interrupted" if signalled else "failed",
            "reason": f"{type(error).__name__}: {error}".removesuffix(": "),
            "overrides": overrides,
        }
        records.write_json(folder / "summary.json", papers)
        raise


def build(config: Config) -> Experiment:
    """Build the task and the network that a config describes; draws nothing from global RNGs."""
    task: SequenceDataModule = _make(config, "dataset")
    model = dict(config["model"])
    start = {key: model.pop(key) for key in ("init", "gain", "spectral_radius")}
    rnn = VanillaRNN(task.input_size, **model, gradient=_make(config, "gradient"))
    initialise(rnn, **start, generator=generator(config["seed"], "weights"))
    readout = nn.Linear(rnn.hidden_size, task.output_size)
    bound = rnn.hidden_size**-0.5  # nn.Linear's own
    for parameter in readout.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator(config["seed"], "readout"))
    make_optimizer = _make(config, "optimizer", _partial_=True)
    module = SequenceModule(
        rnn, readout, LOSSES[task.loss], task.score, make_optimizer, config["segment_length"]
    )
    return Experiment(task, module)


def _make(config: Config, section: str, **how: Any) -> Any:
    """Make what a section describes; a constructor's refusal is the user's, by its full key."""
    try:
        return instantiate(config[section], _convert_="all", **how)
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            raise ConfigError(f"{section}.{error.__cause__}") from error
        raise


def train(config: Config, folder: Path, job: Job) -> dict[str, float]:
    """Train, test and write the run folder.

    Args:
        config: the resolved config as plain containers.
        folder: where everything of the run goes.
        job: who asked for it.

    Returns:
        The final metrics by tag, such as test/accuracy.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning 2.6 calls what torch 2.13 deprecates; nothing a user could mend.
    warnings.filterwarnings("ignore", module=r"lightning\.pytorch\.utilities\._pytree")
    device = config["device"]
    torch.set_num_threads(max(1, config["num_threads"] // device["devices"]))
    if device["accelerator"] != "cpu":  # read at the first use of a GPU
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    task, module = build(config)
    trainer = make_trainer(config, folder, job, task)
    # Dropout is the one thing drawn from torch's global generator.
    torch.manual_seed(generator(config["seed"], "noise", trainer.global_rank).initial_seed())
    if trainer.is_global_zero:
        papers = records.manifest(
            job.command, config["seed"], trainer.strategy.root_device, device["devices"]
        )
        records.write_json(folder / "manifest.json", papers)

    began = time.perf_counter()
    with _signals_raised():
        trainer.fit(module, datamodule=task)
    seconds = time.perf_counter() - began
    metrics = {tag: float(value) for tag, value in trainer.callback_metrics.items()}
    steps = trainer.global_step
    with _signals_raised():
        trainer.test(module, datamodule=task, verbose=False)
    metrics |= {tag: float(value) for tag, value in trainer.callback_metrics.items()}
    for logger in trainer.loggers:
        logger.finalize("success")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()

    if trainer.is_global_zero:
        references = task.references()
        summary = {
            "status": "completed",
            "metrics": metrics,
            "references": references,
            "seconds": round(seconds, 3),
            "steps": steps,
            "epochs": trainer.current_epoch,
            "parameters_sha256": records.parameter_hash(module.state_dict()),
            "choices": dict(job.choices),
            "overrides": job.overrides,
        }
        records.write_json(folder / "summary.json", summary)
        print("\n".join(_closing_lines(summary, folder)), flush=True)
    return metrics


@contextmanager
def _signals_raised() -> Iterator[None]:
    """Say what stopped a run: Lightning makes an exit with code 1 of Ctrl-C, and 0 of SIGTERM."""
    try:
        yield
    except SIGTERMException as error:
        raise Terminated from error
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning ignores it by now
        raise KeyboardInterrupt from error


def make_trainer(config: Config, folder: Path, job: Job, task: SequenceDataModule) -> Trainer:
    """Set up Lightning's trainer with the run's loggers, callbacks and checkpoints."""
    settings, device = dict(config["trainer"]), config["device"]
    # Lightning's own logging at every step is off: our callbacks write once a window.
    every, settings["log_every_n_steps"] = settings["log_every_n_steps"], 0
    strategy: Any = "auto"
    if device["devices"] > 1:
        backend = "gloo" if device["accelerator"] == "cpu" else "nccl"
        strategy = DDPStrategy(process_group_backend=backend)
    references = task.references()
    metrics = next(iter(references.values()))
    watching: list[Callback] = [
        RunCard(
            settings=dict(flat_settings(config, job.choices)),
            metrics=[f"{stage}/{metric}" for stage in ("val", "test") for metric in metrics],
            references=references,
            config=OmegaConf.to_yaml(config),
            command=job.command,
        ),
        TrainingLoss(every_n_steps=every),
        GradientNorms(every_n_steps=every),
    ]
    if config["segment_length"] is None:  # it needs the states of all steps
        watching.append(CreditHistogram(every_n_steps=every))
    callbacks: list[Callback] = [
        Bundle(watching),
        ModelCheckpoint(
            dirpath=folder / "checkpoints",
            filename="best",
            monitor="val/loss",
            save_last=True,
            enable_version_counter=False,
        ),
        *task.callbacks(),
    ]
    if settings["enable_progress_bar"]:
        callbacks.append(Progress())
    return Trainer(
        **settings,
        accelerator=device["accelerator"],
        devices=device["devices"],
        strategy=strategy,
        deterministic="warn" if device["accelerator"] != "cpu" else None,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        default_root_dir=folder,
        logger=[
            TensorBoardLogger(folder, name="", version="", default_hp_metric=False),
            MetricsLog(folder / "metrics.jsonl"),
        ],
        callbacks=callbacks,
    )


def flat_settings(
    config: Config, choices: Mapping[str, str]
) -> Iterator[tuple[str, bool | int | float | str]]:
    """Yield the config as dotted keys and plain values, each group's choice under its name."""
    yield from choices.items()
    for key, value in config.items():
        if isinstance(value, dict):
            for name, inner in flat_settings(value, {}):
                yield f"{key}.{name}", inner
        elif isinstance(value, bool | int | float | str):
            if key != "_target_":
                yield key, value
        elif value is not None:
            yield key, str(value)


def _closing_lines(summary: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """The run in a few lines: its metrics beside a trivial predictor's, and where to look."""
    choices = summary["choices"]
    what = " ".join(choices[key] for key in ("dataset", "gradient") if key in choices)
    yield f"\n{what}: {summary['epochs']} epochs, {summary['steps']} steps, {summary['seconds']} s"
    name, values = next(iter(summary["references"].items()))
    for tag, value in sorted(summary["metrics"].items()):
        stage, _, metric = tag.partition("/")
        if stage == "test":
            known = f"   {name} {values[metric]:.4f}" if metric in values else ""
            yield f"  {tag:<24}{value:>10.4f}{known}"
    yield records.signpost("run folder", folder)
