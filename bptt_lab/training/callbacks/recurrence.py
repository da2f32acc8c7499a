"""Where the recurrent weights stand: spectrum, saturation and the growth of perturbations."""

import math
from collections.abc import Mapping

import torch
from matplotlib.figure import Figure

from bptt_lab import diagnostics
from bptt_lab.training.callbacks.pictures import complex_plane
from bptt_lab.training.callbacks.probe import Instrument, Moment, Reading
from bptt_lab.training.histograms import log_histogram

STEPS, SEQUENCES = 2, 1  # of the probe whose Jacobians are taken apart; each costs H^3


class Recurrence(Instrument):
    """Spectrum, saturation and stability of every layer.

    Scalars `recurrence/spectral_radius_<layer>` and `.../spectral_norm_<layer>` of W_hh,
    `.../saturation_<layer>` (mean phi': 1 linear, 0 stuck), `.../lyapunov_<layer>` (nats a step by
    which a perturbation grows along the probe), and `recurrence/omega` (how far credit is from
    being handed on undiminished); a histogram of the Jacobians' singular values; a picture of the
    eigenvalues of W_hh.
    """

    _eigenvalues: Mapping[str, torch.Tensor] = {}

    def read(self, moment: Moment) -> Reading:
        """Measure every layer."""
        rnn, input = moment.rnn, moment.input
        scalars = {"recurrence/omega": float(diagnostics.omega(rnn, input, moment.loss))}
        histograms, eigenvalues = {}, {}
        for layer in range(rnn.num_layers):
            short = input[-STEPS:, :SEQUENCES]
            spectrum = diagnostics.jacobian_spectrum(rnn, short, layer=layer)
            name = f"l{layer}"
            scalars |= {
                f"recurrence/spectral_radius_{name}": spectrum.spectral_radius,
                f"recurrence/spectral_norm_{name}": spectrum.spectral_norm,
                f"recurrence/saturation_{name}": spectrum.saturation,
            }
            exponents = diagnostics.lyapunov_spectrum(rnn, input[:, :1], layer=layer)
            largest = float(exponents[0, 0])
            if math.isfinite(largest):
                scalars[f"recurrence/lyapunov_{name}"] = largest
            tag = f"recurrence/singular_values_log10_{name}"
            histograms[tag] = log_histogram(spectrum.singular_values)
            eigenvalues[name] = spectrum.eigenvalues
        self._eigenvalues = eigenvalues
        return Reading(scalars, histograms)

    def draw(self) -> Mapping[str, Figure]:
        """Draw the complex plane."""
        figure = complex_plane("Eigenvalues of the recurrent weights W_hh", self._eigenvalues)
        return {"recurrence/eigenvalues": figure}
