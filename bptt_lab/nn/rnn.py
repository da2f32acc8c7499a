"""VanillaRNN: torch.nn.RNN's interface over a gradient strategy of your choice."""

import reprlib
from typing import Any, overload

import torch
from torch import Tensor
from torch.nn import Parameter, RNNBase
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from bptt_lab import gradients
from bptt_lab.core.cell import NONLINEARITIES
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients.base import Carry, GradientStrategy, compute_dtype
from bptt_lab.gradients.full import Full
from bptt_lab.nn import tracing


class VanillaRNN(RNNBase):
    """Elman RNN of one or more layers, a drop-in for `torch.nn.RNN`.

    Each layer computes

        a_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh
        h_t = (1 - leak) h_{t-1} + leak phi(a_t)

    Parameter names, shapes, default initialisation, `forward` and the errors are nn.RNN's, and
    state dicts load both ways. What `.backward()` means is decided by `gradient`.

    The output is what the backward pass reads, not a copy. It refuses a change in place that torch
    notices. One through `output.data` or `output.detach().numpy()` is not noticed and changes the
    gradient, unlike nn.RNN's: change `output.clone()`. `Autograd()` and `Checkpointed()` return a
    copy. These and `Full()` can be differentiated twice; torch.func needs `Autograd()`.

    `rnn(input, hx)` runs over whole sequences, as nn.RNN does. A sequence in chunks is for
    `rnn.unroll(input, carry)`, which hands on all that a strategy carries besides the state.

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
        gradient: the gradient strategy, an object; full backpropagation through time by default.
        bidirectional: False, as nn.RNN has it by default; nothing else.

    Attributes:
        draw: index of the random numbers with which the next sequence begins. It counts on from
            call to call and is not in the state dict: keep it, if a run is to go on elsewhere.
        estimate: what the strategy has measured and the next sequence goes on with, such as k of
            Adaptive; None at first.

    Raises:
        ValueError, TypeError: as nn.RNN does; for `leak` outside (0, 1] and a `gradient` that is no
            strategy object too.

    Examples:
        >>> import torch
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import Truncated
        >>> rnn = VanillaRNN(10, 20, num_layers=2, gradient=Truncated(k=3))
        >>> output, h_n = rnn(torch.randn(5, 3, 10))
        >>> output.shape, h_n.shape
        (torch.Size([5, 3, 20]), torch.Size([2, 3, 20]))

        A long sequence in chunks of 25 steps:

        >>> carry = None
        >>> for chunk in torch.randn(100, 3, 10).split(25):
        ...     output, carry = rnn.unroll(chunk, carry)
        ...     output.square().mean().backward()

    Reference: Elman (1990), "Finding structure in time".
    """

    draw: int = 0
    estimate: Any = None

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
        bidirectional: bool = False,
    ) -> None:
        self.nonlinearity = nonlinearity
        if bidirectional or leak is True:  # nn.RNN has it in leak's place
            raise ValueError("bidirectional=True: must be False; use two, one over input.flip(0)")
        self.leak = 1.0 if leak is False else leak
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
        self.gradient: GradientStrategy = Full() if gradient is None else gradient

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "nonlinearity" and value not in NONLINEARITIES:
            known = ", ".join(NONLINEARITIES)
            raise ValueError(f"Unknown nonlinearity '{value}'. Select from {known}.")
        if name == "leak" and (isinstance(value, str) or value is None or not 0 < value <= 1):
            raise ValueError(f"leak={value!r}: must be a number above 0 and at most 1 (1: no leak)")
        value = float(value) if name == "leak" else value
        super().__setattr__(name, _strategy(value) if name == "gradient" else value)

    @overload
    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]: ...
    @overload
    def forward(
        self, input: PackedSequence, hx: Tensor | None = None
    ) -> tuple[PackedSequence, Tensor]: ...
    def forward(
        self, input: Tensor | PackedSequence, hx: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Run over whole sequences.

        Args:
            input: (L, N, I), (N, L, I) with `batch_first`, (L, I) unbatched, or packed.
            hx: initial state (num_layers, N, H), unbatched (num_layers, H); zeros by default.
                A strategy that carries influence takes none: see `unroll`.

        Returns:
            The last layer's states, shaped as the input with H for I, and every layer's last
            state, shaped as `hx`.

        Raises:
            ConfigError: for an `hx` where the strategy would carry influence along with it.
        """
        if isinstance(hx, Carry):
            raise TypeError("hx: must be a state, not a carry; use rnn.unroll(input, carry)")
        if hx is not None and self.gradient.carries_influence and torch.is_grad_enabled():
            problem = f"must be left out with gradient={self.gradient!r}, whose influence would be"
            way_out = "use rnn.unroll(input, carry), or rnn.unroll(input, hx=hx) at a beginning"
            raise ConfigError(f"hx: {problem} lost; {way_out}")
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
        output, h_n = self._states(input_LNI, hx)
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
        padded, lengths = pad_packed_sequence(PackedSequence(input.data, input.batch_sizes))
        output, h_n = self._states(padded, hx, lengths.tolist())
        packed = pack_padded_sequence(output, lengths)
        result = PackedSequence(
            packed.data, input.batch_sizes, input.sorted_indices, input.unsorted_indices
        )
        return result, self.permute_hidden(h_n, input.unsorted_indices)

    def unroll(
        self, input: Tensor, carry: Carry | None = None, *, hx: Tensor | None = None
    ) -> tuple[Tensor, Carry]:
        """Run over one chunk of longer sequences.

        Every chunk's loss is differentiated by itself. Summed over chunks, at fixed parameters, the
        gradient is what the strategy claims across chunks: the whole sequence's for RTRL, cut
        where a chunk begins for those that carry no influence.

        Args:
            input: (L, N, I), or (N, L, I) with `batch_first`.
            carry: what the chunk before left; None where sequences begin.
            hx: the state that sequences begin with, (num_layers, N, H); zeros by default.

        Returns:
            The last layer's states, shaped as the input with H for I, and the carry for the next
            chunk, detached.

        Raises:
            ValueError: for an input that is packed or not batched, and for both `carry` and `hx`.
            TypeError: for a `carry` that is no Carry.

        Examples:
            >>> import torch
            >>> from bptt_lab import VanillaRNN
            >>> from bptt_lab.gradients import RTRL
            >>> rnn, carry = VanillaRNN(2, 3, gradient=RTRL()), None
            >>> for chunk in torch.randn(12, 4, 2).split(5):
            ...     output, carry = rnn.unroll(chunk, carry)
            ...     output.sum().backward()  # adds up to full BPTT's gradient of all 12 steps
        """
        if isinstance(input, PackedSequence) or input.dim() != 3:
            problem = "is packed" if isinstance(input, PackedSequence) else f"{input.dim()}-D"
            raise ValueError(
                f"input {problem}: unroll takes batches of equal length, (L, N, I); pad it, "
                "unsqueeze the batch, or call the module for whole sequences"
            )
        if carry is None:
            hx = self._initial(input, input.size(0 if self.batch_first else 1), hx)
            carry = Carry(hx, None, self.draw, self.estimate)
        elif hx is not None:
            raise ValueError("carry and hx: only one may be given; the carry has a state already")
        elif not isinstance(carry, Carry):
            kind = type(carry).__name__
            raise TypeError(f"carry: must be what unroll returned, not {kind}; a state goes in hx")
        self._check(input, carry.hx, None)
        input_LNI = input.transpose(0, 1) if self.batch_first else input
        output, carry = self.gradient.unroll(self, input_LNI, carry)
        self.draw, self.estimate = carry.draw, carry.estimate
        return output.transpose(0, 1) if self.batch_first else output, carry

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """Each layer's parameters, as nn.RNN gives them, found faster."""
        known: dict[str, Any] = self._parameters
        return [
            [known[name] if name in known else getattr(self, name) for name in names]
            for names in self._all_weights
        ]

    def _states(
        self, input_LNI: Tensor, hx: Tensor, lengths: list[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        if tracing.at_work():
            return tracing.states(self, self.gradient, input_LNI, hx, lengths)
        carry = Carry(hx, None, self.draw, self.estimate)
        unrolled = self.gradient.states(self, input_LNI, carry, lengths)
        # Plain data: nn.Module's own way to set it looks for parameters first.
        vars(self).update(draw=carry.draw + 1, estimate=unrolled.estimate)
        return unrolled.output, unrolled.h_n

    def _check(self, input: Tensor, hx: Tensor, batch_sizes: Tensor | None) -> None:
        self.check_forward_args(input, hx, batch_sizes)
        if hx.dtype != input.dtype and compute_dtype(input) == input.dtype:
            raise RuntimeError(
                "Input and hidden tensors must have the same dtype, but got "
                f"{input.dtype} and {hx.dtype}"
            )
        if batch_sizes is None and input.size(1 if self.batch_first else 0) == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")

    def _initial(self, input: Tensor, batch_size: int, hx: Tensor | None) -> Tensor:
        if hx is not None:
            return hx
        return input.new_zeros(self.num_layers, batch_size, self.hidden_size)

    def extra_repr(self) -> str:
        """Name what differs from the defaults, and the gradient strategy always."""
        phi = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        leak = "" if self.leak == 1 else f", leak={self.leak}"
        return f"{super().extra_repr()}{phi}{leak}, gradient={self.gradient!r}"


def _strategy(gradient: object) -> GradientStrategy:
    """The strategy as it is, or a TypeError for what is none, such as its class or its name."""
    if isinstance(gradient, GradientStrategy):
        return gradient
    meant = getattr(gradient, "__name__", str(gradient)).replace("_", "").lower()
    name = next((name for name in gradients.__all__ if name.lower() == meant), "Truncated")
    raise TypeError(
        f"gradient={reprlib.repr(gradient)}: must be a strategy object; use gradient={name}(...), "
        f"from bptt_lab.gradients import {name}"
    )
