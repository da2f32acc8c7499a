"""What a truncation at any lag would cost, on the probe: cosine and relative error for every k."""

from collections.abc import Mapping

import torch
from matplotlib.figure import Figure

from bptt_lab import diagnostics
from bptt_lab.training.callbacks.pictures import curves
from bptt_lab.training.callbacks.probe import Instrument, Moment, Reading


def chosen(longest: int) -> list[int]:
    """The lags that get a scalar of their own: powers of four, and the longest."""
    return sorted({4**n for n in range(8) if 4**n < longest} | {longest})


class LagSpectrum(Instrument):
    """The lag-k gradient beside full BPTT's.

    Scalars `truncation/cosine_k_<k>` and `.../relative_error_k_<k>`, and
    `effective_lag/<p>_percent`, the lag within which the parts' norms make up so much of their
    sum; a picture of both curves over all k.
    """

    _curves: Mapping[str, torch.Tensor] = {}

    def read(self, moment: Moment) -> Reading:
        """Measure the spectrum."""
        spectrum = diagnostics.lag_spectrum(moment.rnn, moment.input, moment.loss)
        cosine, error = spectrum.cosine["total"], spectrum.relative_error["total"]
        self._curves = {"cosine": cosine, "relative error": error}
        scalars = {}
        for k in chosen(len(cosine)):
            scalars[f"truncation/cosine_k_{k:03d}"] = float(cosine[k - 1])
            scalars[f"truncation/relative_error_k_{k:03d}"] = float(error[k - 1])
        for share in (0.5, 0.9):
            lag = spectrum.effective_lag(share)
            if lag is not None:
                scalars[f"effective_lag/{100 * share:.0f}_percent"] = float(lag)
        return Reading(scalars)

    def draw(self) -> Mapping[str, Figure]:
        """Draw both curves against k."""
        k = torch.arange(1, len(next(iter(self._curves.values()))) + 1)
        lines = {name: (k, values) for name, values in self._curves.items()}
        title = "The gradient of lag k against the full one"
        y = "cosine; error in norms of the full one"
        figure = curves(title, "truncation lag k (steps)", y, lines)
        return {"truncation/curve": figure}
