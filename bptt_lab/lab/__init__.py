"""bptt_lab from Python: what its commands do, and a trained network at work.

    from bptt_lab import lab

    run = lab.train("gradient=truncated", "gradient.k=8")
    sweep = lab.sweep({"gradient": ["full", "truncated"], "seed": range(10)}, launcher="fleet")
    run = lab.open("outputs/...")
    net = lab.load(run.folder)
    net.predict(inputs)

Names are imported when they are first used, so that reading the package imports no torch.
"""

from typing import TYPE_CHECKING

from bptt_lab.core import lazy

if TYPE_CHECKING:
    from bptt_lab.lab.export import export as export
    from bptt_lab.lab.learner import Learner as Learner
    from bptt_lab.lab.load import load as load
    from bptt_lab.lab.load_learner import load_learner as load_learner
    from bptt_lab.lab.net import Net as Net
    from bptt_lab.lab.run import Run as Run
    from bptt_lab.lab.start import Failed as Failed
    from bptt_lab.lab.start import open as open
    from bptt_lab.lab.start import sweep as sweep
    from bptt_lab.lab.start import train as train
    from bptt_lab.lab.stream import Stream as Stream
    from bptt_lab.lab.sweeps import Sweep as Sweep
    from bptt_lab.runs.outcome import Diverged as Diverged
    from bptt_lab.tasks.codec import Codec as Codec
    from bptt_lab.training.network import Network as Network

__all__, __getattr__, __dir__ = lazy.exports(__name__, __file__)
