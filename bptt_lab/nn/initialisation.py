"""How the weights start: nn.RNN's uniform, orthogonal, identity or Gaussian, and their radius."""

import math

import torch
from torch import Tensor

from bptt_lab.nn.rnn import VanillaRNN


def initialise(
    rnn: VanillaRNN,
    init: str,
    gain: float,
    spectral_radius: float | None,
    generator: torch.Generator,
    zero_bias: bool = False,
) -> None:
    """Draw all parameters afresh, from the generator alone.

    Everything is uniform within 1 / sqrt(H) as in nn.RNN; then W_hh of each layer is replaced.

    Args:
        rnn: the network.
        init: "uniform", "orthogonal", "identity" (IRNN: biases are zero too) or "gaussian"
            (standard deviation gain / sqrt(H), so that the spectral radius is near `gain`).
        gain: factor on W_hh.
        spectral_radius: if given, W_hh is rescaled so that its eigenvalue of largest modulus has
            this modulus.
        generator: source of all draws, on any device.
        zero_bias: begin with biases of 0; the weights are as without.

    Raises:
        ValueError: for an unknown `init`, or a W_hh that no factor brings to the given radius.

    References: Saxe, McClelland & Ganguli (2014) for orthogonal; Le, Jaitly & Hinton (2015) for
    identity; Jaeger (2001) for the spectral radius.
    """
    bound = 1 / math.sqrt(rnn.hidden_size)
    with torch.no_grad():
        for parameter in rnn.parameters():
            drawn = torch.empty_like(parameter, device=generator.device)
            parameter.copy_(drawn.uniform_(-bound, bound, generator=generator))
        for _, weight_hh, *biases in rnn.all_weights:
            # In float64, so that the number of threads does not show in float32's last bit.
            precise = weight_hh.to(generator.device, torch.float64)
            _recurrent(precise, init, gain, generator)
            if spectral_radius is not None:
                radius = float(torch.linalg.eigvals(precise).abs().max())
                if radius == 0:
                    raise ValueError("W_hh has spectral radius 0 for good: use another init")
                precise.mul_(spectral_radius / radius)
            weight_hh.copy_(precise)
            if zero_bias or init == "identity":
                for bias in biases:
                    bias.zero_()


def _recurrent(weight_hh: Tensor, init: str, gain: float, generator: torch.Generator) -> None:
    if init == "uniform":
        weight_hh.mul_(gain)
    elif init == "orthogonal":
        torch.nn.init.orthogonal_(weight_hh, gain, generator=generator)
    elif init == "identity":
        torch.nn.init.eye_(weight_hh).mul_(gain)
    elif init == "gaussian":
        torch.nn.init.normal_(weight_hh, 0, gain / math.sqrt(len(weight_hh)), generator=generator)
    else:
        raise ValueError(f"init={init}: must be one of uniform, orthogonal, identity, gaussian")
