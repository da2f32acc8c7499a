"""Truncation as Williams & Peng count it: masks, lag weights and backward steps of BPTT(h; h').

Every h' steps, their algorithm sweeps h steps back: it is the window with k = h, k1 = h'.
"""

from __future__ import annotations

from typing import Literal

import torch

from bptt_lab.commands.reproduce.claim import Claim, Result, Trial
from bptt_lab.gradients import oracle
from bptt_lab.gradients.truncated import Truncated
from bptt_lab.nn.rnn import VanillaRNN

Mode = Literal["chunk", "lag", "window", "tail"]
SOURCE = "Williams & Peng 1990"
PAIRS = [(h, every) for h in (1, 2, 3, 5, 8, 12) for every in (1, 2, 3, 5, 8, 12) if every <= h]


def masks(trial: Trial) -> Result:
    """Every mode's gradient against the oracle under its mask, k from 1 to past the end."""
    T, N, I, H = 10, 2, 2, 4
    worst, count = 0.0, 0
    modes: list[Mode] = ["chunk", "lag", "window", "tail"]
    for seed in trial.seeds:
        draws = torch.Generator().manual_seed(seed)
        rnn = VanillaRNN(I, H, dtype=torch.float64)
        with torch.no_grad():
            for parameter in rnn.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draws).double() / 2)
        input = torch.randn(T, N, I, generator=draws).double()
        terms = oracle.terms(rnn, input, lambda h: h.square().sum())
        for mode in modes:
            for k in range(1, T + 2):
                rnn.gradient = Truncated(k=k, mode=mode)
                truth = oracle.masked_gradient(terms, rnn.gradient.mask(T))
                names, parameters = zip(*rnn.named_parameters(), strict=True)
                found = torch.autograd.grad(rnn(input)[0].square().sum(), parameters)
                errors = [
                    (a - truth[name]).abs().max() / truth[name].abs().max().clamp(min=1e-300)
                    for name, a in zip(names, found, strict=True)
                    if truth[name].any() or a.any()
                ]
                worst, count = max(worst, float(max(errors))), count + 1
    return Result(worst < 1e-10, f"{count} masks, largest error {worst:.1e}")


def lag_weights(trial: Trial) -> Result:
    """The share of losses that keep their term of lag l, over whole periods in the interior."""
    worst = 0.0
    for h, every in PAIRS:
        T = h + 20 * every
        mask = Truncated(k=h, mode="window", k1=every).mask(T + every)
        interior = slice(-(-h // every) * every, T // every * every)  # whole periods
        for lag in range(h + 2):
            kept = mask.diagonal(-lag).float()  # entry j: loss time lag + 1 + j
            losses = kept[interior.start - lag : interior.stop - lag]
            expected = max(0.0, min(1.0, (h - lag) / every))
            worst = max(worst, abs(float(losses.mean()) - expected))
    return Result(worst < 1e-6, f"{len(PAIRS)} pairs, largest difference {worst:.1e}")


def backward_steps(trial: Trial) -> Result:
    """Steps that the sweeps take: one sweep an h' losses, over every step that they reach."""
    wrong = []
    for h, every in PAIRS:
        T = 20 * every
        mask = Truncated(k=h, mode="window", k1=every).mask(T)
        sweeps = mask.view(-1, every, T).any(1)  # which steps each sweep visits
        expected = [min(h, end) for end in range(every, T + 1, every)]
        if sweeps.sum(1).tolist() != expected:
            wrong.append(f"({h};{every})")
    said = f"wrong for {', '.join(wrong)}" if wrong else f"as expected for {len(PAIRS)} pairs"
    return Result(not wrong, said)


CLAIMS = [
    Claim("masks", SOURCE, "oracle under the mask, to 1e-10", masks),
    Claim("lag_weights", SOURCE, "share of losses min(1, (h-l)/h')", lag_weights, tested_on=()),
    Claim("backward_steps", SOURCE, "h steps every h' losses", backward_steps, tested_on=()),
]
