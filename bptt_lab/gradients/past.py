"""Past-facing strategies: influence is carried forward, to meet each loss where it arises.

A rule implements two pure methods: `advance` runs with the forward pass, `gradient` in backward.
L N I H steps, batch, input, hidden; J = I + H + 1 columns of `Chunk.extended`.

`influence` is plain containers of tensors, batch first, one example's never mixed with another's.
Neither it nor what is kept may be changed in place. Random numbers come from
`generator(seed, purpose, chunk.draw)`, so that both methods see the same draw. This file does the
rest, as one torch.autograd.Function.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bptt_lab.core import recurrence
from bptt_lab.core.cell import Cell, Layer, Weights, slopes
from bptt_lab.core.validation import ConfigError, too_many
from bptt_lab.gradients.base import (
    Carry,
    GradientStrategy,
    RecurrentNet,
    Unrolled,
    without_autocast,
)
from bptt_lab.gradients.differentiable import refuse_second_derivative, refuse_transforms
from bptt_lab.gradients.stack import cast, last_state


class Chunk(NamedTuple):
    """One layer's chunk as a past-facing rule sees it, never in less than single precision."""

    input: Tensor  # (L, N, I)
    states: Tensor  # (L + 1, N, H)
    weights: Weights
    cell: Cell
    values: Tensor  # phi(a_t), (L, N, H); states[1:] with leak 1
    slope: Tensor  # leak phi'(a_t), (L, N, H)
    draw: int = 0  # index of the random numbers that belong to this chunk

    @property
    def extended(self) -> Tensor:
        """What W_ih, W_hh and bias are multiplied with: x_t, h_{t-1} and 1 if any, (L, N, J)."""
        parts = [self.input, self.states[:-1]]
        if self.weights.bias_ih is not None:
            parts.append(torch.ones_like(self.input[..., :1]))
        return torch.cat(parts, -1)


class PastFacing(GradientStrategy):
    """A strategy that carries influence forward in time, through one layer."""

    carries_influence = True
    input_gradient = False
    max_layers = 1

    @abstractmethod
    def advance(self, chunk: Chunk, influence: Any) -> tuple[Any, Any]:
        """Carry the influence over a chunk.

        Args:
            chunk: what happened in it.
            influence: what the chunk before left; None at the start of a sequence.

        Returns:
            The influence for the next chunk, and what `gradient` wants to find again.
        """

    @abstractmethod
    def gradient(self, chunk: Chunk, influence: Any, kept: Any, q_LNH: Tensor) -> Tensor:
        """Return the gradient of the layer's parameters, (H, J), summed over batch and time.

        Args:
            chunk: as `advance` had it.
            influence: as `advance` had it.
            kept: what `advance` returned to be kept.
            q_LNH: immediate credit dE_t/dh_t, (L, N, H); a loss of the last state is in it.
        """

    def matrix(self, influence: Any) -> Tensor:
        """Return the M_t that an influence stands for, (N, H, H, J): [n, i, a, j] of unit a on i.

        It is for proofs and instruments, which compare it with the exact one.

        Raises:
            NotImplementedError: where an influence stands for no such matrix.
        """
        raise NotImplementedError(f"{type(self).__name__} stands for no influence matrix")

    def together(self, chunk: Chunk, influence: Any, q: Tensor) -> tuple[Any, Tensor]:
        """Do `advance` and `gradient` for R networks at once, each with the bits that it has alone.

        A rule may write it whose operations are elementwise but for the sums over a network's own
        sequences.

        Args:
            chunk: R in front of every shape; W_hh is (R, 1, 1, H, H), and all have one leak.
            influence: (R, N, ...); None where the sequences begin.
            q: immediate credit, (R, L, N, H).

        Returns:
            The influence for the next chunk, and the gradients (R, H, J).

        Raises:
            NotImplementedError: where the rule has no such way.
        """
        raise NotImplementedError(f"{type(self).__name__} takes one network at a time")

    def states(
        self, rnn: RecurrentNet, input: Tensor, carry: Carry, lengths: Sequence[int] | None = None
    ) -> Unrolled:
        """Run one chunk; see GradientStrategy.

        Without gradients nothing is carried: what was not learnt from has no influence. Nor is it
        where sequences end apart.

        Raises:
            ConfigError: for more than one layer, and for an input or hx that asks for a gradient.
        """
        refuse_stack(self, rnn)
        for name, tensor in (("input", input), ("hx", carry.hx)):
            if tensor.requires_grad and torch.is_grad_enabled():
                raise ConfigError(
                    f"{name}.requires_grad=True: must be False, since {type(self).__name__} has a "
                    "gradient for the parameters only; use gradient=full, checkpointed or "
                    f"truncated, or {name}.detach()"
                )
        self.refuse_foreign(carry, input.shape[1], self.stamp(rnn))
        leaves = cast(rnn, input, carry.hx)
        refuse_transforms(self, leaves)
        input, hx, *parameters = leaves
        cell, weights = Cell(rnn.nonlinearity, rnn.leak), Weights(*parameters)
        with torch.no_grad():
            layer = recurrence.unroll(input, hx[0], weights, cell)
        if not (torch.is_grad_enabled() and any(p.requires_grad for p in parameters)):
            return Unrolled(layer.states[1:], last_state(layer.states, lengths).clone())
        # Without autocast: an influence lives long and gathers errors.
        with torch.no_grad(), without_autocast(input):
            chunk = _observe(layer, cell, carry.draw)
            influence, kept = self.advance(chunk, carry.influence)
        known = self, chunk, lengths, (carry.influence, kept), layer[:2]
        output, h_n = _Unroll.apply(known, *parameters)  # type: ignore[no-untyped-call]
        return Unrolled(output, h_n, influence if lengths is None else None)

    def refuse_foreign(self, carry: Carry, batch_size: int, stamp: str) -> None:
        """Raise a ConfigError for an influence of another rule, net or batch, or a lost one."""
        parts = [carry.influence] if isinstance(carry.influence, Tensor) else carry.influence or []
        known = self.carries_influence and carry.rule in ("", type(self).__name__, stamp)
        lost = self.carries_influence and not known
        if lost or (parts and not (known and all(len(part) == batch_size for part in parts))):
            raise ConfigError(
                f"carry: holds the influence of {carry.rule or 'a rule'} on "
                f"{len(parts[0]) if parts else 'no'} sequences, which {self!r} cannot go on with "
                f"as {stamp} for an input of {batch_size}; begin with carry=None, or its hx alone"
            )

    def observe(self, rnn: RecurrentNet, input: Tensor, hx: Tensor, after: Carry | None) -> Chunk:
        """Run one chunk without any gradient, for a rule's `credit`; arguments as there."""
        refuse_stack(self, rnn)
        return observed(rnn, input, hx, 0 if after is None else after.draw)


class _Unroll(torch.autograd.Function):
    """Attaches states that are there already, and asks the rule for their gradient."""

    @staticmethod
    def forward(ctx: Any, known: tuple[Any, ...], *parameters: Tensor) -> tuple[Tensor, Tensor]:
        *_, lengths, _, (input, states) = known
        ctx.known = known[:-1]
        ctx.set_materialize_grads(False)
        # They are in the chunk too: kept so that torch refuses what was changed in place since.
        ctx.save_for_backward(input, states, *parameters)
        return states[1:], last_state(states, lengths).clone()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None, grad_h_n: Tensor | None) -> Any:
        rule, chunk, lengths, carried = ctx.known
        refuse_second_derivative(rule, grad_output, grad_h_n)
        input, states, *parameters = ctx.saved_tensors
        q_LNH = torch.zeros_like(states[1:]) if grad_output is None else grad_output
        if grad_h_n is not None:
            q_LNH = q_LNH.clone(memory_format=torch.contiguous_format)
            steps = lengths or [len(q_LNH)] * q_LNH.shape[1]
            last = torch.tensor(steps, device=q_LNH.device) - 1
            q_LNH[last, torch.arange(len(steps), device=q_LNH.device)] += grad_h_n[0]
        with without_autocast(states):
            total_HJ = rule.gradient(chunk, *carried, q_LNH.to(chunk.states.dtype))
        input_size, hidden_size = input.shape[-1], states.shape[-1]
        total_HJ = total_HJ.to(states.dtype)
        ih, hh, bias = total_HJ.tensor_split([input_size, input_size + hidden_size], dim=1)
        return None, ih, hh, *[bias.flatten()] * (len(parameters) - 2)


def refuse_stack(rule: PastFacing, rnn: RecurrentNet) -> None:
    """Raise a ConfigError for more layers than a rule can carry."""
    problem = too_many(rnn.num_layers, type(rule).__name__, rule.max_layers)
    if problem:
        raise ConfigError(f"num_layers={rnn.num_layers}: {problem}")


@torch.no_grad()
def observed(rnn: RecurrentNet, input: Tensor, hx: Tensor, draw: int = 0) -> Chunk:
    """Run one chunk of a net of one layer without any gradient: input (L, N, I), hx (1, N, H)."""
    weights, cell = Weights(*rnn.all_weights[0]), Cell(rnn.nonlinearity, rnn.leak)
    return _observe(recurrence.unroll(input, hx[0], weights, cell), cell, draw)


def _observe(layer: Layer, cell: Cell, draw: int) -> Chunk:
    dtype = torch.promote_types(layer.states.dtype, torch.float32)
    weights = Weights(*(w.detach().to(dtype) for w in layer.weights if w is not None))
    states = layer.states.to(dtype)
    values = states[1:] if cell.leak == 1 else layer.values.to(dtype)
    return Chunk(layer.input.to(dtype), states, weights, cell, values, slopes(values, cell), draw)
