"""Fleet: R VanillaRNNs as one module with stacked parameters, run side by side.

They never meet: each has the states and the gradients that it would have alone.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients import many
from bptt_lab.gradients.base import Carry, GradientStrategy, compute_dtype
from bptt_lab.nn.rnn import VanillaRNN

SIZES = ("input_size", "hidden_size", "num_layers", "nonlinearity", "bias", "dropout")


class Fleet(nn.Module):
    """R independent VanillaRNNs of the same sizes, with one stacked parameter for R of theirs.

    Use it to train an ensemble in a loop of your own: an elementwise optimizer on its parameters
    does what R optimizers do. Norms and clipping are yours to take network by network, over all
    dimensions but the first. Do not use it for few large networks: there is little to share.

    Output and gradients have the bits of R separate networks on one thread, whatever the number of
    threads here. Strategies of one adjoint sweep, `Full`, `Truncated` in chunks and `ARTBP`, run
    as one operation, the networks side by side on all threads; others, and dropout, run network by
    network, which is as slow as R networks are.

    Args:
        num_networks: R.
        input_size: number of inputs a step, I.
        hidden_size: number of hidden units, H.
        num_layers: layers stacked on one another.
        nonlinearity: as VanillaRNN's.
        bias: whether the layers have biases.
        dropout: as VanillaRNN's.
        leak: as VanillaRNN's; one number for all networks, or R numbers.
        device: where the parameters live.
        dtype: type of the parameters.
        gradient: a gradient strategy for all networks, or R of one class; full BPTT by default.

    Attributes:
        draws: R indices, of the random numbers with which each network's next sequence begins.
        estimates: what each network's strategy has measured.

    Raises:
        ValueError: for other than R leaks or strategies, and as VanillaRNN does.

    Examples:
        >>> import torch
        >>> from bptt_lab.nn import Fleet
        >>> fleet = Fleet(8, 10, 20, leak=[0.1 * (r + 1) for r in range(8)])
        >>> output, h_n = fleet(torch.randn(5, 3, 10))
        >>> output.shape, h_n.shape
        (torch.Size([8, 5, 3, 20]), torch.Size([8, 1, 3, 20]))
        >>> fleet.weight_hh_l0.shape
        torch.Size([8, 20, 20])
    """

    def __init__(
        self,
        num_networks: int,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        dropout: float = 0.0,
        leak: float | Sequence[float] = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        gradient: GradientStrategy | Sequence[GradientStrategy] | None = None,
    ) -> None:
        super().__init__()
        leaks = _each("leak", leak, num_networks)
        gradients = _each("gradient", gradient, num_networks)
        sizes = input_size, hidden_size, num_layers, nonlinearity, bias, False, dropout
        self._take(
            [
                VanillaRNN(*sizes, leak, device, dtype, gradient=gradient)
                for leak, gradient in zip(leaks, gradients, strict=True)
            ]
        )

    @classmethod
    def from_networks(cls, networks: Sequence[VanillaRNN]) -> "Fleet":
        """Make a fleet of copies of networks.

        Args:
            networks: one or more; they may differ in leak and in the settings of their strategy.

        Raises:
            ValueError: for networks that differ in anything else.
        """
        fleet = cls.__new__(cls)
        nn.Module.__init__(fleet)
        fleet._take(networks)
        return fleet.train(networks[0].training)

    def _take(self, networks: Sequence[VanillaRNN]) -> None:
        """Become the fleet of copies of these networks."""
        if not networks:
            raise ValueError("networks: must be one or more, not none")
        first = networks[0]
        for network in networks:
            for name in SIZES:
                _same(name, getattr(first, name), getattr(network, name))
            _same(
                "gradient's class", type(first.gradient).__name__, type(network.gradient).__name__
            )
        self.input_size, self.hidden_size = first.input_size, first.hidden_size
        self.num_layers, self.nonlinearity = first.num_layers, first.nonlinearity
        self.bias, self.dropout = first.bias, first.dropout
        self.num_networks = len(networks)
        self.leaks = [network.leak for network in networks]
        self.gradients = [network.gradient for network in networks]
        self.draws = [network.draw for network in networks]
        self.estimates = [network.estimate for network in networks]
        for name, parameter in first.named_parameters():
            stack = torch.stack([network.get_parameter(name).detach() for network in networks])
            self.register_parameter(name, Parameter(stack, parameter.requires_grad))

    def networks(self) -> list[VanillaRNN]:
        """Return R networks of their own, with copies of the parameters."""
        copies = []
        for r, leak in enumerate(self.leaks):
            sizes = (self.input_size, self.hidden_size, self.num_layers, self.nonlinearity)
            network = VanillaRNN(
                *sizes, self.bias, False, self.dropout, leak, gradient=self.gradients[r]
            )
            for name, parameter in self.named_parameters():
                own = Parameter(parameter[r].detach().clone(), parameter.requires_grad)
                setattr(network, name, own)
            network.draw, network.estimate = self.draws[r], self.estimates[r]
            copies.append(network.train(self.training))
        return copies

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run all networks over whole sequences.

        Args:
            input: (R, L, N, I), or (L, N, I) for all networks alike.
            hx: initial states (R, num_layers, N, H); zeros by default. A strategy that carries
                influence takes none, as in VanillaRNN.

        Returns:
            The last layers' states (R, L, N, H), and every layer's last state, shaped as `hx`.

        Raises:
            ValueError: for an `input` or `hx` of another shape.
            ConfigError: for an `hx` where the strategy would carry influence along with it.
        """
        if input.dim() == 3:
            input = input.expand(self.num_networks, -1, -1, -1)
        num_steps, batch_size = input.shape[1:3] if input.dim() == 4 else (1, -1)
        shape = self.num_networks, num_steps, batch_size, self.input_size
        _check("input", input, shape, "or without R")
        if num_steps == 0:
            raise ValueError("input: must have one step or more, not 0")
        states = self.num_networks, self.num_layers, batch_size, self.hidden_size
        if hx is not None:
            _check("hx", hx, states, "or None")
            if self.gradients[0].carries_influence and torch.is_grad_enabled():
                raise ConfigError(
                    f"hx: must be left out with gradient={self.gradients[0]!r}, whose influence "
                    "would be lost; use VanillaRNN.unroll of fleet.networks()"
                )
        keep = self._factors(input, num_steps)
        if keep is None:
            return self._one_by_one(input, input.new_zeros(states) if hx is None else hx)
        self.draws = [draw + 1 for draw in self.draws]
        known = self.gradients[0], self.nonlinearity, self.leaks, *keep, self.num_layers
        return many.unroll(*known, input, hx, list(self.parameters()))

    def _factors(self, input: Tensor, num_steps: int) -> tuple[Tensor | None] | None:
        """What `many.factors` returns, in a tuple; None where networks do not run as one."""
        dropped = self.training and self.dropout > 0 and self.num_layers > 1
        if dropped or compute_dtype(input) != input.dtype:
            return None
        try:
            return (many.factors(self.gradients, self.draws, num_steps),)
        except NotImplementedError:
            return None

    def _one_by_one(self, input: Tensor, hx: Tensor) -> tuple[Tensor, Tensor]:
        unrolled = []
        for r, strategy in enumerate(self.gradients):
            own = [parameter[r] for parameter in self.parameters()]
            size = len(own) // self.num_layers
            net = _Network(
                self.input_size,
                self.hidden_size,
                self.num_layers,
                self.nonlinearity,
                self.bias,
                self.dropout,
                self.leaks[r],
                self.training,
                [own[i : i + size] for i in range(0, len(own), size)],
            )
            carry = Carry(hx[r], None, self.draws[r], self.estimates[r])
            unrolled.append(strategy.states(net, input[r], carry))  # type: ignore[arg-type]
        self.draws = [draw + 1 for draw in self.draws]
        self.estimates = [one.estimate for one in unrolled]
        output, h_n, *_ = zip(*unrolled, strict=True)
        return torch.stack(output), torch.stack(h_n)

    def extra_repr(self) -> str:
        """Name the sizes and the strategy."""
        sizes = f"{self.num_networks}, {self.input_size}, {self.hidden_size}"
        return f"{sizes}, num_layers={self.num_layers}, gradient={self.gradients[0]!r}"


class _Network(NamedTuple):
    """One network of a fleet, as a strategy sees it."""

    input_size: int
    hidden_size: int
    num_layers: int
    nonlinearity: str
    bias: bool
    dropout: float
    leak: float
    training: bool
    all_weights: list[list[Tensor]]


T = TypeVar("T")


def _each(name: str, given: T | Sequence[T], count: int) -> list[T]:
    """One setting for each of the networks, of one for all or one for each."""
    if not isinstance(given, Sequence) or isinstance(given, str):
        return [given] * count
    if len(given) != count:
        raise ValueError(
            f"{name}: must be one, or one for each of {count} networks, not {len(given)}"
        )
    return list(given)


def _same(name: str, one: object, other: object) -> None:
    if one != other:
        raise ValueError(
            f"{name}: must be the same in all networks of a fleet, not {one!r} and {other!r}; make "
            "a fleet for each"
        )


def _check(name: str, tensor: Tensor, shape: tuple[int, ...], otherwise: str) -> None:
    if tensor.shape != shape:
        raise ValueError(f"{name}: must have shape {shape}, {otherwise}, not {tuple(tensor.shape)}")
