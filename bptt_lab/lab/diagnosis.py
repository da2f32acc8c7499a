"""The instruments, on a network that is trained."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from matplotlib.figure import Figure

from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.tasks.base import SequenceBatch
from bptt_lab.training.callbacks.credit_flow import CreditFlow
from bptt_lab.training.callbacks.lag_spectrum import LagSpectrum
from bptt_lab.training.callbacks.probe import Instrument, moment
from bptt_lab.training.callbacks.recurrence import Recurrence
from bptt_lab.training.callbacks.shadow import Shadow
from bptt_lab.training.module import SequenceModule


class Diagnosis(NamedTuple):
    """What the instruments read of a network."""

    scalars: Mapping[str, float]  # by tag; docs/dashboard.md says what each is
    figures: Mapping[str, Figure]  # by tag

    def __repr__(self) -> str:
        return f"Diagnosis({len(self.scalars)} scalars, figures {', '.join(self.figures)})"


def diagnose(
    module: SequenceModule, batch: SequenceBatch, strategies: Mapping[str, GradientStrategy]
) -> Diagnosis:
    """Have the instruments read a network on a batch; nothing of it changes.

    Args:
        module: the network.
        batch: sequences with their targets.
        strategies: whose gradients are compared with full BPTT's, beside the network's own.

    Raises:
        FloatingPointError: for a network that has diverged.
    """
    instruments: list[Instrument] = [
        kind(every_n_steps=1) for kind in (CreditFlow, LagSpectrum, Recurrence)
    ]
    instruments.append(Shadow(strategies=strategies, every_n_steps=1))
    here = moment(module, batch, 0)
    scalars: dict[str, float] = {}
    figures: dict[str, Figure] = {}
    with torch.random.fork_rng(devices=[]):
        for instrument in instruments:
            scalars |= instrument.read(here).scalars
            figures |= instrument.draw()
    return Diagnosis(scalars, figures)
