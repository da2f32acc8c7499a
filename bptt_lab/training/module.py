"""The LightningModule: a recurrent network, a readout and a loss. It knows no algorithm.

A batch is a chunk. The carry crosses from one chunk to the next of the same sequences and starts
anew where the sequences begin, in training, validation and test alike.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bptt_lab.gradients.segments import segments
from bptt_lab.nn.losses import LOSSES, ElementLoss, masked_sum
from bptt_lab.nn.rnn import VanillaRNN
from bptt_lab.nn.segmented import segmented_loss
from bptt_lab.tasks.base import SequenceBatch
from bptt_lab.tasks.codec import Codec
from bptt_lab.training import network
from bptt_lab.training.average import Average
from bptt_lab.training.measures import Measures
from bptt_lab.training.network import Network
from bptt_lab.training.network_module import NetworkModule
from bptt_lab.training.schedules import Rates, Schedule

Score = Callable[[Tensor, Tensor], dict[str, Tensor]]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]


class SequenceModule(NetworkModule):
    """Network, readout and loss, trained by automatic optimisation.

    Args:
        rnn: the recurrent network; its gradient strategy decides what is learnt from.
        readout: linear map from H states to the outputs.
        loss: loss of one element; see bptt_lab.nn.losses.
        score: the task's metrics of one element.
        make_optimizer: from the parameters to their optimizer.
        segment_length: take the loss so many steps at a time, so that nothing is as long as the
            chunk; needs an exact gradient strategy. None takes it all at once.
        embedding: linear map from I inputs to those of the network; None is none. Of an input
            that is one-hot it is a table of vectors, as torch.nn.Embedding.
        ema_decay: of the moving average of the parameters, which is then what is validated and
            tested, and what training ends with; None is none.
        codec: says what the numbers mean, for a checkpoint of which the network can be made again;
            None leaves that out.
        measures: metrics beside the task's own, of validation and test; None for none.
        schedule: of the learning rate; None leaves it as it is.
    """

    def __init__(
        self,
        rnn: VanillaRNN,
        readout: nn.Linear,
        loss: ElementLoss,
        score: Score,
        make_optimizer: MakeOptimizer,
        segment_length: int | None = None,
        embedding: nn.Linear | None = None,
        ema_decay: float | None = None,
        codec: Callable[[], Codec] | None = None,
        measures: Measures | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(rnn, readout, embedding, codec)
        self.loss = loss
        self.score = score
        self.make_optimizer = make_optimizer
        self.segment_length = segment_length
        self.measures = measures
        self.average = None if ema_decay is None else Average(ema_decay)
        self.rates = Rates(schedule)
        self.metrics: dict[str, float] = {}  # the latest of every validation and test metric
        # Of the latest training batch, for whoever logs them: a value returned costs more.
        self.latest_sum = torch.tensor(0.0)
        self.latest_count = 0
        self.counted = 0.0  # elements since the last optimizer step
        self.share = 0.0  # those of the latest training batch that each process divides by
        self.sums: dict[str, Tensor] = {}  # of the chunks evaluated so far, by name
        self.after_validation: Callable[[], None] = lambda: None

    def __setattr__(self, name: str, value: Any) -> None:
        # Set at every step; torch would look whether they are parameters, which takes longer.
        if name in ("carry", "latest_sum", "latest_count", "counted", "share"):
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's takes hyperparameters
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,
        *,
        allow: str | Iterable[str] = (),
        score: Score = lambda prediction, target: {},
        make_optimizer: MakeOptimizer = torch.optim.Adam,
    ) -> "SequenceModule":
        """Make the module of a checkpoint again, without its run's other files.

        Args:
            checkpoint_path: of a run's `last.ckpt` or `best.ckpt`.
            map_location: the device on which it is to be.
            allow: packages beside this one whose classes the checkpoint may name.
            score: metrics to be measured besides the loss, such as a task's `score`.
            make_optimizer: what it is to be trained with, if it is.

        Raises:
            ConfigError: as lab.load, which reads the checkpoints of earlier versions too.
        """
        made = cls.of(network.load(Path(checkpoint_path), allow), score, make_optimizer)
        return made.to(map_location)

    @classmethod
    def of(
        cls,
        parts: Network,
        score: Score = lambda prediction, target: {},
        make_optimizer: MakeOptimizer = torch.optim.Adam,
    ) -> "SequenceModule":
        """Make the module of a network, with the loss that its codec names."""
        rnn, readout, embedding, codec = parts
        loss = LOSSES[codec.loss]
        return cls(rnn, readout, loss, score, make_optimizer, None, embedding, codec=lambda: codec)

    def configure_optimizers(self) -> Optimizer:
        """One optimizer for everything."""
        return self.rates.of(self.make_optimizer(self.parameters()))

    def loss_sum(self, output: Tensor, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses that count, and the prediction (L, N, O)."""
        prediction = self.read_out(output)
        return masked_sum(self.loss(prediction, batch.target), batch.mask), prediction

    def on_train_batch_start(self, batch: SequenceBatch, batch_idx: int) -> None:
        """Find out how much there is to learn from in the batch."""
        self.latest_count = int(batch.mask.sum())
        self.share = float(self.latest_count)
        if self.trainer.world_size > 1:
            count = torch.tensor(self.share, dtype=torch.float64, device=self.device)
            self.share = float(self.trainer.strategy.reduce(count, reduce_op="mean"))
        self.counted += self.share

    def training_step(self, batch: SequenceBatch, batch_idx: int) -> Tensor:
        """Run one chunk and return its mean loss.

        Each process divides its sum by its fair share of the elements that count, so that the
        mean of the processes' gradients is the gradient of the joint mean, however unequal their
        counts.
        """
        trainer = self.trainer
        step = trainer.fit_loop.epoch_loop.total_batch_idx
        draw = step * trainer.world_size + trainer.global_rank
        carry = self.carry_before(batch)._replace(draw=draw)
        if self.segment_length is None:
            input = self.embed(batch.input)
            output, self.carry = self.rnn.gradient.unroll(self.rnn, input, carry)
            total, _ = self.loss_sum(output, batch)
        else:
            chunk = (batch.input, batch.target, batch.mask, carry.hx)
            total, h_n = segmented_loss(
                self.rnn, self.readout, self.loss, *chunk, self.segment_length
            )
            self.carry = carry._replace(hx=h_n)
        self.latest_sum = total.detach()
        return total / self.share if self.share else total

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Add the batch's gradient, so that `.grad` is the mean over what counted since the step.

        Lightning divides every batch's mean by the batches of a whole window. Where these count
        unequally, or the epoch ends within a window, that is not the joint mean's gradient. What is
        there already is therefore brought to the batch's scale, and the sum to the joint one. All
        processes use the same factors, so what they accumulate may be averaged at the end.
        """
        share = self.share * self.trainer.accumulate_grad_batches
        if share:
            self._scale_gradients((self.counted - self.share) / share)
        super().backward(loss, *args, **kwargs)
        if share:
            self._scale_gradients(share / self.counted)

    def _scale_gradients(self, factor: float) -> None:
        for parameter in self.parameters() if factor != 1 else ():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step, unless nothing counted since the last step.

        In a chunk before a last-step task's last one nothing counts, but Adam's momentum steps.
        """
        self.rates.set(optimizer, self.trainer.global_step + 1)
        if self.counted > 0:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            self.stepped()
        elif optimizer_closure is not None:
            optimizer_closure()
        self.counted = 0.0

    def stepped(self) -> None:
        """Move the average after the optimizer has stepped, before the trainer counts the step."""
        if self.average is not None:
            self.average.update(self.parameters(), self.trainer.global_step + 1)

    def on_train_start(self) -> None:
        """Begin the average, or go on with it; ask how long the run is to be."""
        self.rates.total = self.trainer.estimated_stepping_batches
        if self.average is not None:
            self.average.start(self.named_parameters())

    def on_validation_start(self) -> None:
        """Have the average validated; its parameters stay until all callbacks have seen them."""
        if self.average is not None:
            self.average.swap(self.named_parameters())

    def on_validation_end(self) -> None:
        """Go on with the parameters that are trained; here a run may be saved."""
        self.on_validation_start()
        self.after_validation()

    def on_fit_end(self) -> None:
        """Keep the average, once everything is saved."""
        if self.average is not None and self.average.kept:
            self.load_state_dict({**self.state_dict(), **self.average.kept})
            self.average.kept = {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the network is like; put the average where others look for parameters."""
        checkpoint.update(self.description())
        if self.average is not None:
            checkpoint["trained_state_dict"] = checkpoint["state_dict"]
            checkpoint["state_dict"] = {**checkpoint["state_dict"], **self.average.kept}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Undo it."""
        if self.average is not None:
            self.average.kept = state = checkpoint["state_dict"]
            checkpoint["state_dict"] = checkpoint.get("trained_state_dict", state)

    def on_validation_epoch_start(self) -> None:
        """Leave training's carry for later; an evaluation begins with its own."""
        self.on_predict_epoch_start()
        self.sums = {}
        if self.measures is not None:
            self.measures.begin()

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        """Run one chunk and add up its loss and metrics."""
        carry = self.carry_before(batch)
        for part in segments(len(batch.input), self.segment_length or len(batch.input)):
            piece = batch._replace(
                input=batch.input[part], target=batch.target[part], mask=batch.mask[part]
            )
            output, carry = self.rnn.gradient.unroll(self.rnn, self.embed(piece.input), carry)
            total, prediction = self.loss_sum(output, piece)
            sums = {"count": piece.mask.sum(), "loss": total}
            for name, values in self.score(prediction, piece.target).items():
                sums[name] = masked_sum(values, piece.mask)
            for name, value in sums.items():
                self.sums[name] = self.sums.get(name, 0) + value.double()
            if self.measures is not None:
                self.measures.add(prediction, piece.target, piece.mask)
        self.carry = carry

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Log the means over all that counted as val/... or test/..."""
        stage = "test" if self.trainer.testing else "val"
        self.on_predict_epoch_end()
        sums = {
            name: self.trainer.strategy.reduce(value, reduce_op="sum")
            for name, value in self.sums.items()
        }
        count = sums.pop("count")
        means = {f"{stage}/{name}": (value / count).float() for name, value in sums.items()}
        if self.measures is not None:
            means |= {
                f"{stage}/{n}": count.new_tensor(x) for n, x in self.measures.values().items()
            }
        # For checkpoints and early stopping; equal on all processes already.
        self.log_dict(means, logger=False, sync_dist=True)
        values = {tag: float(mean) for tag, mean in means.items()}
        self.metrics |= values
        # Lightning would write validation one step early, and an `epoch` beside every metric.
        for logger in self.trainer.loggers:
            logger.log_metrics(values, self.global_step)

    on_test_epoch_end = on_validation_epoch_end
