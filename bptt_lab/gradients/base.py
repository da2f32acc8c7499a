"""A gradient strategy decides what `.backward()` means.

It unrolls the recurrence and returns ordinary differentiable hidden states; calling `.backward()`
on any loss of them leaves that strategy's gradient in `.grad`. Nothing else in the program knows
which strategy runs.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import Parameter


class RecurrentNet(Protocol):
    """What a strategy knows of the network that it unrolls; VanillaRNN is one."""

    input_size: int
    hidden_size: int
    num_layers: int
    nonlinearity: str
    bias: bool
    dropout: float
    leak: float
    training: bool

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """Each layer's parameters, in torch.nn.RNN's order."""


class Carry(NamedTuple):
    """What crosses a chunk boundary; never attached to a graph."""

    hx: Tensor  # (num_layers, N, H)
    influence: Any = None  # what a past-facing rule carries, in plain containers of tensors
    draw: int = 0  # index of the next unroll's random numbers
    estimate: Any = None  # what a strategy has measured and goes on with, a plain dict of numbers
    rule: str = ""  # the class whose influence it is, and the net's sizes


class Unrolled(NamedTuple):
    """Hidden states over time, differentiable as the strategy decides."""

    output: Tensor  # the last layer's states, (L, N, H)
    h_n: Tensor  # every layer's last state, (num_layers, N, H)
    influence: Any = None
    estimate: Any = None  # a backward pass may fill it


class GradientStrategy(ABC):
    """Interface of every gradient strategy.

    A strategy holds settings only: what changes from call to call is in the carry. Its claims are
    literals of its class, or properties that follow from its settings; `bptt-train --help` reads
    them from the source, and the contract test verifies them.
    """

    exact_within_chunk: bool = False  # .grad equals full BPTT's on one whole sequence
    exact_across_chunks: bool = False  # so is its sum over a sequence's chunks, parameters fixed
    unbiased: bool = False  # its expectation is full BPTT's gradient within a chunk
    linear: bool = True  # gradients scale and add up as losses do, at one draw and estimate
    carries_influence: bool = False  # a chunk's gradient reaches the chunks before it
    shaping: ClassVar[tuple[str, ...]] = ()  # settings that its influence's shapes follow from
    grows: ClassVar[bool] = False  # its influence remembers steps, (N, steps, ...)
    max_layers: ClassVar[int | None] = None  # of a network that it can unroll
    fuses: ClassVar[bool] = True  # a run with it may share a process with others, in a fleet
    faces_future: ClassVar[bool] = False  # credit flows back, so that a modifier may change it
    input_gradient: ClassVar[bool] = True  # the input gets one, so that it may be an embedding's
    twice_differentiable: bool = False  # so is .grad under create_graph; the others refuse there
    cost: ClassVar[str]  # time of the backward pass, big O, one layer
    space: ClassVar[str]  # what is stored beyond input and output, big O, one layer

    @property
    def claim(self) -> str:
        """What it says of .grad within a chunk: exact, unbiased or biased."""
        if self.exact_within_chunk:
            return "exact"
        return "unbiased" if self.unbiased else "biased"

    def __repr__(self) -> str:
        names = [name for name in inspect.signature(type(self)).parameters if name in vars(self)]
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({settings})"

    def init_carry(self, rnn: RecurrentNet, batch_size: int, after: Carry | None = None) -> Carry:
        """Return the carry before a sequence's first chunk: a state of zeros, no influence.

        Args:
            rnn: the network.
            batch_size: N.
            after: the carry of earlier sequences, whose draws and estimate go on.
        """
        hx = rnn.all_weights[0][1].new_zeros(rnn.num_layers, batch_size, rnn.hidden_size)
        return Carry(hx) if after is None else Carry(hx, None, after.draw, after.estimate)

    def unroll(self, rnn: RecurrentNet, input: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """Run one chunk.

        Args:
            rnn: the network; its parameters receive the gradient.
            input: (L, N, I), time first.
            carry: what the chunk before left, or `init_carry`.

        Returns:
            The last layer's states (L, N, H) and the carry for the next chunk, detached. A
            backward pass may still fill in its estimate.
        """
        output, h_n, influence, estimate = self.states(rnn, input, carry)
        rule = self.stamp(rnn) if output.requires_grad else ""
        return output, Carry(h_n.detach(), influence, carry.draw + 1, estimate, rule)

    def stamp(self, rnn: RecurrentNet) -> str:
        """Say in a carry whose influence it holds, or would."""
        own = type(self).__name__ + " without influence" * (not self.carries_influence)
        own += "".join(f" {name}={getattr(self, name)}" for name in self.shaping)
        sizes = f"{rnn.input_size} inputs, {rnn.hidden_size} units, bias={rnn.bias}"
        return f"{own} in a net of {sizes}"

    def readings(self, carry: Carry) -> dict[str, float]:
        """Return what a dashboard shows, by name.

        These are the estimates with no underscore in front, and what the influence tells.
        """
        estimates = (carry.estimate or {}).items()
        shown = {name: x for name, x in estimates if not name.startswith("_")}
        if carry.influence is not None:
            with suppress(NotImplementedError):
                shown |= self.told_by(carry.influence)
        return shown

    def told_by(self, influence: Any) -> dict[str, float]:
        """Return what a dashboard shows of an influence that is carried, by name.

        Raises:
            NotImplementedError: where that is nothing.
        """
        raise NotImplementedError(f"{type(self).__name__} tells nothing of its influence")

    @abstractmethod
    def states(
        self, rnn: RecurrentNet, input: Tensor, carry: Carry, lengths: Sequence[int] | None = None
    ) -> Unrolled:
        """Run one chunk as `unroll` does, and keep every layer's last state attached.

        `lengths` are the steps of each sequence where they differ; later steps are padding.
        """

    def credit(
        self, rnn: RecurrentNet, input: Tensor, hx: Tensor, q: Tensor, *, after: Carry | None = None
    ) -> Tensor:
        """Return the credit dE/dh_t that the strategy assigns, (num_layers, L, N, H).

        Args:
            rnn: the network. Nothing is dropped.
            input: (L, N, I), time first.
            hx: (num_layers, N, H).
            q: immediate credit dE_t/dh_t of the last layer, (L, N, H).
            after: the carry whose draw and estimate count.

        Raises:
            NotImplementedError: where the strategy forms no such credit.
        """
        raise NotImplementedError(f"{type(self).__name__} never forms the credit dE/dh_t")

    def mask(self, num_steps: int) -> Tensor:
        """Return M[t, s], (T, T): whether the loss at t reaches the parameters' use at s.

        Booleans, or weights in float64 where a term of the gradient counts in part. That is
        s <= t where the strategy is exact within a chunk.

        Raises:
            NotImplementedError: where no fixed mask describes the strategy.
        """
        if self.exact_within_chunk:
            return torch.ones(num_steps, num_steps, dtype=torch.bool).tril()
        raise NotImplementedError(f"{type(self).__name__} is not described by a fixed mask")


def parameter_names(rnn: RecurrentNet) -> list[list[str]]:
    """Name each layer's parameters, in the order of `all_weights`."""
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [
        [f"{kind}_l{index}" for kind, _ in zip(kinds, layer, strict=False)]
        for index, layer in enumerate(rnn.all_weights)
    ]


def dropout_masks(rnn: RecurrentNet, input: Tensor) -> list[Tensor | None]:
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


def without_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    """Keep autocast out of what is computed on the tensor's device."""
    if not torch._C._is_any_autocast_enabled():  # a look takes less than a context
        return nullcontext()
    if not torch.amp.is_autocast_available(tensor.device.type):
        return nullcontext()
    return torch.autocast(tensor.device.type, enabled=False)


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """Return autocast's dtype where autocast is on, else the tensor's own."""
    if not torch._C._is_any_autocast_enabled():
        return tensor.dtype
    device_type = tensor.device.type
    if not torch.amp.is_autocast_available(device_type):
        return tensor.dtype
    if torch.is_autocast_enabled(device_type) and tensor.dtype == torch.float32:
        return torch.get_autocast_dtype(device_type)
    return tensor.dtype
