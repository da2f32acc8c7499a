"""A stack of layers after its forward pass, and one adjoint sweep back through it."""

from collections.abc import Callable, Iterator, Sequence, Set
from typing import NamedTuple

import torch
from torch import Tensor

from bptt_lab.core import recurrence
from bptt_lab.core.cell import Cell, Layer, Swept, Weights, from_delta
from bptt_lab.gradients.base import RecurrentNet, compute_dtype

WEIGHT_GRADIENTS = ("grad_weight_ih", "grad_weight_hh", "grad_bias", "grad_bias")


def sweep_layer(
    stack: "Stack", index: int, q_LNH: Tensor | None, keep: Sequence[float] | None
) -> Swept:
    """Sweep one layer of a stack; q and `keep` are those of `recurrence.sweep`."""
    known = stack.layers[index], stack.cell, stack.wanted(index)
    return recurrence.sweep(q_LNH, *known, q_last_NH=stack.immediate_at_end(index), keep=keep)


SweepLayer = Callable[["Stack", int, Tensor | None, Sequence[float] | None], Swept]


class Stack(NamedTuple):
    """All layers, first to last, the credit that enters them from outside, and what is wanted."""

    layers: list[Layer]
    cell: Cell
    lengths: Sequence[int] | None  # None: every sequence has L steps
    want: Set[str]  # fields of Swept, for every layer
    grad_output: Tensor | None = None  # of the last layer's every state, (L, N, H)
    grad_last: Tensor | None = None  # of all layers' states at step L, (num_layers, N, H)
    grad_ends: Tensor | None = None  # ... at each sequence's own last step, by `lengths`
    sweep_layer: SweepLayer = sweep_layer

    def immediate(self, index: int, above: Swept | None) -> Tensor | None:
        """Immediate credit of a layer's every step, (L, N, H): from outside, from the layer above.

        The step from one layer to the next takes no time, so it never counts as lag. `above` is
        what the layer above was assigned; None for the last layer, or to leave it out.
        """
        q_LNH = self.grad_output if index + 1 == len(self.layers) else None
        if above is not None:
            q_LNH, dropout = above.grad_input, self.layers[index + 1].dropout
            if q_LNH is not None and dropout is not None:
                q_LNH = q_LNH * dropout
        if self.grad_ends is None or self.lengths is None:
            return q_LNH
        states = self.layers[index].states
        q_LNH = torch.zeros_like(states[1:]) if q_LNH is None else q_LNH.clone()
        last = torch.tensor(self.lengths, device=q_LNH.device) - 1
        own = ((last >= 0) & (last < len(q_LNH))).nonzero().squeeze(1)
        q_LNH[last[own], own] += self.grad_ends[index, own]
        return q_LNH

    def immediate_at_end(self, index: int) -> Tensor | None:
        """What enters a layer's state at step L besides, (N, H)."""
        return None if self.grad_last is None else self.grad_last[index]

    def since(self, begin: int) -> "Stack":
        """The same stack without its first `begin` steps."""
        layers = [layer.part(begin, len(layer.input)) for layer in self.layers]
        grad_output = None if self.grad_output is None else self.grad_output[begin:]
        lengths = None if self.lengths is None else [length - begin for length in self.lengths]
        return self._replace(layers=layers, grad_output=grad_output, lengths=lengths)

    def wanted(self, index: int) -> Set[str]:
        """Which fields of Swept a layer must give: the layer below needs its input's gradient."""
        return self.want | {"grad_input"} if index else self.want

    def sweep(self, keep: Sequence[float] | None = None) -> list[Swept]:
        """Layer by layer from the top: one adjoint sweep each, cut where `keep` says so."""
        swept: list[Swept] = []
        for index in reversed(range(len(self.layers))):
            q_LNH = self.immediate(index, swept[0] if swept else None)
            swept.insert(0, self.sweep_layer(self, index, q_LNH, keep))
        return swept

    def from_delta(self, index: int, delta: Tensor, credit: Tensor) -> Swept:
        """A layer's gradients where a rule knows delta and credit, both (L, N, H)."""
        return from_delta(delta, credit, self.layers[index], self.cell, self.wanted(index))


def unroll_layers(
    input: Tensor,
    hx: Tensor,
    weights: Sequence[Weights],
    cell: Cell,
    masks: Sequence[Tensor | None] | None = None,
    *,
    recorded: bool = True,
    steady: bool = False,
) -> Iterator[Layer]:
    """Run a stack over time, one layer after the other, from states hx (num_layers, N, H).

    `masks` multiply each layer's input, as `dropout_masks` draws them. Unless `recorded`, what a
    sweep needs is not kept. For `steady` see `recurrence.unroll`.
    """
    layer, x_LNI = None, input
    states = hx.unbind()  # iterated over, a tensor takes longer
    for w, h_NH, mask in zip(weights, states, masks or [None] * len(weights), strict=True):
        x_LNI = x_LNI if layer is None else layer.states[1:]
        x_LNI = x_LNI if mask is None else x_LNI * mask
        layer = recurrence.unroll(x_LNI, h_NH, w, cell, recorded=recorded, steady=steady)
        yield layer if mask is None else layer._replace(dropout=mask)


def unrolled_layers(
    input: Tensor,
    states: Sequence[Tensor],
    values: Sequence[Tensor | None],
    weights: Sequence[Weights],
    masks: Sequence[Tensor | None],
) -> list[Layer]:
    """What `unroll_layers` gave, from its states (L + 1, N, H); no values: they are the states."""
    layers, x_LNI = [], input
    for s, y, w, mask in zip(states, values, weights, masks, strict=True):
        x_LNI = x_LNI if mask is None else x_LNI * mask
        after = s[1:]
        layers.append(Layer(x_LNI, s, after if y is None else y, w, mask))
        x_LNI = after
    return layers


def wanted(needed: Sequence[bool]) -> set[str]:
    """The fields of Swept that give what input, hx and the parameters need."""
    need_input, need_hx, *need_weights = needed
    want = set(WEIGHT_GRADIENTS if any(need_weights) else ())
    want |= {"grad_input"} if need_input else set()
    return want | {"grad_hx"} if need_hx else want


def last_state(states: Tensor, lengths: Sequence[int] | None) -> Tensor:
    """Every sequence's own last state, (1, N, H), out of a layer's states (L + 1, N, H)."""
    if lengths is None:
        return states[-1:]
    steps = torch.tensor(lengths, device=states.device)
    return states[steps, torch.arange(len(lengths), device=states.device)][None]


def cast(rnn: RecurrentNet, input: Tensor, hx: Tensor) -> list[Tensor]:
    """Return input, hx and all parameters, in autocast's type where autocast is on.

    Done outside of the Function, so that torch casts their gradients back by itself.
    """
    dtype = compute_dtype(input)
    leaves = [input, hx]
    for parameters in rnn.all_weights:
        leaves += parameters
    return [t if t.dtype is dtype else t.to(dtype) for t in leaves]


def by_layer(flat: Sequence[Tensor], num_layers: int) -> list[Weights]:
    """Group the parameters of all layers, in nn.RNN's order, by layer."""
    size = len(flat) // num_layers
    return [Weights(*flat[i * size : (i + 1) * size]) for i in range(num_layers)]
