"""A trained network at work: answers in the terms of whoever asks."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.lab import forms
from bptt_lab.lab.learner import Learner, MakeOptimizer
from bptt_lab.lab.outputs import Outputs
from bptt_lab.lab.stream import Stream

ELEMENTS = 1 << 22  # inputs and states of a layer that are there at once


class Net(Outputs):
    """A trained network, its parts those of Outputs.

    `net(input)` is for whoever works on with torch: outputs as training has them, which can be
    differentiated. `predict` and a stream are for whoever wants answers.
    """

    def predict(self, inputs: Any) -> Any:
        """Answer every step of sequences, or every sequence where the task has one answer for it.

        A sequence's answers depend on nothing but the sequence: neither the others beside it nor
        the number of threads changes a bit, and `stream` gives the same ones step by step. To this
        end each sum is taken in one order, so that outputs equal those of `net(input)` to rounding
        only. With the C core that takes about as long as `net(input)`, without it ten times that.

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
        return back([self.answer(output) for output in self._outputs(encoded)])

    def predict_proba(self, inputs: Any) -> Any:
        """Return the probability of every class, in the order of `net.classes`.

        Its form is that of `predict`, with one more dimension.

        Raises:
            ConfigError: as `predict` does, and where answers are numbers.
        """
        encoded, back = forms.read(inputs, self.codec)
        return back([self.codec.chances(output) for output in self._outputs(encoded)])

    def stream(self) -> Stream:
        """Return a stream, which reads one step at a time: the same answers, bit for bit."""
        return Stream(self)

    def learner(self, *, gradient: GradientStrategy, optimizer: MakeOptimizer | None) -> Learner:
        """Return a learner, which begins with a copy of this network; see Learner."""
        return Learner(self, gradient=gradient, optimizer=optimizer)

    def _outputs(self, encoded: list[Tensor]) -> list[Tensor]:
        """The outputs (T, O) of sequences (T, I), those about as long side by side."""
        outputs: list[Tensor] = [torch.empty(0)] * len(encoded)
        for group in self._groups([len(one) for one in encoded]):
            input = pad_sequence([encoded[i] for i in group])
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
