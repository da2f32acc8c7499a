"""Norms of the gradient before clipping, and what becomes of a run whose gradient is not finite."""

import math
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from bptt_lab.runs.outcome import Diverged
from bptt_lab.training.callbacks.stretch import Stretch
from bptt_lab.training.callbacks.writers import State, tensorboard_writer, write_scalars
from bptt_lab.training.histograms import is_kept, log_histograms, write_histograms
from bptt_lab.training.module import SequenceModule


class GradientNorms(Callback):
    """Gather the norms of every step; write them once a logging window.

    Scalars `gradient_norm/total` and `gradient_norm/<parameter>` are means over the window;
    histograms `gradient_norm_log10/<parameter>` hold its single steps, later in a run not of every
    window, and `gradient_norm/nonfinite` counts the norms that were inf or NaN.

    Args:
        every_n_steps: optimizer steps in a window.
        divergence: where a loss or norm is inf or NaN, "stop" ends the run before the optimizer
            steps; "record" notes the first step.
    """

    def __init__(self, *, every_n_steps: int, divergence: Literal["stop", "record"]) -> None:
        self.every_n_steps = every_n_steps
        self.divergence = divergence
        self.diverged = ""  # what diverged first, and when; empty while nothing did
        self._named: list[tuple[str, Tensor]] = []
        self._norms: list[Tensor] = []  # of each step, (parameters)

    def on_train_start(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """Look up the parameters once: it takes longer than their norms."""
        self._named = list(pl_module.named_parameters())

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: SequenceModule, *_: Any
    ) -> None:
        """Add this step's norms.

        Raises:
            Diverged: where they are not finite and the run is to stop at that.
        """
        named = [(name, p.grad) for name, p in self._named if p.grad is not None]
        names = [name for name, _ in named]
        norms = torch.stack(torch._foreach_norm([grad for _, grad in named]))
        self._norms.append(norms)
        # The hook comes before the step that it belongs to is counted.
        step = trainer.global_step + 1
        diverged = not math.isfinite(float(norms.sum()))
        if diverged and not self.diverged:
            self.diverged = _diverged(float(pl_module.latest_sum), norms, names, step)
        stop = diverged and self.divergence == "stop"
        if stop or len(self._norms) >= self.every_n_steps:
            self._write(trainer, names, step)
        if stop:
            raise Diverged(self.diverged)

    def idle_steps(self, trainer: Trainer) -> int:
        """Return how many of the next steps leave the window unfilled."""
        return max(0, self.every_n_steps - len(self._norms) - 1)

    def catch_up(self, trainer: Trainer, pl_module: SequenceModule, stretch: Stretch) -> None:
        """Add the norms of several steps, none of which a run is to stop at."""
        found = [norms for norms in stretch.norms if norms is not None]
        self._norms += found
        if self.diverged or not found or bool(torch.stack(found).sum().isfinite()):
            return
        names = [name for name, _ in self._named]
        steps = zip(stretch.sums, stretch.norms, strict=True)
        for step, (total, norms) in enumerate(steps, trainer.global_step - len(stretch.sums) + 1):
            if norms is not None and not math.isfinite(float(norms.sum())):
                self.diverged = _diverged(float(total), norms, names, step)
                return

    def on_validation_end(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """Do the same where the loss of validation or test is not finite."""
        for tag in ("val/loss", "test/loss"):
            if not math.isfinite(loss := pl_module.metrics.get(tag, 0.0)):
                self.diverged = self.diverged or f"{tag} is {loss} at step {trainer.global_step}"
                if self.divergence == "stop":
                    raise Diverged(self.diverged)

    def state_dict(self) -> State:
        """Return the window's norms so far, (steps, parameters)."""
        if not self._norms:
            return {}
        return {"norms": torch.stack(self._norms)}

    def load_state_dict(self, state_dict: State) -> None:
        """Go on with a window."""
        self._norms = list(state_dict.get("norms", ()))

    def _write(self, trainer: Trainer, names: list[str], step: int) -> None:
        norms = torch.stack(self._norms).float().cpu()  # (steps, parameters)
        self._norms = []
        total = norms.square().sum(1).sqrt()
        scalars = {"gradient_norm/total": float(total.mean())}
        scalars |= {
            f"gradient_norm/{name}": float(norm)
            for name, norm in zip(names, norms.mean(0), strict=True)
        }
        scalars["gradient_norm/nonfinite"] = float((~norms.isfinite()).sum())
        write_scalars(trainer, scalars, step)
        if (writer := tensorboard_writer(trainer)) and is_kept(step, self.every_n_steps):
            tags = (f"gradient_norm_log10/{name}" for name in names)
            histograms = dict(zip(tags, log_histograms(norms.t()), strict=True))
            write_histograms(writer, histograms, step)


def _diverged(loss: float, norms: Tensor, names: list[str], step: int) -> str:
    if not math.isfinite(loss):
        return f"the loss is {loss} at step {step}"
    broken = [name for name, norm in zip(names, norms, strict=True) if not norm.isfinite()]
    what = ", ".join(broken) or "all parameters together"
    return f"the gradient of {what} is not finite at step {step}"
