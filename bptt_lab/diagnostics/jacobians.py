"""Jacobian spectrum: what a step of the recurrence, or a product of steps, does to a perturbation.

    (1) J_t = (1 - leak) I + leak diag(phi'(a_t)) W_hh
    (2) P_s = J_{s+lag} J_{s+lag-1} ... J_{s+1} = dh_{s+lag}/dh_s

With leak 1, |P_s| <= (gamma sigma_max(W_hh))^lag, gamma being the largest slope of phi, 1 for
tanh. Reference: Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural
networks".
"""

from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from bptt_lab.core.validation import Ge, Le, Lt, check
from bptt_lab.diagnostics.linearise import linearise
from bptt_lab.gradients.base import RecurrentNet


class JacobianSpectrum(NamedTuple):
    """One layer's recurrence along a run; tensors in float64.

    Attributes:
        singular_values: of P_s, largest first, (T - lag + 1, N, H), entry s from 0.
        eigenvalues: of W_hh, complex, (H,).
        spectral_radius: the largest modulus of an eigenvalue of W_hh.
        spectral_norm: the largest singular value of W_hh.
        condition_number: the largest singular value of W_hh over the smallest; inf if singular.
        saturation: mean of phi'(a_t) over steps, sequences and units; for tanh 1 in the linear
            range, 0 where every unit is stuck.
    """

    singular_values: Tensor
    eigenvalues: Tensor
    spectral_radius: float
    spectral_norm: float
    condition_number: float
    saturation: float


@torch.no_grad()
def jacobian_spectrum(
    rnn: RecurrentNet, input: Tensor, hx: Tensor | None = None, *, lag: int = 1, layer: int = 0
) -> JacobianSpectrum:
    """Find the singular values of every Jacobian, or product of `lag` of them, along a run.

    Not for whole batches of a large net: it forms T N Jacobians and decomposes each. Give it a
    few sequences.

    Cost: O(T N H^3 (1 + log lag)); space T N H^2, float64 whatever the net's type.

    Args:
        rnn: the network.
        input: (T, N, I), time first.
        hx: state before the first step, (num_layers, N, H); zeros by default.
        lag: number of steps in a product, 1 to T.
        layer: which layer's recurrence, 0 for the first.

    Raises:
        ConfigError: where `lag` or `layer` is out of range.
        ValueError: where `input` or `hx` has the wrong shape.

    Examples:
        >>> import torch
        >>> from bptt_lab import VanillaRNN
        >>> spectrum = jacobian_spectrum(VanillaRNN(2, 3), torch.randn(9, 4, 2), lag=5)
        >>> spectrum.singular_values.shape
        torch.Size([5, 4, 3])
    """
    check_layer(rnn, layer)
    run = linearise(rnn, input, hx)
    check("lag", lag, Annotated[int, Ge(1), Le(len(input))], {})
    hh = run.layers[layer].weights.hh.double()
    eigenvalues, sigma = torch.linalg.eigvals(hh), torch.linalg.svdvals(hh)
    return JacobianSpectrum(
        torch.linalg.svdvals(_products(run.jacobians(layer), lag)),
        eigenvalues,
        float(eigenvalues.abs().max()),
        float(sigma[0]),
        float(sigma[0] / sigma[-1]),
        float(run.slopes[layer].double().mean() / run.cell.leak),
    )


def check_layer(rnn: RecurrentNet, layer: int) -> None:
    """Raise a ConfigError where the net has no such layer."""
    check("layer", layer, Annotated[int, Ge(0), Lt(rnn.num_layers)], {})


def _products(J: Tensor, lag: int) -> Tensor:
    """Eq. (2) for every s, (T - lag + 1, N, H, H), by doubling: about 2 log2(lag) products."""
    product, length = J, 1
    for bit in bin(lag)[3:]:
        product = product[length:] @ product[: len(product) - length]
        length *= 2
        if bit == "1":
            product = J[length:] @ product[: len(product) - 1]
            length += 1
    return product
