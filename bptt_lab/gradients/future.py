"""Future-facing strategies: credit flows back from the losses to come.

They share the forward pass and the weight gradients, and differ only in how they turn immediate
credit q_t into credit c_t and delta_t. A rule does that for one unroll; this file does the rest, as
one torch.autograd.Function for the whole stack of layers, so that automatic optimisation, clipping,
accumulation, mixed precision and DDP see an ordinary gradient.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bptt_lab.core.cell import Cell, Swept, Weights
from bptt_lab.gradients.base import Carry, GradientStrategy, RecurrentNet, Unrolled, dropout_masks
from bptt_lab.gradients.differentiable import (
    differentiable_gradients,
    refuse_second_derivative,
    refuse_transforms,
)
from bptt_lab.gradients.stack import (
    WEIGHT_GRADIENTS,
    Stack,
    by_layer,
    cast,
    last_state,
    unroll_layers,
    unrolled_layers,
    wanted,
)

Rule = Callable[[Stack], list[Swept]]  # from the credit that enters a stack to its gradients
Estimate = dict[str, float]


class PerUnroll(GradientStrategy):
    """A strategy that settles at every unroll how credit flows back: by a draw, by an estimate.

    Backward passes through one graph must agree, however often and in whatever order they come.
    What is drawn is therefore drawn when the graph is built, and belongs to that unroll's rule.
    """

    faces_future = True
    one_sweep: bool = True  # credit flows back by one adjoint sweep, which a modifier may clip

    @abstractmethod
    def begin(self, num_steps: int, draw: int, estimate: Estimate) -> Rule:
        """Make the rule of one unroll.

        Args:
            num_steps: L.
            draw: index of the unroll's random numbers.
            estimate: of the carry before the unroll, and the one that it leaves: a copy, which
                the rule may fill in.
        """

    def factors(self, num_steps: int, draw: int) -> Sequence[float] | None:
        """Return what the one adjoint sweep that is all of an unroll's rule multiplies credit with.

        Arguments are those of `begin`. Of the L factors, factor t multiplies the credit that step t
        hands to step t - 1, counted from 0; factor 0 is not used. 0 cuts there, None keeps all.

        Raises:
            NotImplementedError: where the rule is more than such a sweep.
        """
        raise NotImplementedError(f"{type(self).__name__} is more than one sweep with factors")

    def states(
        self, rnn: RecurrentNet, input: Tensor, carry: Carry, lengths: Sequence[int] | None = None
    ) -> Unrolled:
        """Run one chunk; see GradientStrategy."""
        leaves = cast(rnn, input, carry.hx)
        refuse_transforms(self, leaves)
        estimate: Estimate = dict(carry.estimate or {})
        rule = self.begin(input.shape[0], carry.draw, estimate)
        cell, masks = Cell(rnn.nonlinearity, rnn.leak), dropout_masks(rnn, input)
        settled = self, rule, cell, lengths, masks
        output, h_n = _Unroll.apply(settled, *leaves)  # type: ignore[no-untyped-call]
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
        credit = q.new_zeros(len(layers), *q.shape)
        swept = rule(Stack(layers, cell, None, {"credit"}, q))
        for layer, found in zip(credit, (s.credit for s in swept), strict=True):
            assert found is not None
            layer[-len(found) :] = found
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


class OneSweep(PerUnroll):
    """A strategy whose every unroll is one adjoint sweep, with `factors` on the credit's way."""

    @abstractmethod
    def factors(self, num_steps: int, draw: int) -> Sequence[float] | None:
        """Return what multiplies the credit that each step hands to the step before.

        Args:
            num_steps: L.
            draw: index of the unroll's random numbers.

        Returns:
            L factors: 0 cuts, 1 keeps. The first one belongs to the state before the first step,
            and is not used. None keeps everything.
        """

    def begin(self, num_steps: int, draw: int, estimate: Estimate) -> Rule:
        """Sweep once."""
        keep = self.factors(num_steps, draw)
        return lambda stack: stack.sweep(keep)


class _Unroll(torch.autograd.Function):
    """The whole stack, forward; the rule's gradients, backward.

    Not split into forward and setup_context: torch would bind the arguments by inspection at
    every call, which takes as long as the C core does on a small net.
    """

    @staticmethod
    def forward(
        ctx: Any, settled: tuple[Any, ...], input: Tensor, hx: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        *_, cell, lengths, masks = settled
        num_layers = hx.shape[0]  # len() of a tensor takes microseconds
        weights = by_layer(parameters, num_layers)
        layers = list(unroll_layers(input, hx, weights, cell, masks))
        states = [layer.states for layer in layers]
        values = [None if cell.leak == 1 else layer.values for layer in layers]
        output = layers[-1].values if cell.leak == 1 else states[-1][1:]
        ctx.settled, ctx.num_layers = settled[:4], num_layers
        ctx.set_materialize_grads(False)
        # Without a gradient, hx may be changed in place: its copy in the states is enough.
        hx_or_none = hx if ctx.needs_input_grad[2] else None
        ctx.save_for_backward(input, hx_or_none, *states, *values, *masks, *parameters)
        return output, torch.cat([last_state(s, lengths) for s in states])

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None, grad_h_n: Tensor | None) -> Any:
        (strategy, rule, cell, lengths), num_layers = ctx.settled, ctx.num_layers
        input, hx, *saved = ctx.saved_tensors
        states, values, masks = (saved[i * num_layers : (i + 1) * num_layers] for i in range(3))
        parameters = saved[3 * num_layers :]
        if torch.is_grad_enabled() and strategy.twice_differentiable:
            hx = torch.stack([s[0] for s in states]) if hx is None else hx
            known = [input, hx, *parameters], cell, lengths, masks, ctx.needs_input_grad[1:]
            return None, *differentiable_gradients(*known, [grad_output, grad_h_n])
        refuse_second_derivative(strategy, grad_output, grad_h_n)
        weights = by_layer(parameters, num_layers)
        layers = unrolled_layers(input, states, values, weights, masks)
        need_input, need_hx, *need_weights = needed = ctx.needs_input_grad[1:]
        want = wanted(needed)
        # Where sequences end together, their last states are the stack's.
        ends = (grad_h_n, None) if lengths is None else (None, grad_h_n)
        swept = rule(Stack(layers, cell, lengths, want, grad_output, *ends))
        grad_hx = torch.stack([s.grad_hx for s in swept]) if need_hx else None
        names = WEIGHT_GRADIENTS[: len(need_weights) // num_layers]
        grad_weights = [getattr(s, name) for s in swept for name in names]
        grad_input = swept[0].grad_input if need_input else None
        return None, grad_input, grad_hx, *grad_weights
