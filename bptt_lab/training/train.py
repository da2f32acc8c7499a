"""From an experiment to a trained network and its run folder."""

import logging
import os
import random
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bptt_lab import runs
from bptt_lab.config import targets
from bptt_lab.config.schema import Experiment
from bptt_lab.core.messages import escaped, rounded
from bptt_lab.core.random import generator
from bptt_lab.runs import lock, resume, signals
from bptt_lab.runs.job import Job
from bptt_lab.runs.lock import Lock
from bptt_lab.runs.outcome import ONE_LINE, Interrupted, Unfit, conclude, report, start_anew
from bptt_lab.runs.signals import Stop
from bptt_lab.tasks.grouping import padded_share
from bptt_lab.training import checkpoint_io, epochs, manifest, processes
from bptt_lab.training.build import Built, build
from bptt_lab.training.callbacks.checkpoints import Checkpoints
from bptt_lab.training.callbacks.gradient_norms import GradientNorms
from bptt_lab.training.loggers import close_loggers
from bptt_lab.training.trainer import make_trainer

UNFIT = 4  # exit code of a process of several that cannot go on from the checkpoint


def perform(experiment: Experiment, folder: Path, job: Job, stop: Stop | None = None) -> None:
    """Start a run, or continue the one in its folder if `control.resume` is set.

    Everything of it goes to the folder; `job` asked for it, and `stop` says whether to stop.

    Raises:
        CheckpointError: where no whole checkpoint is one that the run can go on from.
        ConfigError: for what cannot be built, or is not what the folder's run began with.
        Diverged: for a loss or gradient that is not finite, with `divergence` at stop.
        Interrupted: after a signal, once everything is saved.
    """
    stop, control = stop or Stop(), experiment.control
    targets.refuse_foreign(experiment.plain(), control.allow)
    torch.set_num_threads(experiment.threads)
    began = runs.read_run(folder).manifest
    if control.resume and isinstance(began.get("config"), dict):
        experiment = resume.as_begun(experiment, began["config"], job.overrides)
    built = build(experiment)  # refuses here, in one line, what every process would refuse
    recorded = manifest.manifest(experiment, job, manifest.fingerprint(built.task))
    if control.resume and began:  # there is none where a run was killed before it wrote one
        known = began.get("id", recorded["id"])
        recorded = {**resume.compared(began, recorded, force=control.force_resume), "id": known}
    starts = checkpoint_io.to_continue(folder, recorded["id"]) if control.resume else []
    if starts:
        saved = checkpoint_io.read(starts[0], "cpu")
        with suppress(LookupError, TypeError):  # of an unfit one, as is found when it is loaded
            begun = epochs.epochs_begun(saved["loops"]["fit_loop"])
            resume.refuse_early_end(experiment, begun, saved["global_step"])
    folder.mkdir(parents=True, exist_ok=True)
    if not starts:
        start_anew(folder, "no whole checkpoint is there")
    runs.write_json(folder / runs.MANIFEST, recorded)
    try:
        _train(experiment, folder, job, stop, starts[0] if starts else None, built)
    except Unfit as error:
        if len(starts) < 2:
            raise
        checkpoint_io.put_away(starts[0], str(error))
        _train(experiment, folder, job, stop, starts[1])


def _train(
    experiment: Experiment, folder: Path, job: Job, stop: Stop, start: Path | None, *built: Built
) -> None:
    devices = experiment.device.devices
    if devices == 1:
        train(experiment, folder, job, stop, start, *built)
        return
    args = experiment, folder, job, start, lock.OURS.get(folder)
    try:
        processes.launch(_train_as_rank, args, devices, stop)
    except processes.RankEnded as error:
        if stop.asked is not None:
            raise Interrupted(stop.asked) from error
        if error.code == UNFIT:
            raise Unfit(f"{start}: a run cannot go on from it, as said above") from error
        if runs.read_status(folder) != "running":  # the process has said why
            raise SystemExit(error.code) from error
        raise


def _train_as_rank(
    experiment: Experiment, folder: Path, job: Job, start: Path | None, own: Lock | None
) -> None:
    """Train as one process of several, with the run's lock; its exit code says how it ended."""
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal's go to the run's process as well
        signal.signal(number, signal.SIG_IGN)
    with signals.caught() as stop:
        try:
            train(experiment, folder, job, stop, start)
        except Unfit as error:
            report(error)
            sys.exit(UNFIT)
        except BaseException as error:
            sys.exit(conclude(folder, error))


def train(
    experiment: Experiment,
    folder: Path,
    job: Job,
    stop: Stop | None = None,
    start: Path | None = None,
    built: Built | None = None,
) -> dict[str, float]:
    """Train and test in this process what `perform` is asked for, and write the run folder.

    It goes on from the checkpoint `start`, if there is one. `built` is what `build(experiment)`
    returned, if somebody has called it already. The final metrics come back by tag, such as
    test/accuracy.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.callbacks").setLevel(logging.INFO)  # whoever was asked for
    # Lightning 2.6 calls what torch 2.13 deprecates; nothing a user could mend.
    warnings.filterwarnings("ignore", module=r"lightning\.pytorch\.utilities\._pytree")
    torch.set_num_threads(experiment.threads)
    if experiment.device.accelerator != "cpu":  # read at the first use of a GPU
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    built = built or build(experiment)
    task, module = built
    saved = checkpoint_io.read(start) if start is not None else None
    norms = GradientNorms(
        every_n_steps=experiment.trainer.log_every_n_steps, divergence=experiment.divergence
    )
    trainer = make_trainer(experiment, folder, job, built, stop or Stop(), norms, saved)
    (saving,) = (c for c in trainer.checkpoint_callbacks if isinstance(c, Checkpoints))
    _seed_global_generators(experiment.seed, trainer.global_rank)
    trainer.precision_plugin.convert_module(module)  # before a checkpoint is loaded, to lose no bit

    def summary(**more: Any) -> dict[str, Any]:
        padding = padded_share(*task.train_dataloader().groups()) if task.unequal else 0
        return {
            "metrics": module.metrics,
            "references": task.references(),
            "seconds": round(saving.seconds, 3),
            "steps": trainer.global_step,
            "epochs": trainer.current_epoch,
            **({"padded_share": round(padding, 4)} if task.unequal else {}),
            **({"diverged": norms.diverged} if norms.diverged else {}),
            **({"fast_dev_run": True} if experiment.trainer.fast_dev_run else {}),
            **more,
        }

    try:
        trainer.fit(module, datamodule=task, ckpt_path=start, weights_only=True)
        fitted = summary(parameters_sha256=manifest.parameter_hash(module.state_dict()))
        trainer.test(module, datamodule=task, verbose=False)
        norms.on_validation_end(trainer, module)
    except BaseException as error:
        close_loggers(trainer.loggers, "failed")
        own = isinstance(error, ONE_LINE) or not isinstance(error, Exception)
        if saved is not None and not saving.at_work and not own:
            problem = f"{type(error).__name__}: {error}"
            way_out = "move it away, or start a new run"
            raise Unfit(f"{start}: a run cannot go on from it ({problem}); {way_out}") from error
        if trainer.is_global_zero:
            with suppress(OSError):  # what went wrong first is what is told
                runs.write_json(folder / runs.SUMMARY, summary())
        raise
    for logger in trainer.loggers:
        logger.finalize("success")
    close_loggers(trainer.loggers, "success")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if trainer.is_global_zero:
        runs.write_json(folder / runs.SUMMARY, fitted)
        print(escaped("\n".join(_closing_lines(fitted, job, folder))), flush=True)
    return module.metrics


def _seed_global_generators(seed: int, rank: int) -> None:
    """Seed what dropout, and plug-ins that do not ask, draw from."""
    start = generator(seed, "noise", rank).initial_seed()
    torch.manual_seed(start)
    np.random.seed(start % 2**32)
    random.seed(start)


def _closing_lines(summary: Mapping[str, Any], job: Job, folder: Path) -> Iterator[str]:
    """The run in a few lines: its metrics beside a trivial predictor's, and where to look."""
    what = " ".join(job.choices[key] for key in ("dataset", "gradient") if key in job.choices)
    yield f"\n{what}: {summary['epochs']} epochs, {summary['steps']} steps, {summary['seconds']} s"
    name, values = next(iter(summary["references"].items()))
    for tag, value in sorted(summary["metrics"].items()):
        stage, _, metric = tag.partition("/")
        if stage == "test":
            known = f"   {name} {rounded(values[metric])}" if metric in values else ""
            yield f"  {tag:<24}{rounded(value):>10}{known}"
    if "padded_share" in summary:
        yield f"  {summary['padded_share']:.1%} of training's steps are padding"
    if "diverged" in summary:
        yield f"  diverged on the way: {summary['diverged']}"
    if "fast_dev_run" in summary:
        yield "  fast_dev_run: a batch each of training, validation and test; it all ran, no more"
    yield runs.folder_and_board("run folder", folder)
