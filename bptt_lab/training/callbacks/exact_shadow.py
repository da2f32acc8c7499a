"""Where RTRL would point along the very trajectory of a run, while another strategy trains it."""

from bisect import bisect_left
from collections.abc import Mapping
from math import fsum, isfinite, nan
from typing import Annotated, Any, ClassVar

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from bptt_lab.config.schema import refuse
from bptt_lab.core.validation import Ge, checked
from bptt_lab.gradients import history
from bptt_lab.gradients.history import Steps
from bptt_lab.gradients.past import PastFacing, observed
from bptt_lab.tasks.base import ChunkLoader, SequenceBatch
from bptt_lab.training.callbacks.stretch import Stretch
from bptt_lab.training.callbacks.writers import State, write_scalars
from bptt_lab.training.module import SequenceModule

LONGEST = 1000  # steps of a sequence that are remembered


class ExactShadow(Callback):
    """Compare a run's own gradient with the exact one of the same trajectory.

    For any strategy and any chunk length. The exact gradient is what RTRL with carried influence
    would have found at this step, had it seen this run's weights change: see
    `bptt_lab.gradients.history`. Compared are the gradients of the recurrent layer's parameters,
    of a batch's mean loss and before clipping. Nothing in training changes.

    Some sequences are observed from their beginning, for 1000 steps at most; the first one is.
    Once for each the means over what was measured in it are written: `exact_shadow/cosine`,
    `.../norm_ratio` and `.../relative_error`; and of a strategy that shows its influence matrix
    `.../influence_error`, |M~ - M| / |M| in Frobenius norms after the last step that was observed.

    Do not use it with more than one layer; it refuses that, several processes and accumulated
    gradients. Cost: O(T N H (H + I)) for a measurement after T steps, once O(T N H^3 (H + I)) a
    sequence for the influence; between two observed sequences nothing.

    Args:
        every_n_sequences: from one observed sequence to the next, counted in batches of sequences.
        every_n_steps: optimizer steps between two measurements.

    Raises:
        ConfigError: where the run is one that it refuses.
    """

    max_layers: ClassVar[int] = 1

    @checked
    def __init__(
        self,
        *,
        every_n_sequences: Annotated[int, Ge(1)] = 5,
        every_n_steps: Annotated[int, Ge(1)] = 7,
    ) -> None:
        self.every_n_sequences = every_n_sequences
        self.every_n_steps = every_n_steps
        self._number = -1  # of the present sequence
        self._observes = False
        self._past: list[Steps] = []
        self._seen = 0  # steps in it
        self._readings: dict[str, list[float]] = {}
        self._latest: tuple[SequenceBatch, Tensor] | None = None  # and its states, (L, N, H)
        self._known: tuple[int, list[int]] = -1, []  # an epoch, and where sequences begin in it

    def on_train_start(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """Refuse what cannot be compared."""
        way_out = "or leave ExactShadow out with callbacks=default"
        for key, value, reason in (
            ("model.num_layers", pl_module.rnn.num_layers, "it follows no more layers"),
            ("device.devices", trainer.world_size, "each process has a part of the gradient"),
            ("trainer.accumulate_grad_batches", trainer.accumulate_grad_batches,
             "it compares one batch's gradient"),
        ):  # fmt: skip
            if value > 1:
                refuse(key, value, f"must be 1 with ExactShadow, since {reason}; give 1, {way_out}")

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: SequenceModule, batch: SequenceBatch, batch_idx: int
    ) -> None:
        """Remember the batch's steps, before the weights change, if its sequences are observed."""
        if batch.is_first:
            self._close(trainer, pl_module)
            self._number += 1
            self._observes = self._number % self.every_n_sequences == 0
        if not self._observes:
            return
        if self._seen and self._seen + len(batch.input) > LONGEST:
            self._close(trainer, pl_module)
            return
        with torch.no_grad():
            input, hx = pl_module.embed(batch.input), pl_module.carry_before(batch).hx
            chunk = observed(pl_module.rnn, input, hx)
        self._past.append(history.remembered(chunk))
        self._seen += len(batch.input)
        self._latest = batch, chunk.states[1:]

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: SequenceModule, *_: Any
    ) -> None:
        """Measure, if it is time. The step that the hook belongs to is counted after it."""
        if self._latest is None or (trainer.global_step + 1) % self.every_n_steps:
            return
        batch, output = self._latest
        own, exact = [], []
        for parameter, gradient in zip(
            pl_module.rnn.all_weights[0], self._exact(pl_module, batch, output), strict=True
        ):
            if parameter.grad is not None:
                own.append(parameter.grad.detach().flatten().to(gradient))
                exact.append(gradient.flatten())
        if own:
            for name, value in _compared(torch.cat(own), torch.cat(exact)).items():
                self._add(name, value)

    def _exact(self, module: SequenceModule, batch: SequenceBatch, output: Tensor) -> list[Tensor]:
        """The exact gradient of each parameter of the layer."""
        with torch.enable_grad():
            output = output.detach().requires_grad_()
            total, _ = module.loss_sum(output.to(module.readout.weight.dtype), batch)
            (q_LNH,) = torch.autograd.grad(total / module.share, output)
        rnn = module.rnn
        sizes = [rnn.input_size, rnn.input_size + rnn.hidden_size]
        total_HJ = history.pull_back(self._past, rnn.leak, q_LNH)
        ih, hh, bias = total_HJ.tensor_split(sizes, dim=1)
        return [ih, hh, *[bias] * (2 * rnn.bias)]

    def on_train_batch_end(self, *_: Any) -> None:
        """Let go of the batch."""
        self._latest = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """Write what a sequence has given that ends with the epoch."""
        self._close(trainer, pl_module)

    def _close(self, trainer: Trainer, module: SequenceModule) -> None:
        """End the observation, before the carry of its last step is gone, and write the means."""
        if self._past and self._readings:
            self._add("influence_error", self._influence_error(module))
        means = {f"exact_shadow/{n}": fsum(x) / len(x) for n, x in self._readings.items()}
        if means:
            write_scalars(trainer, means, trainer.global_step)
        self._observes, self._past, self._readings, self._seen = False, [], {}, 0

    def _influence_error(self, module: SequenceModule) -> float:
        """|M~ - M| / |M|, nan where the strategy shows no matrix."""
        rule, carry = module.rnn.gradient, module.carry
        if not isinstance(rule, PastFacing) or carry is None or carry.influence is None:
            return nan
        try:
            M = rule.matrix(carry.influence)
        except NotImplementedError:
            return nan
        exact = history.influence(self._past, module.rnn.leak).view_as(M)
        return float((M - exact).norm() / exact.norm())

    def _add(self, name: str, value: float) -> None:
        if isfinite(value):
            self._readings.setdefault(name, []).append(value)

    def idle_steps(self, trainer: Trainer) -> int:
        """Return how many steps there are until it observes, in this epoch."""
        loader = trainer.train_dataloader
        if self._observes or not isinstance(loader, ChunkLoader):
            return 0
        begun, starts = self._begun(trainer), self._starts(trainer, loader)
        index = bisect_left(starts, begun) + -(self._number + 1) % self.every_n_sequences
        return (starts[index] if index < len(starts) else len(loader)) - begun

    def catch_up(self, trainer: Trainer, pl_module: SequenceModule, stretch: Stretch) -> None:
        """Count the sequences that have begun."""
        end, loader = self._begun(trainer), trainer.train_dataloader
        assert isinstance(loader, ChunkLoader)
        starts = self._starts(trainer, loader)
        self._number += bisect_left(starts, end) - bisect_left(starts, end - len(stretch.sums))

    def _begun(self, trainer: Trainer) -> int:
        """How many of the epoch's batches have begun."""
        return trainer.fit_loop.epoch_loop.batch_progress.current.ready

    def _starts(self, trainer: Trainer, loader: ChunkLoader) -> list[int]:
        """Where sequences begin in this epoch."""
        if self._known[0] != trainer.current_epoch:
            self._known = trainer.current_epoch, loader.starts()
        return self._known[1]

    def state_dict(self) -> State:
        """Return what it has seen of the present sequence."""
        return {
            "number": self._number,
            "observes": self._observes,
            "lengths": [len(steps.slope) for steps in self._past],
            "past": [torch.cat(tensors) for tensors in zip(*self._past, strict=True)],
            "readings": {name: list(values) for name, values in self._readings.items()},
        }

    def load_state_dict(self, state_dict: State) -> None:
        """Go on from there."""
        self._number, self._observes = state_dict["number"], state_dict["observes"]
        self._readings = {name: list(values) for name, values in state_dict["readings"].items()}
        lengths = state_dict["lengths"]
        if lengths:
            extended, slope, weights = state_dict["past"]
            parts = extended.split(lengths), slope.split(lengths), weights.chunk(len(lengths))
            self._past = [Steps(*steps) for steps in zip(*parts, strict=True)]
        self._seen = sum(lengths)


def _compared(own: Tensor, exact: Tensor) -> Mapping[str, float]:
    """One gradient beside another; what is not defined is nan or inf."""
    sizes = own.norm(), exact.norm()
    return {
        "cosine": float(own @ exact / (sizes[0] * sizes[1])),
        "norm_ratio": float(sizes[0] / sizes[1]),
        "relative_error": float((own - exact).norm() / sizes[1]),
    }
