"""bptt_lab: many ways to send credit through time, behind one drop-in for torch.nn.RNN.

    from bptt_lab import VanillaRNN
    from bptt_lab.gradients.truncated import Truncated

    rnn = VanillaRNN(10, 20, gradient=Truncated(k=8))
    output, h_n = rnn(input)

torch is imported with the first name that needs it, so that the command line answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bptt_lab.core import renamed

if TYPE_CHECKING:
    from bptt_lab.nn.rnn import VanillaRNN as VanillaRNN

__all__ = ["VanillaRNN", "__version__"]
__version__ = "0.1.0"
renamed.install()


def __getattr__(name: str) -> Any:
    if name == "VanillaRNN":
        from bptt_lab.nn.rnn import VanillaRNN

        return VanillaRNN
    raise AttributeError(f"module 'bptt_lab' has no attribute '{name}'")
