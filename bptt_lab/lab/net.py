"""A trained network at work: answers in the terms of whoever asks."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bptt_lab.core import recurrence
from bptt_lab.core.cell import Cell, Weights
from bptt_lab.gradients.stack import unroll_layers
from bptt_lab.lab import forms
from bptt_lab.training.network import Network

ELEMENTS = 1 << 22  # inputs and states of a layer that are there at once


class Net(nn.Module):
    """A recurrent network with its readout, and with its embedding if it has one.

    `net(input)` is for whoever works on with torch: outputs as training has them, which can be
    differentiated. `predict` and a stream are for whoever wants answers.

    Attributes:
        rnn: the VanillaRNN, with the gradient strategy by which it was trained.
        readout: linear map from H states to O outputs.
        embedding: linear map from I inputs to those of `rnn`; None is none.
        codec: what inputs and outputs mean; see bptt_lab.tasks.codec.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.rnn, self.readout, self.embedding, self.codec = network
        self.eval()

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Map inputs (L, N, I), encoded and time first, to outputs (L, N, O).

        Args:
            input: as `codec.encode` gives it for one sequence, or a task's batches.
            hx: initial state (num_layers, N, H); zeros by default.
        """
        embedded = input if self.embedding is None else self.embedding(input)
        output: Tensor = self.readout(self.rnn(embedded, hx)[0])
        return output

    def predict(self, inputs: Any) -> Any:
        """Answer every step of sequences, or every sequence where the task has one answer for it.

        A sequence's answers depend on nothing but the sequence: neither the others beside it nor
        the number of threads changes a bit, and `stream` gives the same ones step by step. To this
        end each sum is taken in one order, so that outputs equal those of `net(input)` to rounding
        only.

        Args:
            inputs: one sequence, an array of sequences (M, T, ...), or a list of sequences, which
                may differ in length. A sequence is (T, I) numbers, or (T) where I is 1; a text
                where the task reads characters; a list of words, or a text with spaces between
                them, where it reads words; (T) symbols.

        Returns:
            For one sequence (T, ...), for an array (M, T, ...), for a list a list; without T where
            a sequence has one answer. An answer is a class by its name, O booleans where several
            classes may be right, or O numbers in the units of the task's targets, one number where
            O is 1. Of a text it is a text.

        Raises:
            ConfigError: for what has none of these forms, and for symbols that training had not.
        """
        encoded, back = forms.read(inputs, self.codec)
        return back([self._answers(output) for output in self._outputs(encoded)])

    def predict_proba(self, inputs: Any) -> Any:
        """Return the probability of every class, as `predict` does of the answers.

        Raises:
            ConfigError: as `predict` does, and where answers are numbers.
        """
        encoded, back = forms.read(inputs, self.codec)
        return back([self.codec.chances(output) for output in self._outputs(encoded)])

    def _answers(self, output: Tensor) -> NDArray[Any]:
        """The answers of outputs (..., O); one number is no list of one."""
        found = self.codec.answers(output)
        return found[..., 0] if self.codec.gives_numbers and found.shape[-1] == 1 else found

    def _outputs(self, encoded: list[Tensor]) -> list[Tensor]:
        """The outputs (T, O) of sequences (T, I), those about as long side by side."""
        outputs: list[Tensor] = [torch.empty(0)] * len(encoded)
        for group in self._groups([len(one) for one in encoded]):
            input = nn.utils.rnn.pad_sequence([encoded[i] for i in group])
            hx = self.zeros(len(group))
            output = self.advance(input, hx)[0]
            for n, i in enumerate(group):
                outputs[i] = output[: len(encoded[i]), n]
        return outputs

    def _groups(self, lengths: list[int]) -> Iterator[list[int]]:
        """The sequences that run together, by their indices."""
        width = self.codec.input_size + self.rnn.input_size + self.rnn.hidden_size
        group: list[int] = []
        for i in np.argsort(lengths, kind="stable").tolist():
            if group and (len(group) + 1) * lengths[i] * width > ELEMENTS:
                yield group
                group = []
            group.append(i)
        yield group

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
