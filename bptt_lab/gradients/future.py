"""Future-facing strategies: credit flows back from the losses to come.

They share the forward pass and the weight gradients, and differ only in how they turn immediate
credit q_t into credit c_t and delta_t. A rule implements `assign`; this file does the rest, as one
torch.autograd.Function for the whole stack of layers, so that automatic optimisation, clipping,
accumulation, mixed precision and DDP see an ordinary gradient.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bptt_lab.core import recurrence
from bptt_lab.core.cell import Cell, Swept, Weights, from_delta
from bptt_lab.gradients.base import Carry, GradientStrategy, Unrolled, compute_dtype, dropout_masks

if TYPE_CHECKING:
    from bptt_lab.nn.rnn import VanillaRNN

WEIGHT_GRADIENTS = ("grad_weight_ih", "grad_weight_hh", "grad_bias", "grad_bias")


class Layer(NamedTuple):
    """What the backward pass knows of one layer."""

    input: Tensor  # as the layer saw it, (L, N, I)
    states: Tensor  # (L + 1, N, H)
    weights: Weights
    dropout: Tensor | None  # what multiplied the layer's input, (L, N, I)


class Stack(NamedTuple):
    """All layers, first to last, the credit that enters them from outside, and what is wanted."""

    layers: list[Layer]
    cell: Cell
    lengths: Sequence[int] | None  # None: every sequence has L steps
    want: Set[str]  # fields of Swept, for every layer
    grad_output: Tensor | None = None  # of the last layer's every state, (L, N, H)
    grad_last: Tensor | None = None  # of all layers' states at step L, (num_layers, N, H)
    grad_ends: Tensor | None = None  # ... at each sequence's own last step, by `lengths`

    def immediate(self, index: int, above: Swept | None) -> Tensor | None:
        """Immediate credit of a layer's every step, (L, N, H): from outside, from the layer above.

        The step from one layer to the next takes no time, so it never counts as lag.

        Args:
            index: the layer, 0 for the first.
            above: what the layer above was assigned; None for the last layer, or to leave it out.
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

    def since(self, begin: int) -> Stack:
        """The same stack without its first `begin` steps."""
        layers = [
            Layer(
                layer.input[begin:],
                layer.states[begin:],
                layer.weights,
                None if layer.dropout is None else layer.dropout[begin:],
            )
            for layer in self.layers
        ]
        grad_output = None if self.grad_output is None else self.grad_output[begin:]
        lengths = None if self.lengths is None else [length - begin for length in self.lengths]
        return self._replace(layers=layers, grad_output=grad_output, lengths=lengths)

    def wanted(self, index: int) -> Set[str]:
        """What a layer must be asked for: the layer below lives on the gradient of its input."""
        return self.want | {"grad_input"} if index else self.want

    def sweep(self, keep: Sequence[float] | None = None) -> list[Swept]:
        """Layer by layer from the top: one adjoint sweep each, cut where `keep` says so."""
        swept: list[Swept] = []
        for index in reversed(range(len(self.layers))):
            layer = self.layers[index]
            below = recurrence.sweep(
                self.immediate(index, swept[0] if swept else None),
                layer.input,
                layer.states,
                layer.weights,
                self.cell,
                self.wanted(index),
                q_last_NH=self.immediate_at_end(index),
                keep=keep,
            )
            swept.insert(0, below)
        return swept

    def from_delta(self, index: int, delta: Tensor, credit: Tensor) -> Swept:
        """A layer's gradients where a rule knows delta and credit, both (L, N, H)."""
        layer = self.layers[index]
        want = self.wanted(index)
        return from_delta(delta, credit, layer.input, layer.states, layer.weights, self.cell, want)


class FutureFacing(GradientStrategy):
    """A strategy whose credit flows back in time."""

    @abstractmethod
    def assign(self, stack: Stack) -> list[Swept]:
        """Turn the credit that enters the stack into each layer's gradients.

        Args:
            stack: states, weights and incoming credit; `stack.want` names what to return.
        """

    def states(
        self, rnn: VanillaRNN, input: Tensor, carry: Carry, lengths: Sequence[int] | None = None
    ) -> Unrolled:
        """Run one chunk; see GradientStrategy."""
        cell = Cell(rnn.nonlinearity, rnn.leak)
        masks = dropout_masks(rnn, input)
        output, h_n = _Unroll.apply(  # type: ignore[no-untyped-call]
            self, (rnn.num_layers, cell), lengths, masks, *cast(rnn, input, carry.hx)
        )
        return Unrolled(output, h_n)

    @torch.no_grad()
    def credit(self, rnn: VanillaRNN, input: Tensor, hx: Tensor, q: Tensor) -> Tensor:
        """Return the credit that the rule assigns; see GradientStrategy. Nothing is dropped."""
        cell, layers, x_LNI = Cell(rnn.nonlinearity, rnn.leak), [], input
        for parameters, h_NH in zip(rnn.all_weights, hx, strict=True):
            weights = Weights(*parameters)
            states = recurrence.unroll(x_LNI, h_NH, weights, cell)
            layers.append(Layer(x_LNI, states, weights, None))
            x_LNI = states[1:]
        assigned = self.assign(Stack(layers, cell, None, {"credit"}, q))
        credit = torch.zeros(len(layers), *q.shape, dtype=q.dtype, device=q.device)
        for layer, swept in zip(credit, assigned, strict=True):
            assert swept.credit is not None
            layer[-len(swept.credit) :] = swept.credit
        return credit


class _Unroll(torch.autograd.Function):
    """The whole stack, forward; the rule's gradients, backward.

    Not split into forward and setup_context: torch would bind the arguments by inspection at
    every call, which takes as long as the C core does on a small net.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rule: FutureFacing,
        kind: tuple[int, Cell],
        lengths: Sequence[int] | None,
        masks: list[Tensor | None],
        input: Tensor,
        hx: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        num_layers, cell = kind
        states: list[Tensor] = []
        x_LNI = input
        for w, h_NH, mask in zip(by_layer(parameters, num_layers), hx, masks, strict=True):
            x_LNI = x_LNI if mask is None else x_LNI * mask
            states.append(recurrence.unroll(x_LNI, h_NH, w, cell))
            x_LNI = states[-1][1:]
        if lengths is None:
            h_n = torch.stack([s[-1] for s in states])
        else:
            batch = torch.arange(len(lengths), device=input.device)
            h_n = torch.stack([s[torch.tensor(lengths, device=s.device), batch] for s in states])
        ctx.rule, ctx.kind, ctx.lengths = rule, kind, lengths
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(input, *states, *masks, *parameters)
        return x_LNI, h_n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor | None, grad_h_n: Tensor | None) -> Any:
        num_layers, cell = ctx.kind
        input, *saved = ctx.saved_tensors
        states, masks = saved[:num_layers], saved[num_layers : 2 * num_layers]
        weights = by_layer(saved[2 * num_layers :], num_layers)
        layers, x_LNI = [], input
        for s, w, mask in zip(states, weights, masks, strict=True):
            x_LNI = x_LNI if mask is None else x_LNI * mask
            layers.append(Layer(x_LNI, s, w, mask))
            x_LNI = s[1:]
        need_input, need_hx, *need_weights = ctx.needs_input_grad[4:]
        want = set(WEIGHT_GRADIENTS if any(need_weights) else ())
        want |= {"grad_input"} if need_input else set()
        want |= {"grad_hx"} if need_hx else set()
        # Where sequences end together, their last states are the stack's.
        ends = (grad_h_n, None) if ctx.lengths is None else (None, grad_h_n)
        swept = ctx.rule.assign(Stack(layers, cell, ctx.lengths, want, grad_output, *ends))
        grad_hx = torch.stack([s.grad_hx for s in swept]) if need_hx else None
        names = WEIGHT_GRADIENTS[: len(need_weights) // num_layers]
        grad_weights = [getattr(s, name) for s in swept for name in names]
        grad_input = swept[0].grad_input if need_input else None
        return None, None, None, None, grad_input, grad_hx, *grad_weights


def cast(rnn: VanillaRNN, input: Tensor, hx: Tensor) -> list[Tensor]:
    """Return input, hx and all parameters, in autocast's type where autocast is on.

    Done outside of the Function, so that torch casts their gradients back by itself.
    """
    dtype = compute_dtype(input)
    parameters = [parameter for layer in rnn.all_weights for parameter in layer]
    return [t if t.dtype == dtype else t.to(dtype) for t in (input, hx, *parameters)]


def by_layer(flat: Sequence[Tensor], num_layers: int) -> list[Weights]:
    """Group the parameters of all layers, in nn.RNN's order, by layer."""
    size = len(flat) // num_layers
    return [Weights(*flat[i * size : (i + 1) * size]) for i in range(num_layers)]
