"""A network in Lightning: its outputs, chunk by chunk or all at once. Nothing is trained here.

A batch is a chunk. The carry crosses from one chunk to the next of the same sequences and starts
anew where the sequences begin.
"""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor, nn

from bptt_lab.gradients.base import Carry
from bptt_lab.nn.rnn import VanillaRNN
from bptt_lab.tasks.base import SequenceBatch
from bptt_lab.tasks.codec import Codec
from bptt_lab.training import network
from bptt_lab.training.network import Network


class NetworkModule(LightningModule):
    """A recurrent network with what stands before and after it; see SequenceModule."""

    def __init__(
        self,
        rnn: VanillaRNN,
        readout: nn.Linear,
        embedding: nn.Linear | None,
        codec: Callable[[], Codec] | None,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.rnn = rnn
        self.readout = readout
        self.codec = codec
        self.carry: Carry | None = None  # what the next chunk of the same sequences begins with
        self._training_carry: Carry | None = None

    def description(self) -> dict[str, Any]:
        """Return what a checkpoint holds besides parameters, to make the network again."""
        if self.codec is None:
            return {}
        parts = Network(self.rnn, self.readout, self.embedding, self.codec())
        return {network.KEY: network.described(parts)}

    def carry_before(self, batch: SequenceBatch) -> Carry:
        """Return the carry that a batch begins with."""
        if batch.is_first or self.carry is None:
            return self.rnn.gradient.init_carry(self.rnn, batch.input.shape[1], after=self.carry)
        return self.carry

    def embed(self, input: Tensor) -> Tensor:
        """Map a batch's input (L, N, I) to the network's."""
        return input if self.embedding is None else self.embedding(input)

    def read_out(self, output: Tensor) -> Tensor:
        """Map states (L, N, H) to outputs (L, N, O), in the parameters' own precision."""
        prediction: Tensor = self.readout(output)
        return prediction.to(self.readout.weight.dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Map whole sequences (L, N, I), time first, to outputs (L, N, O)."""
        return self.read_out(self.rnn(self.embed(input))[0])

    def predict_step(self, batch: Any, *_: Any) -> Tensor:
        """Return the outputs (L, N, O) of a chunk, or of whole sequences.

        Args:
            batch: a SequenceBatch, whose carry goes on to the next chunk of its sequences; or
                inputs (L, N, I), alone or first in a list.
        """
        if not isinstance(batch, SequenceBatch):
            return self.forward(batch if isinstance(batch, Tensor) else batch[0])
        carry = self.carry_before(batch)
        output, self.carry = self.rnn.gradient.unroll(self.rnn, self.embed(batch.input), carry)
        return self.read_out(output)

    def on_predict_epoch_start(self) -> None:
        """Leave training's carry for later."""
        self._training_carry, self.carry = self.carry, None

    def on_predict_epoch_end(self) -> None:
        """Go on with training's carry."""
        self.carry = self._training_carry
