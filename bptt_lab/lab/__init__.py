"""The lab from Python: train, sweep, open and use, as the commands do.

from bptt_lab import lab

run = lab.train("gradient=truncated", "gradient.k=8")
sweep = lab.sweep({"gradient": ["full", "truncated"], "seed": range(10)}, launcher="fleet")
run = lab.open("outputs/...")
"""

from typing import TYPE_CHECKING

from bptt_lab.core import lazy

if TYPE_CHECKING:
    from bptt_lab.lab.run import Run as Run
    from bptt_lab.lab.start import Failed as Failed
    from bptt_lab.lab.start import open as open
    from bptt_lab.lab.start import sweep as sweep
    from bptt_lab.lab.start import train as train
    from bptt_lab.lab.sweeps import Sweep as Sweep
    from bptt_lab.runs.outcome import Diverged as Diverged

__all__, __getattr__, __dir__ = lazy.exports(__name__, __file__)
