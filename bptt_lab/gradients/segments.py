"""Segments: a sequence taken a few steps at a time, its states computed again on the way back.

The forward pass keeps the states before each segment. The backward pass takes the segments from
the last to the first: it unrolls a segment again, sweeps it, and hands the credit for the states
before it to the segment before. The last one need not be unrolled again if its states are known.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bptt_lab.core.cell import Cell, Layer, Weights
from bptt_lab.gradients.stack import WEIGHT_GRADIENTS, Stack, unroll_layers, unrolled_layers

SMALL = 1 << 18  # numbers: a megabyte or two that nobody misses


class Segmented(NamedTuple):
    """What a backward pass over segments starts from."""

    input: Tensor  # (L, N, I)
    kept: Tensor  # states before each segment, (segments, num_layers, N, H)
    weights: list[Weights]
    cell: Cell
    every: int  # steps of a segment
    masks: Sequence[Tensor | None] | None = None  # what multiplied each layer's input, (L, N, H)
    tail: Sequence[Tensor] = ()  # every layer's states in the last segment, its first step's first
    lengths: Sequence[int] | None = None  # None: every sequence has L steps
    grad_h_n: Tensor | None = None  # credit of every layer's last state, (num_layers, N, H)

    def sweep(
        self, want: set[str], credit: Callable[[slice, list[Layer]], Tensor | None]
    ) -> list[Tensor | None]:
        """Sweep all segments, from the last to the first.

        Args:
            want: fields of Swept that are wanted, "grad_input" besides those of the weights.
            credit: the immediate credit of a segment's last layer, from its steps and its layers.

        Returns:
            The gradients of input and hx and, layer by layer in nn.RNN's order, the parameters'.
        """
        size = sum(weight is not None for weight in self.weights[0])
        names = [name for name in WEIGHT_GRADIENTS[: min(size, 3)] if name in want]
        num_layers, want = len(self.weights), want | {"grad_hx"}
        sums: list[Tensor] = []
        grad_hx = self.grad_h_n if self.lengths is None else None
        grad_input = torch.empty_like(self.input) if "grad_input" in want else None
        parts = list(segments(len(self.input), self.every))
        for part, hx in zip(reversed(parts), self.kept.flip(0), strict=True):
            masks = self.masks or [None] * num_layers
            cut = [None if mask is None else mask[part] for mask in masks]
            input = self.input[part].to(hx.dtype)
            if self.tail and part is parts[-1]:
                values = [None] * num_layers
                layers = unrolled_layers(input, self.tail, values, self.weights, cut)
            else:
                layers = list(unroll_layers(input, hx, self.weights, self.cell, cut))
            stack = Stack(layers, self.cell, None, want, credit(part, layers), grad_hx)
            if self.lengths is not None:
                lengths = [length - part.start for length in self.lengths]
                stack = stack._replace(lengths=lengths, grad_ends=self.grad_h_n)
            swept = stack.sweep()
            found = [getattr(layer, name) for layer in swept for name in names]
            if sums and found:
                torch._foreach_add_(sums, found)
            else:
                sums = found
            grad_hx = torch.stack([s.grad_hx for s in swept if s.grad_hx is not None])
            if grad_input is not None and swept[0].grad_input is not None:
                grad_input[part] = swept[0].grad_input
        each = iter(sums)
        known = [{name: next(each) for name in names} for _ in self.weights]
        weights = [layer.get(name) for layer in known for name in WEIGHT_GRADIENTS[:size]]
        return [grad_input, grad_hx, *weights]


def segment_length(num_steps: int, row_size: int = SMALL) -> int:
    """Twice the square root: half as many states are kept as a segment has steps.

    More where a state of all sequences has few numbers, `row_size`: a short segment costs calls.
    """
    return max(2 * math.ceil(math.sqrt(num_steps)), SMALL // max(row_size, 1))


def segments(num_steps: int, every: int) -> Iterator[slice]:
    """Cut steps into pieces of `every`, the last one shorter if need be."""
    for begin in range(0, num_steps, every):
        yield slice(begin, min(begin + every, num_steps))
