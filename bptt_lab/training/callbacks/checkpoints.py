"""When a run saves where it stands, what belongs to that, and how it finds itself there again.

A checkpoint is taken between two optimizer steps, or between two epochs, never elsewhere: there
everything that the rest of the run depends on is parameters, optimizer, carry, position in the
data, random generators and half-filled logging windows. All of it is saved, for every process.
"""

import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from bptt_lab.config.schema import Experiment
from bptt_lab.gradients.base import Carry
from bptt_lab.runs import MANIFEST, METRICS, read_json
from bptt_lab.runs.outcome import Interrupted
from bptt_lab.runs.signals import Stop
from bptt_lab.training import checkpoint_io, metrics_log, trial
from bptt_lab.training.callbacks.bundle import Bundle
from bptt_lab.training.callbacks.stretch import ANY
from bptt_lab.training.callbacks.writers import State
from bptt_lab.training.module import SequenceModule


class Checkpoints(Checkpoint):
    """Save `last.ckpt` now and then, at the end and at a signal; beside it the best so far.

    Args:
        folder: of the run; its id, and how far its metrics.jsonl is, belong to a checkpoint.
        stop: whether a signal asked the run to stop.
        watching: callbacks whose half-filled windows belong to a checkpoint.
        experiment: says how often, and whether a checkpoint with inf or NaN is unfit.
    """

    def __init__(self, folder: Path, stop: Stop, watching: Bundle, experiment: Experiment) -> None:
        self.folder = folder / "checkpoints"
        self.metrics = folder / METRICS
        self.run_id = read_json(folder / MANIFEST).get("id")
        self.stop = stop
        self.watching = watching
        self.every_seconds = experiment.checkpoint_seconds
        self.finite = experiment.divergence == "stop"
        self._before = 0.0  # seconds of the attempts before this one
        self._clock = stop.clock or time.monotonic
        self._began, self._saved = self._clock(), time.monotonic()
        self._due = self._asked = False
        self._best_loss = math.inf
        self._best: State | None = None  # not yet on the disk
        self._restored: State | None = None
        self._metrics_bytes: int | None = None  # of the checkpoint that the run goes on from
        self.at_work = False  # past everything that a checkpoint could be unfit for
        # Windows, and length of metrics.jsonl, before what is measured at the end of training.
        self._before_end: tuple[State, int] | None = None

    @property
    def seconds(self) -> float:
        """How long the run has taken, attempts before this one included."""
        return self._before + self._clock() - self._began

    @property
    def is_due(self) -> bool:
        """Whether it saves at the next place where it can."""
        return self._due or self._asked

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
        pl_module.after_validation = lambda: self._save_inside(trainer, loop.batch_idx)
        self._go_on(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: SequenceModule, *_: Any) -> None:
        """Have all processes agree on whether to save or stop after this batch."""
        self._due = self._due or time.monotonic() - self._saved >= self.every_seconds
        self._asked = self.stop.asked is not None
        if trainer.world_size > 1:
            flags = torch.tensor([self._due, self._asked], dtype=torch.float32)
            flags = trainer.strategy.reduce(flags.to(pl_module.device), reduce_op="sum")
            self._due, self._asked = (flags > 0).tolist()

    def idle_steps(self, trainer: Trainer) -> int:
        """Return any number, unless it is to save or stop."""
        due = time.monotonic() - self._saved >= self.every_seconds
        return 0 if due or self.is_due or self.stop.asked is not None else ANY

    def catch_up(self, *_: Any) -> None:
        """Let it be; the next step shows whether it is time."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: SequenceModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save inside an epoch, unless validation comes first."""
        if (batch_idx + 1) % (trainer.val_check_batch or 1):
            self._save_inside(trainer, batch_idx)

    def _save_inside(self, trainer: Trainer, batch_idx: int) -> None:
        """Save if it is time, unless gradients are half gathered or the epoch ends here."""
        half = (batch_idx + 1) % trainer.accumulate_grad_batches or trainer.is_last_batch
        if self.is_due and not half:
            self._save(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """Save between two epochs, where the one before has been validated and logged."""
        if self.is_due:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """After the last epoch note how things stand: from there a run with more epochs goes on."""
        if trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs:
            length = metrics_log.mark(self.metrics)["metrics_bytes"]
            self._before_end = _to(self.watching.states(), "cpu"), length

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
        self._asked = self.stop.asked is not None
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
        own = {
            "carry": _to(pl_module.carry, "cpu"),
            "watching": _to(self.watching.states(), "cpu"),
            "watching_before_end": self._before_end and self._before_end[0],
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
            "metrics_bytes_before_end": self._before_end and self._before_end[1],
            "stopped": trainer.should_stop,  # by a callback, as EarlyStopping does
        }
        _rewind(checkpoint["loops"]["fit_loop"], trainer.num_training_batches)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: SequenceModule, checkpoint: State
    ) -> None:
        """Take the run's part now, and each process's own once training starts."""
        self._before = checkpoint["run"]["seconds"]
        self._best_loss = checkpoint["run"]["best_loss"]
        self._metrics_bytes = metrics_length(checkpoint, trainer.max_epochs or 0)
        pl_module.metrics = dict(checkpoint["run"]["metrics"])
        self._restored = own = dict(checkpoint["processes"][trainer.global_rank])
        own["watching"] = own.get("watching_before_end") or own["watching"]  # at an end no more
        trainer.should_stop = checkpoint["run"].get("stopped", False)
        trial.judge(checkpoint, read_carry(own), trainer, pl_module, finite=self.finite)

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


def random_state() -> State:
    """Return the state of torch's (CPU and CUDA), NumPy's and Python's global generators.

    Dropout draws from them, and whatever a plug-in draws without asking.
    """
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "python": random.getstate(),
    }


def restore_random(saved: State) -> None:
    """Put the generators where they were."""
    torch.set_rng_state(saved["torch"])
    if saved["cuda"]:
        torch.cuda.set_rng_state_all(saved["cuda"])
    kind, keys, *rest = saved["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    version, numbers, gauss = saved["python"]
    random.setstate((version, tuple(numbers), gauss))


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


def epochs_begun(fit_loop: State) -> int:
    """Return how many epochs a checkpoint has seen, one that is not whole included."""
    whole: int = fit_loop["epoch_progress"]["current"]["processed"]
    return whole + int(fit_loop["epoch_loop.batch_progress"]["current"]["ready"] > 0)


def metrics_length(saved: State, max_epochs: int) -> int:
    """Return the length of metrics.jsonl that a checkpoint goes on from.

    Where there are more epochs to come, what was measured at the end of training is cut off too.
    """
    run = saved["run"]
    before_end = run.get("metrics_bytes_before_end")
    goes_on = epochs_begun(saved["loops"]["fit_loop"]) < max_epochs and not run.get("stopped")
    length: int = run["metrics_bytes"] if before_end is None or not goes_on else before_end
    return length


def _rewind(fit_loop: State, num_batches: float) -> None:
    """Have a checkpoint taken between two epochs begin the next one, at its first batch.

    Lightning's progress then still stands at the end of the epoch before, and a resumed run would
    go through that end once more.
    """
    batches = fit_loop["epoch_loop.batch_progress"]
    if batches["current"]["ready"] < num_batches:
        return
    batches["current"] = dict.fromkeys(batches["current"], 0)
    batches["is_last_batch"] = False
    epochs = fit_loop["epoch_progress"]
    for count in ("total", "current"):
        done = epochs[count]["processed"]
        epochs[count] = {**dict.fromkeys(epochs[count], done), "ready": done + 1}


def _to(value: Any, device: torch.device | str) -> Any:
    """Move the tensors in nested containers, which become plain ones."""
    if isinstance(value, Tensor):
        return value.detach().to(device)
    if isinstance(value, dict):
        return {key: _to(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to(item, device) for item in value]
    return value
