"""Lyapunov exponents: how fast perturbations of the state grow or die, in nats a step.

    (1) Q_t R_t = J_t Q_{t-1},  Q_0 = I             QR decomposition, the diagonal of R positive
    (2) lambda_i = mean over t of ln |R_t[i, i]|

Their sum is the mean of ln |det J_t|; the largest is the slope of the log credit by lag, so
credit vanishes where it is negative and explodes where it is positive. References: Benettin et
al. (1980); Engelken, Wolf & Abbott (2023), "Lyapunov spectra of chaotic recurrent neural
networks".
"""

from typing import Annotated

import torch
from torch import Tensor

from bptt_lab.core.validation import Ge, Lt, check
from bptt_lab.diagnostics.jacobians import check_layer
from bptt_lab.diagnostics.linearise import linearise
from bptt_lab.gradients.base import RecurrentNet


@torch.no_grad()
def lyapunov_spectrum(
    rnn: RecurrentNet, input: Tensor, hx: Tensor | None = None, *, layer: int = 0, burn_in: int = 0
) -> Tensor:
    """Measure the Lyapunov exponents of one layer's recurrence along each sequence.

    Cost: O(T N H^3), one QR decomposition a step and sequence, float64 whatever the net's type.

    Args:
        rnn: the network.
        input: (T, N, I), time first; zeros for an autonomous net.
        hx: state before the first step, (num_layers, N, H); zeros by default.
        layer: which layer's recurrence, 0 for the first.
        burn_in: steps that turn Q but are left out of the mean, below T.

    Returns:
        (N, H) exponents in nats a step, largest first, float64; -inf, or a rounding error's large
        negative number, where a Jacobian is singular.

    Raises:
        ConfigError: where `layer` or `burn_in` is out of range.
        ValueError: where `input` or `hx` has the wrong shape.

    Examples:
        >>> import torch
        >>> from bptt_lab import VanillaRNN
        >>> lyapunov_spectrum(VanillaRNN(2, 3), torch.randn(9, 4, 2)).shape
        torch.Size([4, 3])
    """
    check_layer(rnn, layer)
    run = linearise(rnn, input, hx)
    check("burn_in", burn_in, Annotated[int, Ge(0), Lt(len(input))], {})
    hh = run.layers[layer].weights.hh.double()
    identity = torch.eye(len(hh), dtype=hh.dtype, device=hh.device)
    Q = identity.expand(input.shape[1], -1, -1)
    total = torch.zeros_like(Q[:, 0])
    for t, slope_NH in enumerate(run.slopes[layer].double()):
        JQ = slope_NH.unsqueeze(-1) * (hh @ Q) + (1 - run.cell.leak) * Q
        Q, R = torch.linalg.qr(JQ)
        if t >= burn_in:
            total = total + R.diagonal(dim1=-2, dim2=-1).abs().log()
    return (total / (len(input) - burn_in)).sort(dim=-1, descending=True).values
