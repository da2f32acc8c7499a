"""A network that reads one step at a time."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bptt_lab.core.validation import ConfigError
from bptt_lab.lab.outputs import Outputs


class Stream:
    """One sequence without an end: each call reads one step and goes on from there.

    After each step it answers what `net.predict` answers at that step of the whole sequence, bit
    for bit. It takes no more room as it goes.

    Args:
        net: the network; it is not changed.

    Attributes:
        hx: every layer's state, (num_layers, 1, H).

    Examples:
        >>> import torch
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.lab import Codec, Net, Network
        >>> parts = VanillaRNN(1, 8), torch.nn.Linear(8, 1), None, Codec(1, 1, "mse")
        >>> net = Net(Network(*parts))  # or lab.load(run_folder)
        >>> stream = net.stream()
        >>> [stream.predict_one(x) for x in (0.1, 0.2)] == net.predict([0.1, 0.2]).tolist()
        True
    """

    def __init__(self, net: Outputs) -> None:
        self.net = net
        self.hx = net.zeros(1)

    def predict_one(self, x: Any) -> Any:
        """Read one step and answer it.

        Args:
            x: I numbers, one number where I is 1, or a symbol.

        Returns:
            A class by its name, O booleans, O numbers, or one number where O is 1.

        Raises:
            ConfigError: for an `x` of another form; the state is then as before.
        """
        return self._step(x, self.net.answer)

    def predict_proba_one(self, x: Any) -> Any:
        """Read one step and return every class's probability, (O).

        Raises:
            ConfigError: as `predict_one`, and where answers are numbers.
        """
        return self._step(x, self.net.codec.chances)

    def _step(self, x: Any, read: Callable[[Tensor], Any]) -> Any:
        output, hx = self.net.advance(self.net.codec.encode([x])[None], self.hx)
        answer = read(output[0, 0])
        self.hx = hx
        return answer

    def reset(self) -> None:
        """Begin a new sequence."""
        self.hx = self.net.zeros(1)

    def copy(self) -> "Stream":
        """Return a stream that goes on from here by itself."""
        other = Stream(self.net)
        other.load_state_dict(self.state_dict())
        return other

    def state_dict(self) -> dict[str, Tensor]:
        """Return where it stands."""
        return {"hx": self.hx.clone()}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Go on from where a stream of the same network stood.

        Raises:
            ConfigError: for the state of another network.
        """
        hx, own = state_dict.get("hx"), self.net.zeros(1)
        if not isinstance(hx, Tensor) or (hx.shape, hx.dtype) != (own.shape, own.dtype):
            raise ConfigError(
                f"hx: must be {tuple(own.shape)} {own.dtype}, as a stream's of this net"
            )
        self.hx = hx.detach().to(own.device, copy=True, memory_format=torch.contiguous_format)
