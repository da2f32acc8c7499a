"""Small nets to try a strategy on, and the one way in which they are unrolled.

L N I H: steps, batch, input, hidden. Everything is float64 unless a test asks otherwise.
"""

# mypy: disallow-untyped-calls=False

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from bptt_lab.gradients import oracle
from bptt_lab.gradients.base import Carry, GradientStrategy, Unrolled
from bptt_lab.nn.rnn import VanillaRNN

Gradients = dict[str, Tensor]

INPUT_SIZE = 3
LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda output: (output + 1).square().sum(),
    "mean": lambda output: (output + 1).square().mean(),
    "last": lambda output: (output[-1] + 1).square().sum(),
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
    estimate: tuple[tuple[str, float], ...] = ()  # what the strategy begins with

    def __str__(self) -> str:
        return "-".join(map(str, self[:-2]))

    def rnn(
        self,
        strategy: GradientStrategy | None = None,
        dtype: torch.dtype = torch.float64,
        dropout: float = 0.0,
    ) -> VanillaRNN:
        """The network, the same weights at every call."""
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(0)
            form = INPUT_SIZE, self.hidden_size, self.num_layers, self.nonlinearity, self.bias
            rnn = VanillaRNN(
                *form, dropout=dropout, leak=self.leak, dtype=torch.float64, gradient=strategy
            )
        with torch.no_grad():
            for layer in rnn.all_weights:
                layer[1].mul_(1.6)  # a spectral radius near 1, so that long lags count
        rnn.estimate = dict(self.estimate) or None
        return rnn.to(dtype)

    def data(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Input and hx, which both ask for their gradient if anyone gives it."""
        random = torch.Generator().manual_seed(1)
        shapes = (self.num_steps, self.batch_size, INPUT_SIZE), self.state_shape
        input, hx = (torch.randn(s, generator=random, dtype=torch.float64) for s in shapes)
        return tuple(t.to(dtype).requires_grad_(self.leaves) for t in (input, hx))  # type: ignore[return-value]

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """(num_layers, N, H)."""
        return self.num_layers, self.batch_size, self.hidden_size

    def loss_of(self, output: Tensor) -> Tensor:
        """The net's loss of its last layer's states."""
        return LOSSES[self.loss](output)


def start(rnn: VanillaRNN, hx: Tensor, draw: int = 0) -> Carry:
    """The carry before a first chunk: this state, this random draw next, the net's estimate."""
    estimate = rnn.estimate and dict(rnn.estimate)
    begin = rnn.gradient.init_carry(rnn, hx.shape[1])
    return begin._replace(hx=hx, draw=draw, estimate=estimate)


def run(rnn: VanillaRNN, input: Tensor, hx: Tensor, draw: int = 0) -> Unrolled:
    """Unroll a whole sequence from the state hx, at a random draw."""
    return rnn.gradient.states(rnn, input, start(rnn, hx, draw))


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
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(0)
        (loss or net.loss_of)(run(rnn, input, hx, draw).output).backward()
    return collect(rnn, input=input, hx=hx)


def remembering_gradients(
    strategy: GradientStrategy, chunk_lengths: Sequence[int], draw: int = 0
) -> Gradients:
    """Parameters' gradient of a net that forgets nothing, summed over chunks."""
    net = Net(5, sum(chunk_lengths), nonlinearity="identity", leaves=False)
    rnn, (input, hx) = net.rnn(strategy), net.data()
    torch.nn.init.orthogonal_(rnn.all_weights[0][1], generator=torch.Generator().manual_seed(3))
    carry = start(rnn, torch.zeros_like(hx), draw)
    for chunk in input.split(list(chunk_lengths)):
        output, carry = strategy.unroll(rnn, chunk, carry)
        net.loss_of(output).backward()
    return collect(rnn)


def collect(rnn: VanillaRNN, **others: Tensor) -> Gradients:
    """`.grad` of the parameters and of other leaves, where there is one."""
    leaves = dict(rnn.named_parameters()) | others
    return {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


@lru_cache(maxsize=64)
def oracle_terms(net: Net) -> Gradients:
    """The oracle's terms, found once for all strategies."""
    input, hx = net.data()
    return oracle.terms(net.rnn(), input.detach(), net.loss_of, hx.detach())
