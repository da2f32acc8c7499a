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

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bptt_lab.diagnostics.alignments import Aligned, Alignment, Estimate, alignment
    from bptt_lab.diagnostics.flow import CreditFlow, credit_flow
    from bptt_lab.diagnostics.jacobians import JacobianSpectrum, jacobian_spectrum
    from bptt_lab.diagnostics.lags import LagSpectrum, lag_spectrum
    from bptt_lab.diagnostics.lyapunov import lyapunov_spectrum
    from bptt_lab.diagnostics.preservation import omega

__all__ = [
    "Aligned",
    "Alignment",
    "CreditFlow",
    "Estimate",
    "JacobianSpectrum",
    "LagSpectrum",
    "alignment",
    "credit_flow",
    "jacobian_spectrum",
    "lag_spectrum",
    "lyapunov_spectrum",
    "omega",
]

_MODULES = ("alignments", "flow", "jacobians", "lags", "lyapunov", "preservation")


def __getattr__(name: str) -> Any:
    for module in _MODULES if name in __all__ else ():
        found = vars(import_module(f"{__name__}.{module}"))
        if name in found:
            return found[name]
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
