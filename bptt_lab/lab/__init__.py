"""bptt_lab from Python: what its commands do, and a trained network at work.

    from bptt_lab import lab

    net = lab.load("outputs/...")
    net.predict(inputs)

Names are imported when they are first used, so that reading the package imports no torch.
"""

from typing import TYPE_CHECKING

from bptt_lab.core import lazy

if TYPE_CHECKING:
    from bptt_lab.lab.export import export as export
    from bptt_lab.lab.load import load as load
    from bptt_lab.lab.net import Net as Net

__all__, __getattr__, __dir__ = lazy.exports(__name__, __file__)
