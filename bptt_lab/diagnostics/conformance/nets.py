"""Small nets to try a strategy on, and the gradient under any mask worked out by hand.

L N I H: steps, batch, input, hidden. Everything is float64 unless a test asks otherwise.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from bptt_lab.gradients import oracle
from bptt_lab.gradients.base import Carry, GradientStrategy
from bptt_lab.nn.rnn import VanillaRNN

Gradients = dict[str, Tensor]

INPUT_SIZE = 3
LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda output: (output + 1).square().sum(),
    "mean": lambda output: (output + 1).square().mean(),
    "last": lambda output: (output[-1] + 1).square().sum(),
}
PHI: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "identity": torch.clone,
    "sigmoid": torch.sigmoid,
}


class Net(NamedTuple):
    """Everything that fixes one net, its data and its loss."""

    hidden_size: int
    num_steps: int
    batch_size: int = 3
    num_layers: int = 1
    nonlinearity: str = "tanh"
    leak: float = 1.0
    loss: str = "sum"
    bias: bool = True
    leaves: bool = True  # whether input and hx ask for their gradient
    estimate: tuple[tuple[str, float], ...] = ()  # what the carry begins with

    def __str__(self) -> str:
        return "-".join(map(str, self[:-2]))

    def rnn(
        self,
        strategy: GradientStrategy | None = None,
        dtype: torch.dtype = torch.float64,
        dropout: float = 0.0,
    ) -> VanillaRNN:
        """The network, the same weights at every call."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            rnn = VanillaRNN(
                INPUT_SIZE,
                self.hidden_size,
                self.num_layers,
                self.nonlinearity,
                self.bias,
                dropout=dropout,
                leak=self.leak,
                dtype=torch.float64,
                gradient=strategy,
            )
        with torch.no_grad():
            for layer in rnn.all_weights:
                layer[1].mul_(1.6)  # a spectral radius near 1, so that long lags count
        return rnn.to(dtype)

    def data(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Input and hx, which both ask for their gradient if anyone gives it."""
        random = torch.Generator().manual_seed(1)
        shapes = (self.num_steps, self.batch_size, INPUT_SIZE), self.state_shape
        input, hx = (torch.randn(s, generator=random, dtype=torch.float64) for s in shapes)
        return tuple(t.to(dtype).requires_grad_(self.leaves) for t in (input, hx))  # type: ignore[return-value]

    def run(
        self, rnn: VanillaRNN, input: Tensor, hx: Tensor, draw: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Output and h_n of one chunk that begins with a state, at a draw and the estimate."""
        carry = Carry(hx, None, draw, dict(self.estimate))
        unrolled = rnn.gradient.states(rnn, input, carry)
        return unrolled.output, unrolled.h_n

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """(num_layers, N, H)."""
        return self.num_layers, self.batch_size, self.hidden_size

    def loss_of(self, output: Tensor) -> Tensor:
        """The net's loss of its last layer's states."""
        return LOSSES[self.loss](output)


def gradients(
    strategy: GradientStrategy,
    net: Net,
    dtype: torch.dtype = torch.float64,
    loss: Callable[[Tensor], Tensor] | None = None,
    dropout: float = 0.0,
    draw: int = 0,
) -> Gradients:
    """What `.backward()` leaves in `.grad` for the parameters, "input" and "hx"."""
    rnn, (input, hx) = net.rnn(strategy, dtype, dropout), net.data(dtype)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        output, _ = net.run(rnn, input, hx, draw)
        (loss or net.loss_of)(output).backward()
    return collect(rnn, input=input, hx=hx)


def collect(rnn: VanillaRNN, **others: Tensor) -> Gradients:
    """`.grad` of the parameters and of other leaves, where there is one."""
    leaves = dict(rnn.named_parameters()) | others
    return {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


@lru_cache(maxsize=64)
def oracle_terms(net: Net) -> Gradients:
    """The oracle's terms, found once for all strategies."""
    input, hx = net.data()
    return oracle.terms(net.rnn(), input.detach(), net.loss_of, hx.detach())


def full_mask(num_steps: int) -> Tensor:
    """M[t, s] = 1 iff s <= t."""
    return torch.ones(num_steps, num_steps, dtype=torch.bool).tril()


class Layer(NamedTuple):
    """One layer's inputs, pre-activations and states, each a list over time."""

    x: list[Tensor]
    a: list[Tensor]
    h: list[Tensor]  # one more: h[0] is hx


def unroll_by_hand(
    rnn: VanillaRNN, input: Tensor, hx: Tensor, dropout: list[Tensor | None] | None = None
) -> list[Layer]:
    """Every layer's inputs, pre-activations and states, each a tensor of its own in the graph."""
    layers = []
    x_LNI: Tensor = input
    for index, (weight_ih, weight_hh, *biases) in enumerate(rnn.all_weights):
        dropped = None if dropout is None else dropout[index]
        if dropped is not None:
            x_LNI = x_LNI * dropped
        layer = Layer(list(x_LNI), [], [hx[index]])
        for x in layer.x:
            layer.a.append(x @ weight_ih.T + layer.h[-1] @ weight_hh.T + sum(biases))
            phi = PHI[rnn.nonlinearity](layer.a[-1])
            layer.h.append((1 - rnn.leak) * layer.h[-1] + rnn.leak * phi)
        layers.append(layer)
        x_LNI = torch.stack(layer.h[1:])
    return layers


def masked_by_hand(
    rnn: VanillaRNN,
    input: Tensor,
    hx: Tensor,
    mask: Tensor,
    q: Tensor,
    q_h_n: Tensor | None = None,
    dropout: list[Tensor | None] | None = None,
) -> tuple[Gradients, Tensor]:
    """The masked gradient, and the masked credit dE/dh_t (num_layers, L, N, H).

    torch says what each loss time t gives to each a_s and h_s; the mask chooses, and the sums
    over s are written out. Shares no code with the package.
    """
    num_steps = len(input)
    hx = hx.detach().requires_grad_()
    layers = unroll_by_hand(rnn, input, hx, dropout)
    targets = [(layer, s) for layer in range(len(layers)) for s in range(num_steps)]
    delta = torch.zeros(len(layers), num_steps, *q.shape[1:], dtype=q.dtype)
    credit, grad_hx = torch.zeros_like(delta), torch.zeros_like(hx)
    for t in range(num_steps):
        loss_t = (q[t] * layers[-1].h[t + 1]).sum()
        if t == num_steps - 1 and q_h_n is not None:
            loss_t = loss_t + sum((q_h_n[i] * x.h[-1]).sum() for i, x in enumerate(layers))
        wanted = [layers[i].a[s] for i, s in targets] + [layers[i].h[s + 1] for i, s in targets]
        found = torch.autograd.grad(
            loss_t, [*wanted, hx], retain_graph=True, materialize_grads=True
        )
        for n, (i, s) in enumerate(targets):
            delta[i, s] += mask[t, s] * found[n]
            credit[i, s] += mask[t, s] * found[n + len(targets)]
        grad_hx += mask[t, 0] * found[-1]  # hx is used at the first step

    result = {"input": delta[0] @ rnn.all_weights[0][0].detach(), "hx": grad_hx}
    for i, layer in enumerate(layers):
        x, h_tm1 = torch.stack(layer.x).detach(), torch.stack(layer.h[:-1]).detach()
        result[f"weight_ih_l{i}"] = torch.einsum("lnh,lni->hi", delta[i], x)
        result[f"weight_hh_l{i}"] = torch.einsum("lnh,lnk->hk", delta[i], h_tm1)
        if rnn.bias:
            result[f"bias_ih_l{i}"] = result[f"bias_hh_l{i}"] = delta[i].sum((0, 1))
    return result, credit
