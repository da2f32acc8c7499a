"""Instruments: what is measured now and then on a fixed batch, without a trace in training.

The probe is the first chunk of the first few validation sequences: the same batch in every
measurement of a run, and in every run of a task, so that curves can be compared.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from matplotlib.figure import Figure
from torch import Tensor

from bptt_lab.core.validation import Ge, checked
from bptt_lab.gradients.base import Carry
from bptt_lab.nn.losses import masked_sum
from bptt_lab.nn.rnn import VanillaRNN
from bptt_lab.tasks.base import SequenceBatch, SequenceDataModule
from bptt_lab.training.callbacks.writers import Periodic, State, tensorboard_writer, write_scalars
from bptt_lab.training.histograms import LogHistogram, write_histograms
from bptt_lab.training.module import SequenceModule

MAX_STEPS = 256  # of a probe; the work of most instruments grows with the square


class Moment(NamedTuple):
    """The network and the probe at one step of training."""

    rnn: VanillaRNN
    input: Tensor  # (T, N, I)
    loss: Callable[[Tensor], Tensor]  # mean loss of the last layer's states (T, N, H)
    step: int
    carry: Carry | None = None  # of training, for the estimate of its strategy


class Reading(NamedTuple):
    """What an instrument reads at a moment, by tag."""

    scalars: Mapping[str, float]
    histograms: Mapping[str, LogHistogram] = {}


class Instrument(Periodic):
    """A callback that measures on the probe and writes what it reads.

    A leaf class implements `read`, and `draw` if it has pictures. Nothing that it does changes
    training: it draws no random numbers, drops no units, and leaves `.grad` alone.

    Args:
        every_n_steps: optimizer steps between two measurements; one more is made at the end.
        probe_size: sequences of the probe.
    """

    idle_steps = Periodic.idle_steps

    @checked
    def __init__(
        self,
        *,
        every_n_steps: Annotated[int, Ge(1)],
        probe_size: Annotated[int, Ge(1)] = 8,
    ) -> None:
        super().__init__(every_n_steps=every_n_steps)
        self.probe_size = probe_size
        self._readings = 0
        self._latest = -1
        self._undrawn = False
        self._probe: SequenceBatch | None = None

    @abstractmethod
    def read(self, moment: Moment) -> Reading:
        """Measure; remember whatever `draw` needs."""

    def draw(self) -> Mapping[str, Figure]:
        """Return pictures of what was read so far, by tag."""
        return {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: SequenceModule, *_: Any) -> None:
        """Measure if it is time. Pictures are drawn at the 16th, 256th ... measurement.

        A measurement stands at the step that the network makes next; the last step's is that of
        the network which training ends with.
        """
        step = trainer.global_step + 1
        if not (self.is_due(step) and trainer.is_global_zero):
            return
        last = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        if last or step == trainer.max_steps:
            return
        self.measured(step)
        self._readings += 1
        if self._measure(trainer, pl_module, step) and self._readings in (16, 256, 4096, 65536):
            self._draw(trainer, step)

    def on_train_end(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """Measure what training ended with."""
        if trainer.is_global_zero:
            self._undrawn = self._measure(trainer, pl_module, trainer.global_step)

    def on_fit_end(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """Draw it, once it is saved: a picture that fails costs no training."""
        if self._undrawn:
            self._draw(trainer, trainer.global_step)
        self._undrawn = False

    def state_dict(self) -> State:
        """Return when the next measurement is due; `history` is for what pictures are made of."""
        return super().state_dict() | {"readings": self._readings, "history": None}

    def load_state_dict(self, state_dict: State) -> None:
        """Keep to the rhythm of the run so far."""
        super().load_state_dict(state_dict)
        self._readings = state_dict["readings"]

    def _measure(self, trainer: Trainer, pl_module: SequenceModule, step: int) -> bool:
        """Write what is read, and return whether there was anything to measure."""
        try:
            with torch.random.fork_rng(devices=[]):
                reading = self.read(self._moment(trainer, pl_module, step))
        except FloatingPointError:  # a network that has diverged
            return False
        if reading.scalars and step != self._latest:  # the end may have been measured already
            write_scalars(trainer, reading.scalars, step)
        self._latest = step
        writer = tensorboard_writer(trainer)
        if writer is not None and reading.histograms:
            write_histograms(writer, reading.histograms, step)
        return True

    def _draw(self, trainer: Trainer, step: int) -> None:
        writer = tensorboard_writer(trainer)
        if writer is None:
            return
        for tag, figure in self.draw().items():
            writer.add_figure(tag, figure, step, close=False)  # no pyplot has it open

    def _moment(self, trainer: Trainer, module: SequenceModule, step: int) -> Moment:
        task: Any = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it late
        assert isinstance(task, SequenceDataModule)
        if self._probe is None:
            self._probe = probe(task, self.probe_size)
        return moment(module, self._probe, step)


def probe(task: SequenceDataModule, size: int) -> SequenceBatch:
    """Return the first chunk of the first sequences of validation, `size` of them."""
    data = task.cached("val", 0)
    steps = min(len(data.mask), task.chunk_length or len(data.mask), MAX_STEPS)
    part = [tensor[:steps, :size] for tensor in data]
    if not bool(part[2].any()):  # a last-step task in chunks: the end, not the beginning
        part = [tensor[-steps:, :size] for tensor in data]
    return SequenceBatch(task.encode(part[0]), part[1], part[2], is_first=True)


def moment(module: SequenceModule, batch: SequenceBatch, step: int) -> Moment:
    """Return a network and a batch as instruments read them."""
    input, target, mask = (tensor.to(module.device) for tensor in batch[:3])

    def loss(output: Tensor) -> Tensor:
        elements = module.loss(module.read_out(output), target)
        return masked_sum(elements, mask) / mask.sum()

    with torch.no_grad():
        input = module.embed(input.to(module.readout.weight.dtype))
    return Moment(module.rnn, input, loss, step, module.carry)
