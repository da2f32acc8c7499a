"""Vanishing and exploding: what bounds credit on its way back, and which nets escape the bound."""

from __future__ import annotations

import math

import torch

from bptt_lab import diagnostics
from bptt_lab.commands.reproduce.claim import SEEDS, Result, Trial, claim
from bptt_lab.nn.initialisation import initialise
from bptt_lab.nn.rnn import VanillaRNN

I, H, T = 3, 16, 60


def _net(seed: int, init: str, gain: float, phi: str = "tanh") -> VanillaRNN:
    rnn = VanillaRNN(I, H, nonlinearity=phi, dtype=torch.float64)
    initialise(rnn, init, gain, None, torch.Generator().manual_seed(seed))
    return rnn


def _input(seed: int, num_steps: int = T) -> torch.Tensor:
    draws = torch.Generator().manual_seed(1000 + seed)
    return torch.randn(num_steps, 1, I, generator=draws).double()


@claim(
    "published",
    "Pascanu, Mikolov & Bengio 2013",
    "|prod J| <= (gamma sigma)^lag",
    tested_on=range(10, 13),
)
def bound(trial: Trial) -> Result:
    """|J_t ... J_{s+1}| <= (gamma sigma)^lag, gamma 1 for tanh and 1/4 for sigmoid."""
    worst = 0.0
    for seed in trial.seeds:
        for phi, gamma in (("tanh", 1.0), ("sigmoid", 0.25), ("relu", 1.0)):
            for gain in (0.5, 1.0, 2.0):
                rnn = _net(seed, "gaussian", gain, phi)
                for lag in (1, 2, 5, 10, 20):
                    found = diagnostics.jacobian_spectrum(rnn, _input(seed), lag=lag)
                    limit = (gamma * found.spectral_norm) ** lag
                    worst = max(worst, float(found.singular_values.max()) / limit)
    return Result(worst <= 1 + 1e-9, f"largest share of the bound {worst:.3f}")


@claim("published", "Saxe et al. 2014", "credit constant over lags")
def orthogonal(trial: Trial) -> Result:
    """Credit in an orthogonal linear network is as long at every lag."""
    worst = 0.0
    for seed in trial.seeds:
        rnn = _net(seed, "orthogonal", 1.0, "identity")
        flow = diagnostics.credit_flow(rnn, _input(seed), lambda h: h[-1].sum())
        worst = max(worst, float((flow.by_lag[0] - flow.by_lag[0, 0]).abs().max()))
    return Result(worst < 1e-10, f"log10 length moves by {worst:.0e} over {T} lags")


@claim(
    "published",
    "Engelken et al. 2023",
    "orthogonal 0, Gaussian lambda_1 to .02",
    **SEEDS,
)
def slope_is_lyapunov(trial: Trial) -> Result:
    """The slope of the log credit by lag is the largest Lyapunov exponent: 0, or ln(gain)."""
    worst, said = 0.0, []
    num_steps = 400
    for seed in trial.seeds:
        slopes = []
        for init, gain in (("orthogonal", 1.0), ("gaussian", 0.6), ("gaussian", 1.4)):
            rnn = _net(seed, init, gain, "identity" if gain == 1 else "tanh")
            input = _input(seed, num_steps) * 0.1
            flow = diagnostics.credit_flow(rnn, input, lambda h: h[-1].sum())
            by_lag = flow.by_lag[0] * math.log(10)
            measured = float(by_lag[-1] - by_lag[50]) / (num_steps - 51)
            exponent = float(diagnostics.lyapunov_spectrum(rnn, input)[0, 0])
            worst = max(worst, abs(measured - exponent))
            slopes.append(measured)
        said.append("/".join(f"{slope:+.3f}" for slope in slopes))
    return Result(worst < 0.02, f"slopes {said[0]} nats, off by at most {worst:.4f}")


@claim(
    "regression",
    "Bengio, Simard & Frasconi 1994",
    "bit held 100 steps, credit falls > .5 nats a step",
    **SEEDS,
)
def latch(trial: Trial) -> Result:
    """A unit with a weight w > 1 on itself holds a bit, and its credit dies as it does so.

    Without input it rests at h = tanh(w h); its slope there is w (1 - h^2) < 1.
    """
    rnn = VanillaRNN(1, 1, bias=False, dtype=torch.float64)
    weight_ih, weight_hh = rnn.all_weights[0]
    weight, num_steps = 2.0, 100
    with torch.no_grad():
        weight_ih.fill_(1.0)
        weight_hh.fill_(weight)
    held, steepest = True, -math.inf
    for seed in trial.seeds:
        draws = torch.Generator().manual_seed(seed)
        bits = torch.randint(2, (32,), generator=draws).double() * 2 - 1
        noise = 0.25 * (2 * torch.rand(num_steps, 32, 1, generator=draws).double() - 1)
        input = noise
        input[0, :, 0] += 2 * bits  # the bit; after it only noise too weak to flip the unit
        with torch.no_grad():
            states = rnn(input)[0][..., 0]
        held &= bool((states[-1].sign() == bits).all())
        flow = diagnostics.credit_flow(rnn, input, lambda h: h[-1].sum())
        by_lag = flow.by_lag[0] * math.log(10)
        steepest = max(steepest, float((by_lag[-1] - by_lag[0]) / (num_steps - 1)))
    kept = "all bits held" if held else "a bit was lost"
    return Result(held and steepest < -0.5, f"{kept}, credit falls by {-steepest:.2f} nats a step")


CLAIMS = [bound, orthogonal, slope_is_lyapunov, latch]
