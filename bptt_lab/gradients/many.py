"""R networks unrolled side by side as one torch.autograd.Function, where each has one sweep.

Each has the states and the gradients of its own strategy, with the bits that it has alone on one
thread. R counts networks, first in every shape.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bptt_lab.core import many
from bptt_lab.core.cell import Cell, Layer, Swept, Weights
from bptt_lab.core.kernels import core
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.gradients.differentiable import (
    differentiable_gradients,
    refuse_second_derivative,
    refuse_transforms,
)
from bptt_lab.gradients.future import PerUnroll
from bptt_lab.gradients.stack import WEIGHT_GRADIENTS, by_layer, wanted


def factors(
    strategies: Sequence[GradientStrategy], draws: Sequence[int], num_steps: int
) -> Tensor | None:
    """Return the factors of each network's one sweep, (R, L); None where nothing is cut.

    Raises:
        NotImplementedError: where a strategy is more than one sweep with factors.
    """
    count, rows = len(draws), []
    if strategies.count(strategies[0]) == draws.count(draws[0]) == count:
        strategies, draws = strategies[:1], draws[:1]  # one row is that of all
    for strategy, draw in zip(strategies, draws, strict=True):
        if not _says_all(type(strategy)):
            raise NotImplementedError(f"{type(strategy).__name__} is more than such a sweep")
        assert isinstance(strategy, PerUnroll)
        rows.append(strategy.factors(num_steps, draw))
    if all(row is None for row in rows):
        return None
    keep_RL = [row or [1.0] * num_steps for row in rows]
    return torch.tensor(keep_RL, dtype=torch.float64).expand(count, -1)


@cache
def _says_all(own: type[GradientStrategy]) -> bool:
    """Whether the class that wrote `factors` wrote the rest too, and no class below it."""
    if not issubclass(own, PerUnroll):
        return False
    says = next(kind for kind in own.__mro__ if "factors" in vars(kind))
    return inherits(own, says, "unroll", "states", "begin", "assign")


def inherits(own: type[GradientStrategy], kind: type, *names: str) -> bool:
    """Whether no class below `kind` has written one of its methods again."""
    return all(getattr(own, name, None) is getattr(kind, name, None) for name in names)


def unroll(
    strategy: GradientStrategy,
    phi: str,
    leaks: Sequence[float],
    keep_RL: Tensor | None,
    num_layers: int,
    input: Tensor,
    hx: Tensor | None,
    parameters: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """Run R networks, and sweep back when their states are differentiated.

    Args:
        strategy: one of theirs, which says whether it can be differentiated twice.
        phi: the nonlinearity of all.
        leaks: R numbers.
        keep_RL: as `factors` returns them.
        num_layers: of each network.
        input: (R, L, N, I).
        hx: (R, num_layers, N, H); None is zero.
        parameters: of all layers in torch.nn.RNN's order, with R in front.

    Returns:
        The last layers' states (R, L, N, H), and every layer's last state (R, num_layers, N, H).
    """
    refuse_transforms(strategy, (input, hx, *parameters))
    known = strategy, phi, leaks, keep_RL, num_layers
    output, h_n = _Unroll.apply(known, input, hx, *parameters)  # type: ignore[no-untyped-call]
    return output, h_n


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, known: tuple[Any, ...], input: Tensor, hx: Tensor | None, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        _, phi, leaks, _, num_layers = known
        (count, num_steps, batch_size, _), hidden_size = input.shape, parameters[1].shape[2]
        weights = by_layer(parameters, num_layers)
        states = input.new_empty(num_layers, count, num_steps + 1, batch_size, hidden_size)
        before = states[:, :, 0]
        before.zero_() if hx is None else before.copy_(hx.transpose(0, 1))
        values = None if set(leaks) == {1} else torch.empty_like(states[:, :, 1:])
        for layer in _layers(input, states, values, weights):
            many.unroll(layer, phi, leaks)()
        ctx.known = known
        ctx.set_materialize_grads(False)
        # Without a gradient, hx may be changed in place: its copy in the states is enough.
        hx_or_none = hx if ctx.needs_input_grad[2] else None
        ctx.save_for_backward(input, hx_or_none, states, values, *parameters)
        return states[-1, :, 1:], states[:, :, -1].transpose(0, 1).contiguous()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None, grad_h_n: Tensor | None) -> Any:
        strategy, phi, leaks, keep_RL, num_layers = ctx.known
        input, hx, states, values, *parameters = ctx.saved_tensors
        needed = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled() and strategy.twice_differentiable:
            leaves = [input, states[:, :, 0].transpose(0, 1) if hx is None else hx, *parameters]
            found = [
                differentiable_gradients(
                    [leaf[r] for leaf in leaves],
                    Cell(phi, leak),
                    None,
                    [None] * num_layers,
                    needed,
                    [None if grad is None else grad[r] for grad in (grad_output, grad_h_n)],
                )
                for r, leak in enumerate(leaks)
            ]
            return None, *(
                None if g[0] is None else torch.stack(g) for g in zip(*found, strict=True)
            )
        refuse_second_derivative(strategy, grad_output, grad_h_n)
        want, size = wanted(needed), len(parameters) // num_layers
        q_RLNH = None if grad_output is None else core.rows(grad_output)
        q_last = None if grad_h_n is None else grad_h_n.contiguous()
        grad_hx = torch.empty_like(states[:, :, 0]) if "grad_hx" in want else None
        gradients: list[Tensor | None] = []
        names = WEIGHT_GRADIENTS[: min(size, 3)] if "grad_bias" in want else ()
        layers = _layers(input, states, values, by_layer(parameters, num_layers))
        for index in reversed(range(num_layers)):
            layer = layers[index]
            known = zip(names, layer.weights, strict=False)
            room = {name: torch.empty_like(w) for name, w in known if w is not None}
            if index or "grad_input" in want:
                room["grad_input"] = layer.input.new_empty(layer.input.shape)
            if grad_hx is not None:
                room["grad_hx"] = grad_hx[index]
            into = Swept(**room)
            last = None if q_last is None else q_last[:, index]
            many.sweep(q_RLNH, layer, phi, leaks, into, q_last_RNH=last, keep_RL=keep_RL)()
            q_RLNH = into.grad_input
            gradients = [*(getattr(into, name) for name in WEIGHT_GRADIENTS[:size]), *gradients]
        grad_hx = None if grad_hx is None else grad_hx.transpose(0, 1)
        return None, q_RLNH, grad_hx, *gradients


def _layers(
    input: Tensor, states: Tensor, values: Tensor | None, weights: Sequence[Weights]
) -> list[Layer]:
    """The layers of R stacks, whose states and values have the layer in front of R."""
    x_RLNI = input if input.is_contiguous() or input[0].is_contiguous() else input.contiguous()
    layers = []
    for index, w in enumerate(weights):
        h_RLNH = states[index, :, 1:]
        layers.append(Layer(x_RLNI, states[index], h_RLNH if values is None else values[index], w))
        x_RLNI = h_RLNH
    return layers
