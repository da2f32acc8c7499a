"""One bar for the whole run: epochs, time that is left, losses; a line now and then in a pipe."""

import math
import sys
import time
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from bptt_lab.core.messages import rounded
from bptt_lab.runs import streams
from bptt_lab.training.callbacks.stretch import ANY
from bptt_lab.training.module import SequenceModule

BAR = "{desc} {percentage:3.0f} %|{bar}| {elapsed}, {remaining} left{postfix}"
LINE = "{desc}, {percentage:.0f} %, {elapsed} gone, {remaining} left{postfix}"
REDRAWN = 0.1  # seconds between two drawings of the bar
TAGS = ("train/loss", "val/loss")
LINES = 10  # of a whole run, in a pipe
SILENT = 60.0  # seconds after which a long run gives a sign of life between them


class Progress(ProgressBar):
    """Shows how far training is; reads the loss when it shows it, and not at every step."""

    _off = False

    def disable(self) -> None:
        """Show nothing, in all processes of a run but the first."""
        self._off = True

    def on_train_start(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """Start the clock; a run that is continued has some of it done."""
        super().on_train_start(trainer, pl_module)
        self._total = _batches(trainer)
        self._first = _batches_done(trainer)
        self._share = self._shares(self._first)
        self._began = self._shown = time.monotonic()
        self._loss: dict[str, float] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: SequenceModule, *_: Any) -> None:
        """Show the bar again, or another line, if it is time."""
        now, done = time.monotonic(), _batches_done(trainer)
        share, drawn = self._shares(done), sys.stderr.isatty()
        due = now - self._shown > (REDRAWN if drawn else SILENT) or share > self._share
        if self._off or not due:
            return
        self._share, self._shown = share, now
        if pl_module.latest_count:
            self._loss["train/loss"] = float(pl_module.latest_sum) / pl_module.latest_count
        losses = {**pl_module.metrics, **self._loss}
        text = tqdm.format_meter(
            done,
            self._total or None,
            now - self._began,
            ncols=streams.width() if drawn else None,
            prefix=f"epoch {trainer.current_epoch + 1}{self._of(trainer)}",
            ascii=" #",
            postfix=", ".join(f"{tag} {rounded(losses[tag])}" for tag in TAGS if tag in losses),
            bar_format=BAR if drawn else LINE,
            initial=self._first,
        )
        streams.progress(text) if drawn else print(text, file=sys.stderr, flush=True)

    def _shares(self, done: int) -> int:
        """Return how many lines a pipe has seen by then; of a run without an end none is known."""
        return LINES * done // self._total if self._total else 0

    def _of(self, trainer: Trainer) -> str:
        return f" of {trainer.max_epochs}" if trainer.max_epochs not in (None, -1) else ""

    def idle_steps(self, trainer: Trainer) -> int:
        """Return any number: the bar can wait for a few steps."""
        return ANY

    def catch_up(self, *_: Any) -> None:
        """Let it be; the next step shows how far training is."""

    def on_train_end(self, *_: Any) -> None:
        """Wipe the bar out: the final lines say what it came to."""
        streams.progress("")

    def on_exception(self, *_: Any) -> None:
        """Make room for the line that says what happened."""
        streams.progress("")


def _batches(trainer: Trainer) -> int:
    """How many there are in all; 0 where only the clock ends them."""
    steps, batches = trainer.estimated_stepping_batches, int(trainer.num_training_batches)
    if steps == math.inf:
        return 0
    window = trainer.accumulate_grad_batches
    epochs, rest = divmod(int(steps), -(-batches // window))
    return epochs * batches + rest * window


def _batches_done(trainer: Trainer) -> int:
    return trainer.fit_loop.epoch_loop.total_batch_idx + 1
