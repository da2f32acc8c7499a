"""bptt_lab: many ways to send credit through time, behind one drop-in for torch.nn.RNN.

    from bptt_lab import VanillaRNN
    from bptt_lab.gradients import Truncated

    rnn = VanillaRNN(10, 20, gradient=Truncated(k=8))
    output, h_n = rnn(input)

torch is imported with the first name that needs it, so that the command line answers at once.
"""

from typing import TYPE_CHECKING

from bptt_lab.core import lazy, renamed

if TYPE_CHECKING:
    from bptt_lab.nn.initialisation import initialise as initialise
    from bptt_lab.nn.rnn import VanillaRNN as VanillaRNN
    from bptt_lab.nn.segmented import segmented_loss as segmented_loss

__version__ = "0.1.0"
__all__, __getattr__, __dir__ = lazy.exports(__name__, __file__, "__version__")
renamed.install()
