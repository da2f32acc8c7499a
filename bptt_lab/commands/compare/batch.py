"""The network, the batch and the loss on which all strategies are compared."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bptt_lab.config.schema import Experiment
from bptt_lab.core.validation import ConfigError
from bptt_lab.diagnostics.linearise import immediate_credit, linearise
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.runs.outcome import CheckpointError
from bptt_lab.tasks.base import SequenceBatch
from bptt_lab.training import checkpoint_io
from bptt_lab.training.build import build
from bptt_lab.training.module import SequenceModule


class TrainingBatch(NamedTuple):
    """A network in front of the first training batch that has something to learn from."""

    module: SequenceModule
    sequences: SequenceBatch  # time first
    hx: Tensor  # state before the batch, (num_layers, N, H)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Steps, sequences, inputs and hidden units."""
        L, N, I = self.sequences.input.shape
        return L, N, I, self.module.rnn.hidden_size

    def loss(self, output: Tensor) -> Tensor:
        """Mean loss of the elements that count, of the last layer's states (L, N, H)."""
        return self.module.loss_sum(output, self.sequences)[0] / self.sequences.mask.sum()

    def gradient(
        self, strategy: GradientStrategy, steps: int | None = None, sequences: int | None = None
    ) -> tuple[Tensor, ...]:
        """One forward and backward pass, as a training step makes it.

        Of a part, the first steps of some sequences, each step has a loss.
        """
        rnn, hx = self.module.rnn, self.hx[:, :sequences]
        carry = strategy.init_carry(rnn, hx.shape[1])._replace(hx=hx)
        output, _ = strategy.unroll(rnn, self.sequences.input[:steps, :sequences], carry)
        loss = self.loss(output) if steps is None else output.square().sum()
        return torch.autograd.grad(loss, [*self.module.parameters()], materialize_grads=True)

    def losses(self) -> Tensor:
        """Return which steps have a loss of their own, (L,) booleans."""
        run = linearise(self.module.rnn, self.sequences.input, self.hx)
        return immediate_credit(run, self.loss).flatten(1).any(1)


def prepare(experiment: Experiment, checkpoint: Path | None) -> TrainingBatch:
    """Build the network of a configuration, trained where there is a checkpoint.

    Numbers are float32, or float64 with trainer.precision=64-true. Nothing is dropped.

    Args:
        experiment: the whole.
        checkpoint: whose parameters to take; None for those that training starts from.

    Raises:
        ConfigError: for what cannot be built, or a checkpoint that is not whole or another's.
    """
    torch.set_num_threads(experiment.threads)
    task, module = build(experiment)
    if checkpoint is not None:
        _load(module, checkpoint)
    module.eval()
    dtype = torch.float64 if experiment.trainer.precision == "64-true" else torch.float32
    module.to(dtype)
    carry = None
    for batch in task.train_dataloader():
        batch = batch._replace(input=module.embed(batch.input.to(dtype)).detach())
        if batch.target.is_floating_point():
            batch = batch._replace(target=batch.target.to(dtype))
        if carry is None or batch.is_first:
            carry = module.rnn.gradient.init_carry(module.rnn, batch.input.shape[1])
        if batch.mask.any():
            return TrainingBatch(module, batch, carry.hx)
        with torch.no_grad():
            _, carry = module.rnn.gradient.unroll(module.rnn, batch.input, carry)
    raise ConfigError("dataset: no training step counts towards the loss; choose another")


def _load(module: SequenceModule, checkpoint: Path) -> None:
    try:
        state: Any = checkpoint_io.read(checkpoint, "cpu").get("state_dict")
        module.load_state_dict(state)
    except CheckpointError as error:
        raise ConfigError(f"--checkpoint {error}; give another run") from error
    except (RuntimeError, TypeError, AttributeError) as error:  # names, shapes, no tensors at all
        problem = "holds other parameters than its manifest.json describes"
        raise ConfigError(f"--checkpoint {checkpoint}: {problem}; give another run") from error
