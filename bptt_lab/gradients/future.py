"""Future-facing strategies: credit flows back from the losses to come.

They share the forward pass and the weight gradients, and differ only in how they turn immediate
credit q_t into credit c_t and delta_t. A rule does that for one unroll; this file does the rest, as
one torch.autograd.Function for the whole stack of layers, so that automatic optimisation, clipping,
accumulation, mixed precision and DDP see an ordinary gradient.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bptt_lab.core.cell import Cell, Swept, Weights
from bptt_lab.gradients.base import (
    Carry,
    GradientStrategy,
    RecurrentNet,
    Unrolled,
    dropout_masks,
)
from bptt_lab.gradients.stack import (
    WEIGHT_GRADIENTS,
    Layer,
    Stack,
    by_layer,
    cast,
    last_state,
    unroll_layers,
)

Rule = Callable[[Stack], list[Swept]]  # from the credit that enters a stack to its gradients
Estimate = dict[str, float]


class PerUnroll(GradientStrategy):
    """A strategy that settles at every unroll how credit flows back: by a draw, by an estimate.

    Backward passes through one graph must agree, however often and in whatever order they come.
    What is drawn is therefore drawn when the graph is built, and belongs to that unroll's rule.
    """

    faces_future = True

    @property
    def one_sweep(self) -> bool:
        """Whether credit flows back by one adjoint sweep, inside of which a modifier may act."""
        return True

    @abstractmethod
    def begin(self, num_steps: int, draw: int, estimate: Estimate) -> Rule:
        """Make the rule of one unroll.

        Args:
            num_steps: L.
            draw: index of the unroll's random numbers.
            estimate: of the carry before the unroll, and the one that it leaves: a copy, which
                the rule may fill in.
        """

    def states(
        self, rnn: RecurrentNet, input: Tensor, carry: Carry, lengths: Sequence[int] | None = None
    ) -> Unrolled:
        """Run one chunk; see GradientStrategy."""
        estimate: Estimate = dict(carry.estimate or {})
        rule = self.begin(len(input), carry.draw, estimate)
        kind = rnn.num_layers, Cell(rnn.nonlinearity, rnn.leak)
        output, h_n = _Unroll.apply(  # type: ignore[no-untyped-call]
            rule, kind, lengths, dropout_masks(rnn, input), *cast(rnn, input, carry.hx)
        )
        return Unrolled(output, h_n, None, estimate)

    @torch.no_grad()
    def credit(
        self, rnn: RecurrentNet, input: Tensor, hx: Tensor, q: Tensor, *, after: Carry | None = None
    ) -> Tensor:
        """Return the credit that the rule of such an unroll assigns; see GradientStrategy."""
        after = after or Carry(hx)
        rule = self.begin(len(input), after.draw, dict(after.estimate or {}))
        cell, weights = Cell(rnn.nonlinearity, rnn.leak), [Weights(*w) for w in rnn.all_weights]
        layers = list(unroll_layers(input, hx, weights, cell))
        credit = torch.zeros(len(layers), *q.shape, dtype=q.dtype, device=q.device)
        for layer, swept in zip(
            credit, rule(Stack(layers, cell, None, {"credit"}, q)), strict=True
        ):
            assert swept.credit is not None
            layer[-len(swept.credit) :] = swept.credit
        return credit


class FutureFacing(PerUnroll):
    """A strategy whose every unroll has the same rule, `assign`."""

    @abstractmethod
    def assign(self, stack: Stack) -> list[Swept]:
        """Turn the credit that enters the stack into each layer's gradients.

        Args:
            stack: states, weights and incoming credit; `stack.want` names what to return.
        """

    def begin(self, num_steps: int, draw: int, estimate: Estimate) -> Rule:
        """Return `assign`."""
        return self.assign


class _Unroll(torch.autograd.Function):
    """The whole stack, forward; the rule's gradients, backward.

    Not split into forward and setup_context: torch would bind the arguments by inspection at
    every call, which takes as long as the C core does on a small net.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rule: Rule,
        kind: tuple[int, Cell],
        lengths: Sequence[int] | None,
        masks: list[Tensor | None],
        input: Tensor,
        hx: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        num_layers, cell = kind
        weights = by_layer(parameters, num_layers)
        states = [layer.states for layer in unroll_layers(input, hx, weights, cell, masks)]
        ctx.rule, ctx.kind, ctx.lengths = rule, kind, lengths
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(input, *states, *masks, *parameters)
        return states[-1][1:], torch.stack([last_state(s, lengths) for s in states])

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
        swept = ctx.rule(Stack(layers, cell, ctx.lengths, want, grad_output, *ends))
        grad_hx = torch.stack([s.grad_hx for s in swept]) if need_hx else None
        names = WEIGHT_GRADIENTS[: len(need_weights) // num_layers]
        grad_weights = [getattr(s, name) for s in swept for name in names]
        grad_input = swept[0].grad_input if need_input else None
        return None, None, None, None, grad_input, grad_hx, *grad_weights
