"""Future-facing strategies: credit flows back from the losses to come.

They share the forward pass and the weight gradients, and differ only in how they turn immediate
credit q_t into credit c_t and delta_t. A rule implements `assign`; this file does the rest, as one
torch.autograd.Function for the whole stack of layers, so that automatic optimisation, clipping,
accumulation, mixed precision and DDP see an ordinary gradient.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bptt_lab import recurrence
from bptt_lab.gradients.base import Carry, GradientStrategy, Unrolled, compute_dtype, dropout_masks
from bptt_lab.recurrence import Credit, Weights

if TYPE_CHECKING:
    from bptt_lab.rnn import VanillaRNN


class Layer(NamedTuple):
    """What the backward pass knows of one layer."""

    states: Tensor  # (L + 1, N, H)
    weight_ih: Tensor
    weight_hh: Tensor
    dropout: Tensor | None  # what multiplied the layer's input, (L, N, H)


class Stack(NamedTuple):
    """All layers, first to last, and the credit that enters them from outside."""

    layers: list[Layer]
    phi: str
    leak: float
    lengths: Sequence[int] | None  # None: every sequence has L steps
    grad_output: Tensor | None  # (L, N, H)
    grad_h_n: Tensor | None  # (num_layers, N, H)

    def immediate(self, layer: int, delta_above: Tensor | None = None) -> Tensor:
        """Immediate credit q of one layer, (L, N, H): from outside, and from the layer above.

        The step from one layer to the next takes no time, so it never counts as lag.

        Args:
            layer: index of the layer, 0 for the first.
            delta_above: delta of layer + 1 for its last steps, once it is known.
        """
        states = self.layers[layer].states
        num_steps = len(states) - 1
        if layer + 1 < len(self.layers):
            above = self.layers[layer + 1]
            if delta_above is None:
                q_LNH = torch.zeros_like(states[1:])
            else:
                q_LNH = recurrence.input_gradient(delta_above, num_steps, above.weight_ih)
                if above.dropout is not None:
                    q_LNH.mul_(above.dropout)
        elif self.grad_output is None:
            q_LNH = torch.zeros_like(states[1:])
        else:
            q_LNH = self.grad_output
        if self.grad_h_n is not None:
            q_LNH = q_LNH.clone()
            if self.lengths is None:
                q_LNH[-1] += self.grad_h_n[layer]
            else:
                last = torch.tensor(self.lengths, device=q_LNH.device) - 1
                q_LNH[last, torch.arange(len(last), device=q_LNH.device)] += self.grad_h_n[layer]
        return q_LNH

    def since(self, begin: int) -> Stack:
        """The same stack without its first `begin` steps (no sequence may end before them)."""
        layers = [
            layer._replace(
                states=layer.states[begin:],
                dropout=None if layer.dropout is None else layer.dropout[begin:],
            )
            for layer in self.layers
        ]
        grad_output = None if self.grad_output is None else self.grad_output[begin:]
        lengths = None if self.lengths is None else [length - begin for length in self.lengths]
        return self._replace(layers=layers, grad_output=grad_output, lengths=lengths)

    def sweep(
        self,
        keep: Sequence[float] | None = None,
        record: bool = False,
        within: Tensor | None = None,
    ) -> list[Credit]:
        """Layer by layer from the top: one adjoint sweep each.

        Args:
            keep: factors on what a step hands to the one before; see recurrence.adjoint_sweep.
            record: whether to return the credit too.
            within: (L, N, 1), 0 where a step gets no credit at all.
        """
        credits: list[Credit] = []
        for index in reversed(range(len(self.layers))):
            layer = self.layers[index]
            q_LNH = self.immediate(index, credits[0].delta if credits else None)
            swept = recurrence.adjoint_sweep(
                q_LNH, layer.states, layer.weight_hh, self.phi, self.leak, keep, record
            )
            if within is not None:
                assert swept.first is not None
                swept = Credit(
                    swept.delta * within,
                    swept.first * within[0],
                    None if swept.credit is None else swept.credit * within,
                )
            credits.insert(0, swept)
        return credits


class FutureFacing(GradientStrategy):
    """A strategy whose credit flows back in time."""

    @abstractmethod
    def assign(self, stack: Stack, record: bool = False) -> list[Credit]:
        """Turn the immediate credit that enters the stack into each layer's delta.

        Args:
            stack: states, weights and incoming credit.
            record: whether the credit dE/dh_t must be returned too.
        """

    def states(
        self, rnn: VanillaRNN, input: Tensor, carry: Carry, lengths: Sequence[int] | None = None
    ) -> Unrolled:
        """Run one chunk; see GradientStrategy."""
        # Casting outside the Function lets autograd cast the gradients back by itself.
        dtype = compute_dtype(input)
        weights = [weight.to(dtype) for layer in rnn.all_weights for weight in layer]
        output, h_n, *_ = _Unroll.apply(  # type: ignore[no-untyped-call]
            self,
            (rnn.num_layers, rnn.nonlinearity, rnn.leak),
            lengths,
            dropout_masks(rnn, input.to(dtype)),
            input.to(dtype),
            carry.hx.to(dtype),
            *weights,
        )
        return Unrolled(output, h_n)

    @torch.no_grad()
    def credit(self, rnn: VanillaRNN, input: Tensor, hx: Tensor, q: Tensor) -> Tensor:
        """Return the credit that the rule assigns; see GradientStrategy. Nothing is dropped."""
        weights = [Weights(*layer) for layer in rnn.all_weights]
        layers, x_LNI = [], input
        for w, h in zip(weights, hx, strict=True):
            states = recurrence.unroll(x_LNI, h, w, rnn.nonlinearity, rnn.leak)
            layers.append(Layer(states, w.ih, w.hh, None))
            x_LNI = states[1:]
        credit = torch.zeros(len(layers), *q.shape, dtype=q.dtype, device=q.device)
        stack = Stack(layers, rnn.nonlinearity, rnn.leak, None, q, None)
        for layer, assigned in zip(credit, self.assign(stack, record=True), strict=True):
            assert assigned.credit is not None
            layer[-len(assigned.credit) :] = assigned.credit
        return credit


class _Unroll(torch.autograd.Function):
    """The whole stack, forward; the rule's credit and the shared weight gradients, backward."""

    @staticmethod
    def forward(
        rule: FutureFacing,
        cell: tuple[int, str, float],
        lengths: Sequence[int] | None,
        masks: list[Tensor | None],
        input: Tensor,
        hx: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        num_layers, phi, leak = cell
        states, x_LNI = [], input
        for w, h, mask in zip(_by_layer(weights, num_layers), hx, masks, strict=True):
            x_LNI = x_LNI if mask is None else x_LNI * mask
            states.append(recurrence.unroll(x_LNI, h, w, phi, leak))
            x_LNI = states[-1][1:]
        if lengths is None:
            h_n = torch.stack([s[-1] for s in states])
        else:
            batch = torch.arange(len(lengths), device=input.device)
            h_n = torch.stack([s[torch.tensor(lengths, device=s.device), batch] for s in states])
        return (x_LNI, h_n, *states)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.rule, ctx.cell, ctx.lengths, masks, input, _, *weights = inputs
        states = output[2:]
        ctx.mark_non_differentiable(*states)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(input, *states, *masks, *weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor | None, grad_h_n: Tensor | None, *_: Any) -> Any:
        num_layers, phi, leak = ctx.cell
        input, *saved = ctx.saved_tensors
        states, masks = saved[:num_layers], saved[num_layers : 2 * num_layers]
        weights = _by_layer(saved[2 * num_layers :], num_layers)
        layers = [Layer(s, w.ih, w.hh, m) for s, w, m in zip(states, weights, masks, strict=True)]
        credits = ctx.rule.assign(Stack(layers, phi, leak, ctx.lengths, grad_output, grad_h_n))

        num_steps = len(input)
        need_input, need_hx, *need_weights = ctx.needs_input_grad[4:]
        grad_input = grad_hx = None
        if need_input:
            grad_input = recurrence.input_gradient(credits[0].delta, num_steps, weights[0].ih)
        if need_hx:
            grad_hx = torch.stack(
                [
                    recurrence.hx_gradient(c, num_steps, w.hh, leak)
                    for c, w in zip(credits, weights, strict=True)
                ]
            )
        grad_weights: list[Tensor | None] = [None] * len(need_weights)
        if any(need_weights):
            grad_weights = []
            x_LNI = input
            for layer, credit, w in zip(layers, credits, weights, strict=True):
                x_LNI = x_LNI if layer.dropout is None else x_LNI * layer.dropout
                gradients = recurrence.weight_gradients(credit.delta, x_LNI, layer.states)
                grad_weights += gradients[: 2 if w.bias_ih is None else 4]
                x_LNI = layer.states[1:]
        return None, None, None, None, grad_input, grad_hx, *grad_weights


def _by_layer(flat: Sequence[Tensor], num_layers: int) -> list[Weights]:
    size = len(flat) // num_layers
    return [Weights(*flat[i * size : (i + 1) * size]) for i in range(num_layers)]
