"""Past-facing rules of many networks: at once where all are alike, each by itself elsewhere."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bptt_lab.core.cell import Cell, Layer, Weights, slopes
from bptt_lab.gradients.past import Chunk


class Rules:
    """What the rules of a stack of networks find.

    Args:
        rnns: the networks, R of them.
        layer: theirs, once it is unrolled, with R in front of every shape.
        credit: (R, L N, H), the loss's slope at every state.
    """

    def __init__(self, rnns: Sequence[Any], layer: Layer, credit: Tensor) -> None:
        self.rnns, self.layer = rnns, layer
        self.q = credit.view(layer.values.shape)
        self.alike = len({(rnn.leak, repr(rnn.gradient)) for rnn in rnns}) == 1
        self._whole: Any = None  # the latest influences in one tensor, and each network's part
        self._parts: Sequence[Any] = ()

    def __call__(
        self, influences: Sequence[Any], draws: Sequence[int]
    ) -> tuple[Sequence[Any], Tensor]:
        """Return the influences for the next chunks, and the gradients (R, H, I + H + 1).

        Args:
            influences: before this chunk; None at the beginning of sequences.
            draws: numbers of each network's chunk, for rules that draw.
        """
        known = self._stacked(influences) if self.alike else NotImplemented
        if known is not NotImplemented:
            try:
                whole, gradients = self.rnns[0].gradient.together(self._chunk(), known, self.q)
            except NotImplementedError:
                self.alike = False  # nor at any later chunk
            else:
                self._whole, self._parts = whole, whole.unbind()
                return self._parts, gradients
        found = map(self._alone, range(len(draws)), influences, draws)
        after, each = zip(*found, strict=True)
        return after, torch.stack(each)

    def _stacked(self, parts: Sequence[Any]) -> Any:
        """The influences of all networks in one tensor: that of the last step, if these are it."""
        if all(part is None for part in parts):
            return None
        if all(part is own for part, own in zip(parts, self._parts, strict=False)) and self._parts:
            return self._whole
        if all(isinstance(part, Tensor) for part in parts):
            return torch.stack(list(parts))
        return NotImplemented

    def _chunk(self) -> Chunk:
        layer, cell = self.layer, Cell(self.rnns[0].nonlinearity, self.rnns[0].leak)
        states = layer.states.contiguous()
        values = states[:, 1:] if cell.leak == 1 else layer.values.contiguous()
        weights = layer.weights._replace(hh=layer.weights.hh[:, None, None])
        return Chunk(layer.input, states, weights, cell, values, slopes(values, cell))

    def _alone(self, row: int, before: Any, draw: int) -> tuple[Any, Tensor]:
        """What one rule does alone, on a chunk that keeps no buffer of ours."""
        rnn, layer = self.rnns[row], self.layer
        states, input = layer.states[row].clone(), layer.input[row].clone()
        values = states[1:] if rnn.leak == 1 else layer.values[row].clone()
        cell = Cell(rnn.nonlinearity, rnn.leak)
        weights = Weights(*(weight[row] for weight in layer.weights if weight is not None))
        chunk = Chunk(input, states, weights, cell, values, slopes(values, cell), draw)
        influence, kept = rnn.gradient.advance(chunk, before)
        gradient = rnn.gradient.gradient(chunk, before, kept, self.q[row].view_as(states[1:]))
        return influence, gradient
