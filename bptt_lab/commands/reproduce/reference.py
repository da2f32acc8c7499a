"""What claims measure with: a net, its gradient, and that of a loop under torch's own graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bptt_lab.core.cell import NONLINEARITIES
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.nn.initialisation import initialise
from bptt_lab.nn.rnn import VanillaRNN

# What a layer's states, its W_hh and its number give to the next step.
Through = Callable[[Tensor, Tensor, int], Tensor]


def net(
    gradient: GradientStrategy,
    seed: int,
    sizes: tuple[int, int, int] = (3, 8, 1),
    *,
    init: str = "orthogonal",
    gain: float = 1.0,
    leak: float = 1.0,
    phi: str = "tanh",
    bias: bool = True,
) -> VanillaRNN:
    """Make a net in float64 of so many inputs, units and layers."""
    rnn = VanillaRNN(*sizes, phi, bias=bias, leak=leak, dtype=torch.float64, gradient=gradient)
    initialise(rnn, init, gain, None, torch.Generator().manual_seed(seed))
    return rnn


def normal(seed: int, *shape: int) -> Tensor:
    """Draw standard normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def gradient(rnn: VanillaRNN, input: Tensor, q: Tensor, num_chunks: int = 1) -> Tensor:
    """The net's gradient of sum(q * output) as one vector, added up over chunks."""
    rnn.zero_grad()
    carry = None
    for x, q_chunk in zip(input.chunk(num_chunks), q.chunk(num_chunks), strict=True):
        output, carry = rnn.unroll(x, carry)
        (output * q_chunk).sum().backward()  # type: ignore[no-untyped-call]
    return torch.cat([p.grad.flatten() for p in rnn.parameters() if p.grad is not None])


def looped(
    rnn: VanillaRNN,
    input: Tensor,
    q: Tensor,
    through: Through | None = None,
    hold: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The same of a loop: credit passes from step to step by `through` and the leak.

    Args:
        rnn: the network.
        input: (L, N, I).
        q: immediate credit, (L, N, H).
        through: the recurrent product; None for W_hh h.
        hold: changes the credit of every state, if anything does.
    """
    x, phi = input, NONLINEARITIES[rnn.nonlinearity].apply
    for layer, (weight_ih, weight_hh, *biases) in enumerate(rnn.all_weights):
        h, states = x.new_zeros(x.shape[1], rnn.hidden_size), []
        for x_t in x:
            recurrent = through(h, weight_hh, layer) if through else h @ weight_hh.t()
            a = x_t @ weight_ih.t() + recurrent
            h = (1 - rnn.leak) * h + rnn.leak * phi(a + sum(biases))
            if hold:
                h.register_hook(hold)  # type: ignore[no-untyped-call]
            states.append(h)
        x = torch.stack(states)
    gradients = torch.autograd.grad((x * q).sum(), [*rnn.parameters()])
    return torch.cat([g.flatten() for g in gradients])


def difference(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|."""
    return float((found - expected).norm() / expected.norm())
