"""What a user of torch touches: VanillaRNN, its initialisation, losses, and many nets as one.

    from bptt_lab.nn import Fleet

Names are imported when they are first used, so that reading the package imports no torch.
"""

from typing import TYPE_CHECKING

from bptt_lab.core import lazy

if TYPE_CHECKING:
    from bptt_lab.nn.fleet import Fleet as Fleet

__all__, __getattr__, __dir__ = lazy.exports(__name__, __file__)
