"""Instruments: pure functions that show where the gradient goes.

    lag_spectrum        what each lag adds to the gradient, what a truncation at any lag would cost
    credit_flow         how much of the loss at t is felt by the state at s
    jacobian_spectrum   what one step, or a product of steps, does to a perturbation
    omega               how far the recurrence is from handing credit on undiminished
    lyapunov_spectrum   how fast perturbations grow or die in the long run
    alignment           which gradient strategy points where, against full BPTT

They need torch only, take any `VanillaRNN` with its input, time first, and a loss of the last
layer's states; nothing is dropped, the net's own gradient strategy plays no part. None of them
touches `.grad`, draws a random number or leaves a graph behind. torch is imported with the first of
them, since every run of pytest imports `conformance.option`.
"""

from typing import TYPE_CHECKING

from bptt_lab.core import lazy

if TYPE_CHECKING:
    from bptt_lab.diagnostics.alignments import Aligned as Aligned
    from bptt_lab.diagnostics.alignments import Alignment as Alignment
    from bptt_lab.diagnostics.alignments import Estimate as Estimate
    from bptt_lab.diagnostics.alignments import alignment as alignment
    from bptt_lab.diagnostics.flow import CreditFlow as CreditFlow
    from bptt_lab.diagnostics.flow import credit_flow as credit_flow
    from bptt_lab.diagnostics.jacobians import JacobianSpectrum as JacobianSpectrum
    from bptt_lab.diagnostics.jacobians import jacobian_spectrum as jacobian_spectrum
    from bptt_lab.diagnostics.lags import LagSpectrum as LagSpectrum
    from bptt_lab.diagnostics.lags import lag_spectrum as lag_spectrum
    from bptt_lab.diagnostics.lyapunov import lyapunov_spectrum as lyapunov_spectrum
    from bptt_lab.diagnostics.preservation import omega as omega

__all__, __getattr__, __dir__ = lazy.exports(__name__, __file__)
