"""Vanishing and exploding: what bounds credit on its way back, and which nets escape the bound."""

import math
from typing import Any

import torch
from torch import Tensor

from bptt_lab import diagnostics
from bptt_lab.commands.reproduce.nets import net, normal
from bptt_lab.commands.reproduce.topics import MORE_SEEDS, SEEDS, Result, Trial, claim, greatest
from bptt_lab.gradients.full import Full
from bptt_lab.nn.rnn import VanillaRNN

I, H, T = 3, 16, 60
SIZES = (I, H, 1)


def _lengths(rnn: VanillaRNN, input: Tensor) -> Tensor:
    """Ln |dE_T/dh_{T-d}| by lag d for a loss of the last state alone, (T,): by full BPTT."""
    q = torch.zeros(*input.shape[:2], rnn.hidden_size).double()
    q[-1] = 1
    hx = torch.zeros(1, input.shape[1], rnn.hidden_size).double()
    credit = Full().credit(rnn, input, hx, q)[0]
    by_lag: Tensor = credit.norm(dim=-1).log().mean(1).flip(0)
    return by_lag


@claim(
    "published",
    "Pascanu, Mikolov & Bengio 2013",
    "|prod J| <= (1 - leak + leak gamma sigma)^lag; above .65 of it at lag 1",
    **MORE_SEEDS,
)
def bound(trial: Trial) -> Result:
    """Gamma is phi's steepest slope: 1 for tanh and relu, 1/4 for sigmoid."""
    largest, least = 0.0, 1.0
    for seed in trial.seeds:
        for phi, gamma in (("tanh", 1.0), ("sigmoid", 0.25), ("relu", 1.0)):
            for gain, leak in ((0.5, 1.0), (1.0, 1.0), (2.0, 1.0), (2.0, 0.3)):
                init: Any = {"init": "gaussian", "gain": gain, "leak": leak, "nonlinearity": phi}
                rnn, shares = net(Full(), seed, SIZES, **init), []
                input = normal(1000 + seed, T, 1, I)
                lengths = _lengths(rnn, input)
                for lag in (1, 2, 5, 10, 20):
                    found = diagnostics.jacobian_spectrum(rnn, input, lag=lag)
                    most = (1 - leak + leak * gamma * found.spectral_norm) ** lag
                    shares.append(float(found.singular_values.max()) / most)
                    credit = float(lengths[lag] - lengths[0])
                    largest = greatest(largest, shares[-1], math.exp(credit) / most)
                least = min(least, shares[0])
    good = largest <= 1 + 1e-9 and least > 0.65
    return Result(good, f"largest share of the bound {largest:.3f}, least at lag 1 {least:.3f}")


@claim("published", "Saxe et al. 2014", "credit constant over lags, to 1e-10")
def orthogonal(trial: Trial) -> Result:
    """Credit in an orthogonal linear network is as long at every lag."""
    worst = 0.0
    for seed in trial.seeds:
        rnn, input = net(Full(), seed, SIZES, nonlinearity="identity"), normal(1000 + seed, T, 1, I)
        flow = diagnostics.credit_flow(rnn, input, lambda h: h[-1].sum())
        for by_lag in (flow.by_lag[0] * math.log(10), _lengths(rnn, input)):
            worst = greatest(worst, float((by_lag - math.log(H) / 2).abs().max()))
    return Result(worst < 1e-10, f"ln of the length moves by {worst:.0e} over {T} lags")


@claim(
    "published",
    "Engelken et al. 2023",
    "slope of ln credit = growth of a perturbation, to .02 nats",
    **MORE_SEEDS,
)
def slope_is_lyapunov(trial: Trial) -> Result:
    """Credit's slope by lag, the QR exponent, and the growth of a perturbation of the state."""
    worst, said = 0.0, []
    num_steps = 400
    for seed in trial.seeds:
        slopes = []
        for gain, leak in ((1.0, 1.0), (0.6, 1.0), (1.4, 1.0), (1.4, 0.4)):
            linear = gain == 1
            kind = ("orthogonal", "identity") if linear else ("gaussian", "tanh")
            rnn = net(Full(), seed, SIZES, init=kind[0], gain=gain, leak=leak, nonlinearity=kind[1])
            input = normal(1000 + seed, num_steps, 1, I) * 0.1
            by_lag = _lengths(rnn, input)
            slopes.append(float(by_lag[-1] - by_lag[50]) / (num_steps - 51))
            exponent = float(diagnostics.lyapunov_spectrum(rnn, input)[0, 0])
            for other in (exponent, _growth(rnn, input)):
                worst = greatest(worst, abs(slopes[-1] - other))
        said.append("/".join(f"{slope:+.3f}" for slope in slopes))
    return Result(worst < 0.02, f"slopes {said[0]} nats, off by at most {worst:.4f}")


@torch.no_grad()
def _growth(rnn: VanillaRNN, input: Tensor, size: float = 1e-6) -> float:
    """Nats a step by which two states of the forward pass come apart, `size` before each step."""
    apart, total = torch.ones(1, 1, rnn.hidden_size).double(), 0.0
    hx = torch.zeros_like(apart)
    for x_t in input:
        apart *= size / apart.norm()
        _, both = rnn(x_t.expand(1, 2, -1), torch.cat((hx, hx + apart), 1))
        hx, apart = both[:, :1], both[:, 1:] - both[:, :1]
        total += math.log(float(apart.norm()) / size)
    return total / len(input)


@claim(
    "derived",
    "Bengio, Simard & Frasconi 1994",
    "bit held 100 steps; credit falls as ln(1 - leak + leak w (1 - h^2)): -1.79, -.41, to .03",
    **SEEDS,
)
def latch(trial: Trial) -> Result:
    """A unit with a weight w > 1 on itself holds a bit, and its credit dies as it does so.

    Without input it rests at h = tanh(w h); its slope there is w (1 - h^2) < 1.
    """
    weight, num_steps, rest = 2.0, 100, 0.957504  # rest = tanh(weight * rest)
    held, furthest, said = True, 0.0, []
    for leak in (1.0, 0.4):
        rnn = VanillaRNN(1, 1, bias=False, leak=leak, dtype=torch.float64)
        weight_ih, weight_hh = rnn.all_weights[0]
        with torch.no_grad():
            weight_ih.fill_(1.0)
            weight_hh.fill_(weight)
        for seed in trial.seeds:
            draws = torch.Generator().manual_seed(seed)
            bits = torch.randint(2, (32,), generator=draws).double() * 2 - 1
            input = 0.25 * (2 * torch.rand(num_steps, 32, 1, generator=draws).double() - 1)
            input[:3, :, 0] += 2 * bits  # the bit; then only noise too weak to flip the unit
            with torch.no_grad():
                states = rnn(input)[0][..., 0]
            held &= bool((states[-1].sign() == bits).all())
            by_lag = _lengths(rnn, input)
            slope = float((by_lag[80] - by_lag[0]) / 80)
            furthest = greatest(
                furthest, abs(slope - math.log(1 - leak + leak * weight * (1 - rest**2)))
            )
        said.append(f"{slope:+.2f}")
    kept = "all bits held" if held else "a bit was lost"
    told = f"{kept}, {' and '.join(said)} nats a step, off by {furthest:.3f}"
    return Result(held and furthest < 0.03, told)


CLAIMS = [bound, orthogonal, slope_is_lyapunov, latch]
