"""When a run saves where it stands, what belongs to that, and how it finds itself there again.

A checkpoint is taken between two optimizer steps, or between two epochs, never elsewhere: there
everything that the rest of the run depends on is parameters, optimizer, carry, position in the
data, random generators and half-filled logging windows. All of it is saved, for every process.
"""

import math
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from bptt_lab.config.schema import Experiment
from bptt_lab.core.validation import seconds
from bptt_lab.gradients.base import Carry
from bptt_lab.runs import MANIFEST, METRICS, read_json
from bptt_lab.runs.outcome import Interrupted
from bptt_lab.runs.signals import Stop
from bptt_lab.training import checkpoint_io, metrics_log, trial
from bptt_lab.training.callbacks.bundle import Bundle
from bptt_lab.training.callbacks.stretch import ANY
from bptt_lab.training.callbacks.writers import State
from bptt_lab.training.epochs import rewind
from bptt_lab.training.module import SequenceModule
from bptt_lab.training.random_state import random_state, restore_random


class Checkpoints(Checkpoint):
    """Save `last.ckpt` now and then, at the end and at a signal; beside it the best so far.

    Args:
        folder: of the run; its id, and how far its metrics.jsonl is, belong to a checkpoint.
        stop: whether a signal asked the run to stop.
        watching: callbacks whose half-filled windows belong to a checkpoint.
        experiment: says how often, when the run ends, and whether a checkpoint with inf or NaN is
            unfit.
    """

    def __init__(self, folder: Path, stop: Stop, watching: Bundle, experiment: Experiment) -> None:
        self.folder = folder / "checkpoints"
        self.metrics = folder / METRICS
        self.run_id = read_json(folder / MANIFEST).get("id")
        self.stop = stop
        self.watching = watching
        self.every_seconds = experiment.checkpoint_seconds
        self.finite = experiment.divergence == "stop"
        self.ends = experiment.trainer
        limit = self.ends.max_time
        self.max_seconds = math.inf if limit is None else seconds(limit)
        self._before = 0.0  # seconds of the attempts before this one
        self._clock = stop.clock or time.monotonic
        self._began, self._saved = self._clock(), time.monotonic()
        self._due = self._asked = self._over = False
        self._ended = False  # by a limit, which may be moved
        self._best_loss = math.inf
        self._best: State | None = None  # not yet on the disk
        self._restored: State | None = None
        self._metrics_bytes: int | None = None  # of the checkpoint that the run goes on from
        self.at_work = False  # past everything that a checkpoint could be unfit for
        self._before_end: State | None = None  # what a run goes on from whose end is moved
        self._saves_end = False

    @property
    def seconds(self) -> float:
        """How long the run has taken, attempts before this one included."""
        return self._before + self._clock() - self._began

    @property
    def is_due(self) -> bool:
        """Whether it saves at the next place where it can."""
        return self._due or self._asked or self._over

    def on_train_start(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """Take the signals over from Lightning; put back what a checkpoint held."""
        self.stop.install()
        self.stop.patient = True
        if self._restored is not None:
            own = _to(self._restored, pl_module.device)
            pl_module.carry = read_carry(own)
            self.watching.restore(own["watching"])
            restore_random(self._restored["random"])  # last, so that nothing draws in between
            self._restored = None
        loop = trainer.fit_loop.epoch_loop
        pl_module.after_validation = lambda: self._pause(trainer, loop.batch_idx)
        self._go_on(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: SequenceModule, *_: Any) -> None:
        """Have all processes agree on whether to save, stop or end after this batch."""
        self._due = self._due or time.monotonic() - self._saved >= self.every_seconds
        self._asked = self.stop.asked is not None
        self._over = self.seconds >= self.max_seconds
        if trainer.world_size > 1:
            flags = torch.tensor([self._due, self._asked, self._over], dtype=torch.float32)
            flags = trainer.strategy.reduce(flags.to(pl_module.device), reduce_op="sum")
            self._due, self._asked, self._over = (flags > 0).tolist()

    def idle_steps(self, trainer: Trainer) -> int:
        """Return any number, unless it is to save, stop or end."""
        due = time.monotonic() - self._saved >= self.every_seconds
        due = due or self.seconds >= self.max_seconds
        return 0 if due or self.is_due or self.stop.asked is not None else ANY

    def catch_up(self, *_: Any) -> None:
        """Let it be; the next step shows whether it is time."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: SequenceModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save or end inside an epoch, unless validation comes first."""
        if (batch_idx + 1) % (trainer.val_check_batch or 1):
            self._pause(trainer, batch_idx)

    def _pause(self, trainer: Trainer, batch_idx: int) -> None:
        """Save or end if it is time, unless gradients are half gathered or the epoch ends here.

        Where training ends it is validated, if it is not yet, and the rest of the epoch is left
        out. A run that has stopped early has ended already.
        """
        if trainer.should_stop or _is_half(trainer, batch_idx):
            return
        if self._is_at_limit(trainer):
            self._note_end(trainer, trainer.fit_loop.state_dict())
            trainer.should_stop = self._ended = True
        elif self.is_due:
            self._save(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """Save between two epochs, where the one before has been validated and logged."""
        if self.is_due:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """After the last epoch note how things stand, unless it ended before its last batch."""
        if self._ended:
            return
        if self._is_at_limit(trainer) and not trainer.should_stop:
            trainer.should_stop = self._ended = True
        if trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs:
            self._note_end(trainer)

    def _is_at_limit(self, trainer: Trainer) -> bool:
        return self._over or trainer.global_step == trainer.max_steps

    def _note_end(self, trainer: Trainer, loops: State | None = None) -> None:
        """Note windows, and how far metrics.jsonl is, before what is measured at the end.

        Inside an epoch the `loops` are noted too.
        """
        length = metrics_log.mark(self.metrics)["metrics_bytes"]
        watching = _to(self.watching.states(), "cpu")
        self._before_end = {"watching": watching, "metrics_bytes": length, "loops": loops}

    def on_validation_end(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """Keep the best parameters; the next checkpoint takes them to the disk."""
        loss = float(trainer.callback_metrics["val/loss"])
        if loss < self._best_loss:
            self._best_loss = loss
            state = {name: t.detach().cpu().clone() for name, t in pl_module.state_dict().items()}
            self._best = {
                "state_dict": state,
                "epoch": trainer.current_epoch,
                "global_step": trainer.global_step,
                "val/loss": loss,
                **pl_module.description(),
            }

    def on_train_end(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """Save what training ended with."""
        self._asked, self._saves_end = self.stop.asked is not None, True
        self._save(trainer)
        self.stop.patient = False

    def on_test_start(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """Take the signals over from Lightning; what is tested is saved already."""
        self.stop.install()
        self._go_on(trainer)  # a run that was stopped here trains no more

    def _go_on(self, trainer: Trainer) -> None:
        """Cut the log to what a checkpoint was saved with, once everything is restored."""
        if not self.at_work and self._metrics_bytes is not None and trainer.is_global_zero:
            metrics_log.cut(self.metrics, self._metrics_bytes)
        self.at_work = True

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: SequenceModule, checkpoint: State
    ) -> None:
        """Add what Lightning leaves out."""
        before_end = self._before_end or {}
        own = {
            "carry": _to(pl_module.carry, "cpu"),
            "watching": _to(self.watching.states(), "cpu"),
            "watching_before_end": before_end.get("watching"),
            "random": random_state(),
        }
        processes: list[Any] = [own]
        if trainer.world_size > 1:
            processes = [None] * trainer.world_size
            torch.distributed.all_gather_object(processes, own)
        checkpoint["processes"] = processes
        checkpoint["run"] = {
            "seconds": self.seconds,
            "best_loss": self._best_loss,
            "metrics": dict(pl_module.metrics),
            **metrics_log.mark(self.metrics),
            **({"id": self.run_id} if self.run_id else {}),
            "metrics_bytes_before_end": before_end.get("metrics_bytes"),
            "loops_before_end": before_end.get("loops"),
            "stopped": trainer.should_stop and not self._ended,  # by a callback
        }
        batches = 0 if self._saves_end else trainer.num_training_batches
        rewind(checkpoint["loops"]["fit_loop"], batches)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: SequenceModule, checkpoint: State
    ) -> None:
        """Take the run's part now, and each process's own once training starts."""
        run = checkpoint["run"]
        self._before, self._best_loss = run["seconds"], run["best_loss"]
        pl_module.metrics = dict(run["metrics"])
        self._metrics_bytes, before_end = run["metrics_bytes"], run.get("metrics_bytes_before_end")
        trainer.should_stop = run.get("stopped", False)
        if before_end is not None and not trainer.should_stop:
            loops = run.get("loops_before_end") or checkpoint["loops"]["fit_loop"]
            trainer.should_stop = self._is_at_end(checkpoint["global_step"], loops)
            if not trainer.should_stop:  # its end was moved
                self._metrics_bytes, checkpoint["loops"]["fit_loop"] = before_end, loops
        self._restored = own = dict(checkpoint["processes"][trainer.global_rank])
        own["watching"] = own.get("watching_before_end") or own["watching"]  # at an end no more
        trial.judge(checkpoint, read_carry(own), trainer, pl_module, finite=self.finite)

    def _is_at_end(self, steps: int, fit_loop: State) -> bool:
        """Whether a run that ended there would end there again."""
        epochs, ends = fit_loop["epoch_progress"]["current"]["processed"], self.ends
        return (
            (ends.max_epochs is not None and epochs >= ends.max_epochs)
            or (ends.max_steps is not None and steps >= ends.max_steps)
            or self._before >= self.max_seconds
        )

    def _save(self, trainer: Trainer) -> None:
        """Save, unless the parameters are beyond saving; then stop if that was asked for."""
        parameters = [p.detach() for p in trainer.lightning_module.parameters()]
        finite = all(bool(norm.isfinite()) for norm in torch._foreach_norm(parameters))
        if finite:
            if self._best is not None and trainer.is_global_zero:
                trainer.strategy.checkpoint_io.save_checkpoint(
                    self._best, self.folder / checkpoint_io.BEST
                )
            self._best = None
            trainer.save_checkpoint(self.folder / checkpoint_io.LAST)
        self._saved, self._due = time.monotonic(), False
        if self._asked:
            raise Interrupted(self.stop.asked or 15)


def read_carry(process: State) -> Carry | None:
    """Return the carry that a checkpoint holds for a process.

    In old ones a carry was a state and an influence, and the strategy kept its estimate.
    """
    if process["carry"] is None:
        return None
    carry, estimate = Carry(*process["carry"]), process.get("gradient")
    if estimate is None:
        return carry
    while "of" in estimate:  # of a modifier
        estimate = estimate["of"]
    estimate = {"_period" if name == "period" else name: x for name, x in estimate.items()}
    return carry._replace(estimate=estimate)


def _is_half(trainer: Trainer, batch_idx: int) -> bool:
    """Whether gradients are half gathered, or the epoch ends here."""
    return bool((batch_idx + 1) % trainer.accumulate_grad_batches or trainer.is_last_batch)


def _to(value: Any, device: torch.device | str) -> Any:
    """Move the tensors in nested containers, which become plain ones."""
    if isinstance(value, Tensor):
        return value.detach().to(device)
    if isinstance(value, dict):
        return {key: _to(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to(item, device) for item in value]
    return value
