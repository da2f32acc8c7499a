"""A network's outputs: those of training, and those that depend on nothing but their sequence."""

from typing import Any

import torch
from torch import Tensor, nn

from bptt_lab.core import recurrence
from bptt_lab.core.cell import Cell, Weights
from bptt_lab.gradients.stack import unroll_layers
from bptt_lab.training.network import Network


class Outputs(nn.Module):
    """A recurrent network with its readout, and with its embedding if it has one.

    Attributes:
        rnn: the VanillaRNN, with its gradient strategy.
        readout: linear map from H states to O outputs.
        embedding: linear map from I inputs to those of `rnn`; None is none.
        codec: what inputs and outputs mean; see bptt_lab.tasks.codec.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.rnn, self.readout, self.embedding, self.codec = network
        self.eval()

    @property
    def network(self) -> Network:
        """Its parts."""
        return Network(self.rnn, self.readout, self.embedding, self.codec)

    @property
    def classes(self) -> tuple[str | int, ...]:
        """The names of the classes, in the order of `predict_proba`; none for numbers."""
        codec = self.codec
        return () if codec.gives_numbers else codec.classes or tuple(range(codec.output_size))

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Map inputs (L, N, I), encoded and time first, to outputs (L, N, O).

        Args:
            input: as `codec.encode` gives it for one sequence, or a task's batches.
            hx: initial state (num_layers, N, H); zeros by default.
        """
        input = input.to(self.readout.weight.dtype)
        embedded = input if self.embedding is None else self.embedding(input)
        output: Tensor = self.readout(self.rnn(embedded, hx)[0])
        return output

    def zeros(self, count: int) -> Tensor:
        """Return the states that sequences begin with, (num_layers, N, H)."""
        return self.readout.weight.new_zeros(self.rnn.num_layers, count, self.rnn.hidden_size)

    @torch.no_grad()
    def advance(self, input: Tensor, hx: Tensor) -> tuple[Tensor, Tensor]:
        """Run over encoded inputs (L, N, I) from states (num_layers, N, H), without a gradient.

        Returns:
            Outputs (L, N, O) and the states after the last step. Their bits depend on nothing but a
            sequence's own inputs and states.
        """
        x = input.to(hx)
        if self.embedding is not None:
            x = _mapped(x, self.embedding)
        rnn = self.rnn
        weights = [Weights(*layer) for layer in rnn.all_weights]
        cell = Cell(rnn.nonlinearity, rnn.leak)
        layers = list(unroll_layers(x, hx, weights, cell, recorded=False, steady=True))
        after = torch.stack([layer.states[-1] for layer in layers])
        return _mapped(layers[-1].states[1:], self.readout), after

    def answer(self, output: Tensor) -> Any:
        """Return what outputs (..., O) say; one number is no list of one."""
        found = self.codec.answers(output)
        found = found[..., 0] if self.codec.gives_numbers and found.shape[-1] == 1 else found
        return found if found.ndim else found.item()


def _mapped(input: Tensor, linear: nn.Linear) -> Tensor:
    """A linear map whose every row is summed in one order, (L, N, O): a layer that forgets."""
    rows = input.flatten(0, 1)
    size = linear.out_features
    nothing = rows.new_zeros(size, size)
    bias = None if linear.bias is None else (linear.bias, torch.zeros_like(linear.bias))
    weights = Weights(linear.weight, nothing, *(bias or ()))
    zeros = rows.new_zeros(len(rows), size)
    layer = recurrence.unroll(rows[None], zeros, weights, Cell("identity"), steady=True)
    return layer.states[1].view(*input.shape[:2], size)
