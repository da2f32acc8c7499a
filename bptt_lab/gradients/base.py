"""A gradient strategy decides what `.backward()` means.

It unrolls the recurrence and returns ordinary differentiable hidden states; calling `.backward()`
on any loss of them leaves that strategy's gradient in `.grad`. Nothing else in the program knows
which strategy runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from bptt_lab.nn.rnn import VanillaRNN


class Carry(NamedTuple):
    """What crosses a chunk boundary; never attached to a graph."""

    hx: Tensor  # (num_layers, N, H)
    memory: Any = None  # private to the strategy


class Unrolled(NamedTuple):
    """Hidden states over time, differentiable as the strategy decides."""

    output: Tensor  # the last layer's states, (L, N, H)
    h_n: Tensor  # every layer's last state, (num_layers, N, H)
    memory: Any = None


class GradientStrategy(ABC):
    """Interface of every gradient strategy.

    A leaf class states its claims as literals in its body, where `bptt-train --help` reads them
    and the contract test holds them to account.
    """

    exact_within_chunk: ClassVar[bool]  # .grad equals full BPTT's on one whole sequence
    exact_across_chunks: ClassVar[bool]  # ... and summed over its chunks, parameters fixed
    unbiased: ClassVar[bool]  # its expectation is full BPTT's gradient within a chunk
    linear: ClassVar[bool] = True  # gradients scale and add up as losses do
    cost: ClassVar[str]  # time of the backward pass, big O, one layer
    memory: ClassVar[str]  # memory beyond input and output, big O, one layer

    # Which draw a strategy that draws random numbers makes next, from a generator keyed by (seed,
    # purpose, draw). Every unroll makes one; whoever trains sets it to the training step, so that
    # a resumed run, or one of several processes, draws what it would have drawn.
    draw: int = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def state_dict(self) -> dict[str, Any]:
        """Return what outlives a chunk and is not in the carry, as plain containers."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: B027  # most have none
        """Take back what `state_dict` gave."""

    def readings(self) -> dict[str, float]:
        """Return what a dashboard should show of the strategy at this moment, by name."""
        return {}

    def init_carry(self, rnn: VanillaRNN, batch_size: int) -> Carry:
        """Return the carry before the first chunk: a state of zeros, an empty memory."""
        weight = rnn.all_weights[0][1]
        return Carry(weight.new_zeros(rnn.num_layers, batch_size, rnn.hidden_size))

    def unroll(self, rnn: VanillaRNN, input: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """Run one chunk.

        Args:
            rnn: the network; its parameters receive the gradient.
            input: (L, N, I), time first.
            carry: what the chunk before left, or `init_carry`.

        Returns:
            The last layer's states (L, N, H) and the carry for the next chunk, detached.
        """
        output, h_n, memory = self.states(rnn, input, carry)
        return output, Carry(h_n.detach(), memory)

    @abstractmethod
    def states(
        self, rnn: VanillaRNN, input: Tensor, carry: Carry, lengths: Sequence[int] | None = None
    ) -> Unrolled:
        """Run one chunk and keep every layer's last state attached.

        Args:
            rnn: the network.
            input: (L, N, I), time first.
            carry: state and memory before the chunk.
            lengths: steps of each sequence where they differ; later steps are padding.
        """

    @abstractmethod
    def credit(self, rnn: VanillaRNN, input: Tensor, hx: Tensor, q: Tensor) -> Tensor:
        """Return the credit dE/dh_t that the strategy assigns, (num_layers, L, N, H).

        Args:
            rnn: the network.
            input: (L, N, I), time first.
            hx: (num_layers, N, H).
            q: immediate credit dE_t/dh_t of the last layer, (L, N, H).
        """

    def mask(self, num_steps: int) -> Tensor:
        """Return M[t, s], (T, T) booleans: whether the loss at t reaches the parameters' use at s.

        Raises:
            NotImplementedError: where no fixed mask describes the strategy.
        """
        raise NotImplementedError(f"{type(self).__name__} is not described by a fixed mask")


def dropout_masks(rnn: VanillaRNN, input: Tensor) -> list[Tensor | None]:
    """Draw what multiplies each layer's input: None for the first, and where nothing is dropped.

    One place for all strategies, so that one seed gives one forward pass whichever runs.
    """
    masks: list[Tensor | None] = [None] * rnn.num_layers
    if rnn.training and rnn.dropout > 0:
        shape = (*input.shape[:2], rnn.hidden_size)
        ones = torch.ones(shape, dtype=compute_dtype(input), device=input.device)
        for layer in range(1, rnn.num_layers):
            masks[layer] = torch.nn.functional.dropout(ones, rnn.dropout)
    return masks


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """Return autocast's dtype where autocast is on, else the tensor's own."""
    device_type = tensor.device.type
    if not torch.amp.is_autocast_available(device_type):
        return tensor.dtype
    if torch.is_autocast_enabled(device_type) and tensor.dtype == torch.float32:
        return torch.get_autocast_dtype(device_type)
    return tensor.dtype
