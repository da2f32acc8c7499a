"""Lightning's trainer with what every run has: loggers, instruments, checkpoints."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar

from bptt_lab import runs
from bptt_lab.config.schema import Experiment, refuse
from bptt_lab.runs import sweep
from bptt_lab.runs.job import Job
from bptt_lab.runs.signals import Stop
from bptt_lab.tasks.base import SPLITS, SequenceBatch, SequenceDataModule
from bptt_lab.training.build import Built, make
from bptt_lab.training.callbacks.bundle import Bundle
from bptt_lab.training.callbacks.checkpoints import Checkpoints
from bptt_lab.training.callbacks.credit import CreditHistogram, StrategyReadings
from bptt_lab.training.callbacks.early_stopping import EarlyStopping
from bptt_lab.training.callbacks.gradient_norms import GradientNorms
from bptt_lab.training.callbacks.learning_rate import LearningRate
from bptt_lab.training.callbacks.probe import Instrument
from bptt_lab.training.callbacks.progress import Progress
from bptt_lab.training.callbacks.run_card import RunCard
from bptt_lab.training.callbacks.shadow import Shadow
from bptt_lab.training.callbacks.training_loss import TrainingLoss
from bptt_lab.training.checkpoint_io import AtomicCheckpointIO
from bptt_lab.training.fleet import epoch_loop
from bptt_lab.training.loggers import make_loggers
from bptt_lab.training.metrics_log import BoardLog, MetricsLog
from bptt_lab.training.patience import Patience
from bptt_lab.training.schedules import Responsive


def make_trainer(
    experiment: Experiment,
    folder: Path,
    job: Job,
    built: Built,
    stop: Stop,
    norms: GradientNorms,
    saved: Mapping[str, Any] | None,
) -> Trainer:
    """Set up the trainer of a run that goes on from the checkpoint `saved`, or is new."""
    settings, device, task = experiment.trainer, experiment.device, built.task
    card = RunCard(experiment, job, task.references(), sweep.swept(folder))
    instruments = [card, *_instruments(experiment, task, norms), *_rates(experiment, built)]
    watching = Bundle([one for one in instruments if Bundle.fits(one)])
    others = [one for one in instruments if not Bundle.fits(one)]  # Lightning keeps their state
    for other in others:
        if isinstance(other, ModelCheckpoint):  # `checkpoints` holds what a run goes on from
            other.dirpath = str(folder / "model_checkpoints")
    callbacks: list[Callback] = [
        watching,
        *others,
        *task.callbacks(),
        Checkpoints(folder, stop, watching, experiment),
    ]
    own_bar = any(isinstance(other, ProgressBar) for other in others)
    if settings.enable_progress_bar and not own_bar:
        callbacks.append(Progress())
    # What the run logged after its checkpoint is logged again; TensorBoard drops the first time.
    purge_step = saved["global_step"] + 1 if saved else None
    interval, num_batches = settings.val_check_interval, len(task.train_dataloader())
    if isinstance(interval, int) and interval > num_batches:
        problem = f"must be at most {num_batches}, the batches of an epoch; give that or less"
        refuse("trainer.val_check_interval", interval, problem)
    trainer = Trainer(
        **(_limits(task) if settings.fast_dev_run else {}),
        val_check_interval=1.0 if interval is None else interval,
        max_epochs=-1 if settings.max_epochs is None else settings.max_epochs,
        max_steps=-1 if settings.max_steps is None else settings.max_steps,
        accumulate_grad_batches=settings.accumulate_grad_batches,
        gradient_clip_val=settings.gradient_clip_val,
        gradient_clip_algorithm=settings.gradient_clip_algorithm,
        precision=settings.precision,
        # Our callbacks write once a window by themselves.
        log_every_n_steps=settings.log_every_n_steps if others else 0,
        enable_progress_bar=settings.enable_progress_bar or own_bar,
        accelerator=device.accelerator,
        devices=device.devices,
        strategy="ddp" if device.devices > 1 else "auto",
        deterministic="warn" if device.accelerator != "cpu" else None,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        default_root_dir=folder,
        # Our processes are our own, on a cluster of whatever kind.
        plugins=[AtomicCheckpointIO(), LightningEnvironment()],
        logger=[
            BoardLog(folder, name="", version="", default_hp_metric=False, purge_step=purge_step),
            MetricsLog(folder / runs.METRICS),
            *make_loggers(experiment, folder, card.hyperparameters),
        ],
        callbacks=callbacks,
    )
    epoch_loop.join(trainer)
    return trainer


def _limits(task: SequenceDataModule) -> dict[str, Any]:
    """How many batches of each split there are until something counts in one."""
    found: dict[str, Any] = {}
    for split in SPLITS:
        batches: Iterable[SequenceBatch] = getattr(task, f"{split}_dataloader")()
        numbers = (n for n, batch in enumerate(batches, 1) if batch.mask.any())
        found[f"limit_{split}_batches"] = next(numbers, 1)
    return found


def _instruments(
    experiment: Experiment, task: SequenceDataModule, norms: GradientNorms
) -> Iterator[Callback]:
    """What watches a run: callbacks that change nothing in it."""
    every, callbacks = experiment.trainer.log_every_n_steps, experiment.callbacks
    yield TrainingLoss(every_n_steps=every)
    yield norms
    whole = experiment.segment_length is None
    for name, component in callbacks.instruments.items():
        instrument = make(f"callbacks.{name}", component)
        monitor = getattr(instrument, "monitor", None)
        if monitor is not None and not experiment.control.allow:  # own classes log what they like
            _refuse_unknown_metric(f"callbacks.{name}.monitor", monitor, task, experiment.metrics)
        if whole or not isinstance(instrument, Instrument):
            yield instrument
    if not whole:  # the rest, as every Instrument, needs the states of all steps
        return
    yield CreditHistogram(every_n_steps=every)
    yield StrategyReadings(every_n_steps=every)
    yield Shadow(
        strategies={name: make("callbacks.shadow", c) for name, c in callbacks.shadow.items()},
        every_n_steps=callbacks.every_n_steps,
        probe_size=callbacks.probe_size,
    )


def _rates(experiment: Experiment, built: Built) -> Iterator[Callback]:
    """What changes or ends training by what it has come to."""
    schedule, early, task = built.module.rates.schedule, experiment.early_stopping, built.task
    if schedule is not None:
        if isinstance(schedule, Responsive):
            _refuse_unknown_metric("schedule.metric", schedule.metric, task, experiment.metrics)
        yield LearningRate(schedule, every_n_steps=experiment.trainer.log_every_n_steps)
    if early.patience is not None:
        _refuse_unknown_metric("early_stopping.metric", early.metric, task, experiment.metrics)
        yield EarlyStopping(
            Patience(metric=early.metric, patience=early.patience, min_delta=early.min_delta)
        )


def _refuse_unknown_metric(
    key: str, metric: str, task: SequenceDataModule, metrics: Iterable[str] | None
) -> None:
    """Refuse a metric that validation does not log."""
    known = {f"val/{name}" for values in task.references().values() for name in values}
    known |= {f"val/{name}" for name in metrics or ()}
    if metric not in known:
        refuse(key, metric, f"must be one of {', '.join(sorted(known))}; choose one")
