"""Truncation as Williams & Peng define it: how many losses of BPTT(h; h') keep each lag.

Every h' steps, their algorithm sweeps h steps back: it is the window with k = h, k1 = h'. What a
loss keeps is read from gradients. With W_hh = 1 and phi the identity credit does not fade: of L
layers with a leak, the loss at t reaches the input at s by C(t - s + L - 1, L - 1) paths, and each
has the weight leak^L.
"""

import math

import torch
from torch import Tensor

from bptt_lab.commands.reproduce.nets import net
from bptt_lab.commands.reproduce.topics import Result, Trial, claim, greatest
from bptt_lab.gradients.truncated import Truncated

PAIRS = [(h, every) for h in (1, 2, 3, 5, 8, 12) for every in (1, 2, 3, 5, 8, 12) if every <= h]
NETS = [(1, 1.0), (1, 0.5), (2, 1.0), (2, 0.5)]  # layers and leak
PERIODS = 6


def kept(gradient: Truncated, num_layers: int, leak: float, T: int) -> Tensor:
    """How much of the path from each loss t to each input s a gradient keeps, (T, T)."""
    rnn = net(gradient, 0, (1, 1, num_layers), nonlinearity="identity", bias=False, leak=leak)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.fill_(1)
    input = torch.ones(T, T, 1, dtype=torch.float64, requires_grad=True)
    output, _ = rnn(input)
    output.diagonal().sum().backward()  # sequence t: loss at t
    assert input.grad is not None and rnn.all_weights[0][0].grad is not None
    found = input.grad[..., 0].t()
    # The weights' gradient is the sum: all inputs are 1.
    found += (rnn.all_weights[0][0].grad - found.sum()).abs()
    paths = [math.comb(lag + num_layers - 1, num_layers - 1) for lag in range(T)]
    lag = (torch.arange(T)[:, None] - torch.arange(T)).clamp(min=0)
    return found / (torch.tensor(paths, dtype=torch.float64)[lag] * leak**num_layers)


@claim("derived", "Williams & Peng 1990", "share of losses min(1, (h-l)/h')", tested_on=())
def lag_weights(trial: Trial) -> Result:
    """The share of losses that keep their term of lag l, over whole periods in the interior."""
    worst = 0.0
    for h, every in PAIRS:
        T = (-(-h // every) + 1 + PERIODS) * every
        strategy = Truncated(k=h, mode="window", k1=every)
        for num_layers, leak in NETS:
            terms = kept(strategy, num_layers, leak, T + every)
            worst = greatest(worst, float((terms - strategy.mask(T + every).double()).abs().max()))
            for lag in range(h + 2):
                losses = terms.diagonal(-lag)[T - PERIODS * every - lag : T - lag]  # whole periods
                expected = max(0.0, min(1.0, (h - lag) / every))
                worst = greatest(worst, abs(float(losses.mean()) - expected))
    return Result(worst < 1e-9, f"{len(PAIRS)} pairs, largest difference {worst:.1e}")


CLAIMS = [lag_weights]
