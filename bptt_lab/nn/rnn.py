"""VanillaRNN: torch.nn.RNN's interface over a gradient strategy of your choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import torch
from torch import Tensor
from torch.nn import RNNBase
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from bptt_lab.core.cell import NONLINEARITIES
from bptt_lab.gradients.base import Carry, compute_dtype
from bptt_lab.gradients.full import Full

if TYPE_CHECKING:
    from bptt_lab.gradients.base import GradientStrategy


class VanillaRNN(RNNBase):
    r"""Elman RNN of one or more layers, a drop-in for :class:`torch.nn.RNN`.

    Each layer computes

    .. math::
        a_t &= W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh} \\
        h_t &= (1 - \text{leak})\, h_{t-1} + \text{leak}\; \phi(a_t)

    Parameter names, shapes, default initialisation, `forward` and the errors are nn.RNN's, and
    state dicts load both ways. What `.backward()` means is decided by `gradient`.

    Args:
        input_size: number of inputs a step, I.
        hidden_size: number of hidden units, H.
        num_layers: layers stacked on one another.
        nonlinearity: phi: "tanh", "relu", "identity" or "sigmoid".
        bias: whether the layers have biases.
        batch_first: whether batched input and output are (N, L, *) instead of (L, N, *).
        dropout: probability of dropping a state on its way to the next layer, in training.
        leak: how far a state moves towards phi(a_t) in a step, above 0 and at most 1; 1 is
            nn.RNN's recurrence.
        device: where the parameters live.
        dtype: type of the parameters.
        gradient: the gradient strategy; full backpropagation through time by default.

    Raises:
        ValueError, TypeError: as nn.RNN does; for `leak` outside (0, 1] too.

    Example:
        >>> import torch
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients.truncated import Truncated
        >>> rnn = VanillaRNN(10, 20, num_layers=2, gradient=Truncated(k=3))
        >>> output, h_n = rnn(torch.randn(5, 3, 10))
        >>> output.shape, h_n.shape
        (torch.Size([5, 3, 20]), torch.Size([2, 3, 20]))

    Reference: Elman (1990), "Finding structure in time".
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        leak: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        gradient: GradientStrategy | None = None,
    ) -> None:
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(
                f"Unknown nonlinearity '{nonlinearity}'. Select from {', '.join(NONLINEARITIES)}."
            )
        if isinstance(leak, bool):
            raise TypeError(
                f"leak should be a number, got: {leak}; nn.RNN has `bidirectional` in this place, "
                "which VanillaRNN does not do: use two of them, one over input.flip(0)"
            )
        if not 0 < leak <= 1:
            raise ValueError(f"leak={leak}: must be above 0 and at most 1 (1: no leak)")
        # RNNBase knows two modes; ours differ in phi alone, which changes no parameter.
        super().__init__(
            "RNN_RELU" if nonlinearity == "relu" else "RNN_TANH",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            device=device,
            dtype=dtype,
        )
        self.nonlinearity = nonlinearity
        self.leak = float(leak)
        self.gradient: GradientStrategy = Full() if gradient is None else gradient

    @overload
    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]: ...
    @overload
    def forward(
        self, input: PackedSequence, hx: Tensor | None = None
    ) -> tuple[PackedSequence, Tensor]: ...
    def forward(
        self, input: Tensor | PackedSequence, hx: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Run over a whole sequence.

        Args:
            input: (L, N, I), (N, L, I) with `batch_first`, (L, I) unbatched, or packed.
            hx: initial state (num_layers, N, H), unbatched (num_layers, H); zeros by default.

        Returns:
            The last layer's states, shaped as the input with H for I, and every layer's last
            state, shaped as `hx`.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if input.dim() not in (2, 3):
            raise ValueError(
                f"RNN: Expected input to be 2D or 3D, got {input.dim()}D tensor instead"
            )
        batched = input.dim() == 3
        if hx is not None and hx.dim() != input.dim():
            kind = "batched 3-D" if batched else "unbatched 2-D"
            raise RuntimeError(
                f"For {kind} input, hx should also be {input.dim()}-D but got {hx.dim()}-D tensor"
            )
        if not batched:
            input = input.unsqueeze(0 if self.batch_first else 1)
            hx = None if hx is None else hx.unsqueeze(1)
        hx = self._initial(input, input.size(0 if self.batch_first else 1), hx)
        self._check(input, hx, None)
        input_LNI = input.transpose(0, 1) if self.batch_first else input
        output, h_n, _ = self.gradient.states(self, _nonempty(input_LNI), Carry(hx))
        if self.batch_first:
            output = output.transpose(0, 1)
        if not batched:
            return output.squeeze(0 if self.batch_first else 1), h_n.squeeze(1)
        return output, h_n

    def _forward_packed(
        self, input: PackedSequence, hx: Tensor | None
    ) -> tuple[PackedSequence, Tensor]:
        hx = self._initial(input.data, int(input.batch_sizes[0]), hx)
        hx = self.permute_hidden(hx, input.sorted_indices)
        self._check(input.data, hx, input.batch_sizes)
        # The longest first, as packed; the states go back the same way.
        by_length = PackedSequence(input.data, input.batch_sizes)
        padded, lengths = pad_packed_sequence(by_length)
        output, h_n, _ = self.gradient.states(self, padded, Carry(hx), lengths.tolist())
        packed = pack_padded_sequence(output, lengths)
        result = PackedSequence(
            packed.data, input.batch_sizes, input.sorted_indices, input.unsorted_indices
        )
        return result, self.permute_hidden(h_n, input.unsorted_indices)

    def _check(self, input: Tensor, hx: Tensor, batch_sizes: Tensor | None) -> None:
        self.check_forward_args(input, hx, batch_sizes)
        if hx.dtype != input.dtype and compute_dtype(input) == input.dtype:
            raise RuntimeError(
                "Input and hidden tensors must have the same dtype, but got "
                f"{input.dtype} and {hx.dtype}"
            )

    def _initial(self, input: Tensor, batch_size: int, hx: Tensor | None) -> Tensor:
        if hx is not None:
            return hx
        return input.new_zeros(self.num_layers, batch_size, self.hidden_size)

    def extra_repr(self) -> str:
        """Name what differs from the defaults, and the gradient strategy always."""
        phi = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        leak = "" if self.leak == 1 else f", leak={self.leak}"
        return f"{super().extra_repr()}{phi}{leak}, gradient={self.gradient!r}"


def _nonempty(input_LNI: Tensor) -> Tensor:
    if len(input_LNI) == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    return input_LNI
