"""Adaptive truncation: a bound on the bias of every lag.

With W_hh = beta Q, Q orthogonal, and phi the identity, credit shrinks by rho a step at least, so
that

    (1) |g - g_K| <= M sum_{d>=K} phi_d,  phi_d = rho^d phi_0,  rho = 1 - leak + leak beta

M is the norm of the immediate Jacobian, and phi_0 the sum over the losses of |q_t|. Where Q is the
identity, the last step alone has a loss and the input stays the same, the gradient of W_ih has no
more bias than that and no less.
"""

from typing import Any

import torch
from torch import Tensor

from bptt_lab.commands.reproduce.nets import exact, gradient, net, normal
from bptt_lab.commands.reproduce.topics import Result, Trial, claim, greatest
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.truncated import Truncated
from bptt_lab.nn.rnn import VanillaRNN

SOURCE = "Aicher, Foti & Fox 2019"
SEEDS = range(10, 13)
T, I, H, BETA = 60, 3, 12, 0.9
LEAKS = (1.0, 0.3)
LAGS = (1, 2, 5, 10, 20, 40)


def _net(seed: int, leak: float) -> VanillaRNN:
    linear: Any = {"gain": BETA, "nonlinearity": "identity", "bias": False}
    return net(Full(), seed, (I, H, 1), leak=leak, **linear)


def _aligned(seed: int, leak: float) -> tuple[VanillaRNN, Tensor, Tensor]:
    """A net with Q = 1, an input that stays the same, and a loss at the last step."""
    rnn, q = _net(seed, leak), torch.zeros(T, 1, H).double()
    rnn.all_weights[0][1].data = BETA * torch.eye(H, dtype=torch.float64)
    q[-1] = normal(seed, 1, H)
    return rnn, normal(50 + seed, 1, 1, I).expand(T, 1, I), q


def _bias(rnn: VanillaRNN, input: Tensor, q: Tensor, parameters: int | None = None) -> list[float]:
    """|g - g_K| of every lag K, of the first parameters."""
    full, found = exact(rnn, input, q), []
    for K in LAGS:
        rnn.gradient = Truncated(k=K, mode="lag")
        found.append(float((gradient(rnn, input, q) - full)[:parameters].norm()))
    return found


@claim(
    "published", SOURCE, "bias <= M sum_{d>=K} phi_d; reached where all is aligned", tested_on=SEEDS
)
def bias_bound(trial: Trial) -> Result:
    """Eq. (1): broken nowhere, and reached to 1e-9 of it."""
    broken, furthest = 0, 0.0
    for seed in trial.seeds:
        for leak in LEAKS:
            rho = 1 - leak + leak * BETA
            sums = [(rho**K - rho**T) / (1 - rho) for K in LAGS]
            rnn, input, q = _net(seed, leak), normal(seed, T, 1, I), normal(100 + seed, T, 1, H)
            with torch.no_grad():
                h_tm1 = torch.cat((torch.zeros(1, 1, H).double(), rnn(input)[0][:-1]))
            M = leak * float(torch.cat((input, h_tm1), -1).norm(dim=-1).max())
            limit = M * float(q.norm(dim=-1).sum())
            bias = _bias(rnn, input, q)
            broken += sum(not each <= limit * most for each, most in zip(bias, sums, strict=True))
            rnn, input, q = _aligned(seed, leak)
            limit = leak * float(input[0].norm() * q.norm())
            bias = _bias(rnn, input, q, I * H)
            for each, most in zip(bias, sums, strict=True):
                furthest = greatest(furthest, abs(each / (limit * most) - 1))
    return Result(broken == 0 and furthest < 1e-9, f"broken {broken} times, off by {furthest:.0e}")


CLAIMS = [bias_bound]
