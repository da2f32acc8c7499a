"""Where RTRL would point along the very trajectory of a run, while another strategy trains it."""

from bisect import bisect_left
from typing import Annotated, Any, ClassVar

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from bptt_lab.config.schema import refuse
from bptt_lab.core import recurrence
from bptt_lab.core.cell import Cell, Weights
from bptt_lab.core.validation import Ge, checked
from bptt_lab.gradients import history
from bptt_lab.gradients.history import History, Lived
from bptt_lab.gradients.past import PastFacing
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
        self._past: list[Lived] = []
        self._seen = 0  # steps in it
        self._losses: list[tuple[int, Tensor]] = []  # those measured, as `pull_back` takes them
        self._own: list[Tensor] = []  # gradients of these, (P)
        self._latest: SequenceBatch | None = None
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
        self._past.append(history.remembered(pl_module.rnn, input, hx))
        self._seen += len(input)
        self._latest = batch

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: SequenceModule, *_: Any
    ) -> None:
        """Keep the gradient, if it is time. The step that the hook belongs to is counted later."""
        if self._latest is None or (trainer.global_step + 1) % self.every_n_steps:
            return
        learnt = [p for p in pl_module.rnn.all_weights[0] if p.requires_grad]
        if not learnt:
            return
        own = [torch.zeros_like(p) if p.grad is None else p.grad.detach() for p in learnt]
        self._losses.append((self._seen, self._credit(pl_module, self._latest)))
        self._own.append(torch.cat([gradient.flatten() for gradient in own]))

    def _credit(self, module: SequenceModule, batch: SequenceBatch) -> Tensor:
        """The immediate credit of the batch's loss, (L, N, H)."""
        (input, hx, weights), rnn = self._past[-1], module.rnn
        layer = recurrence.unroll(input, hx, weights, Cell(rnn.nonlinearity, rnn.leak))
        with torch.enable_grad():
            output = layer.states[1:].requires_grad_()
            total, _ = module.loss_sum(output.to(module.readout.weight.dtype), batch)
            (q_LNH,) = torch.autograd.grad(total / module.share, output)
        return q_LNH

    def on_train_batch_end(self, *_: Any) -> None:
        """Let go of the batch."""
        self._latest = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """Write what a sequence has given that ends with the epoch."""
        self._close(trainer, pl_module)

    def _close(self, trainer: Trainer, module: SequenceModule) -> None:
        """End the observation, before the carry of its last step is gone, and write the means."""
        if self._losses:
            scalars = self._readings(module)
            if scalars:
                write_scalars(trainer, scalars, trainer.global_step)
        self._observes, self._seen = False, 0
        self._past, self._losses, self._own = [], [], []

    def _readings(self, module: SequenceModule) -> dict[str, float]:
        """The means over what was measured, of what is finite."""
        rnn = module.rnn
        past = history.history(self._past, Cell(rnn.nonlinearity, rnn.leak))
        total_KHJ = history.pull_back(past, self._losses)
        sizes = [rnn.input_size, rnn.input_size + rnn.hidden_size]
        ih, hh, bias = total_KHJ.tensor_split(sizes, dim=2)
        known = zip((ih, hh, bias, bias), rnn.all_weights[0], strict=False)
        exact = torch.cat([part.flatten(1) for part, p in known if p.requires_grad], 1)
        found = _compared(torch.stack(self._own).to(exact), exact)
        error = self._influence_error(module, past)
        if error is not None:
            found["influence_error"] = error
        kept = {name: values[values.isfinite()] for name, values in found.items()}
        return {f"exact_shadow/{n}": float(x.mean()) for n, x in kept.items() if len(x)}

    def _influence_error(self, module: SequenceModule, past: History) -> Tensor | None:
        """|M~ - M| / |M|, (1); None where the strategy shows no matrix."""
        rule, carry = module.rnn.gradient, module.carry
        if not isinstance(rule, PastFacing) or carry is None or carry.influence is None:
            return None
        try:
            M = rule.matrix(carry.influence)
        except NotImplementedError:
            return None
        exact = history.influence(past)
        error: Tensor = (M - exact).norm() / exact.norm()
        return error[None]

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
        past = [(chunk.hx, *(w for w in chunk.weights if w is not None)) for chunk in self._past]
        return {
            "number": self._number,
            "observes": self._observes,
            "inputs": [chunk.input for chunk in self._past],
            "past": [torch.stack(kind) for kind in zip(*past, strict=True)],
            "losses": [list(loss) for loss in self._losses],
            "own": list(self._own),
        }

    def load_state_dict(self, state_dict: State) -> None:
        """Go on from there."""
        self._number, self._observes = state_dict["number"], state_dict["observes"]
        inputs, stacked = state_dict["inputs"], state_dict["past"]
        past = zip(inputs, *(kind.unbind() for kind in stacked), strict=True) if inputs else ()
        self._past = [Lived(input, hx, Weights(*weights)) for input, hx, *weights in past]
        self._losses = [(end, q_LNH) for end, q_LNH in state_dict["losses"]]
        self._own, self._seen = list(state_dict["own"]), sum(map(len, inputs))


def _compared(own: Tensor, exact: Tensor) -> dict[str, Tensor]:
    """Gradients (K, P) beside others; what is not defined is nan or inf."""
    sizes = own.norm(dim=1), exact.norm(dim=1)
    return {
        "cosine": (own * exact).sum(1) / sizes[0] / sizes[1],
        "norm_ratio": sizes[0] / sizes[1],
        "relative_error": (own - exact).norm(dim=1) / sizes[1],
    }
