"""Exact strategies: full, checkpointed, RTRL and its block form equal the slow oracle."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bptt_lab.commands.reproduce.claim import Claim, Result, Trial
from bptt_lab.gradients import oracle
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.nn.rnn import VanillaRNN

L, N, I, H = 11, 2, 3, 5
LIMIT = 1e-10


def _full() -> GradientStrategy:
    from bptt_lab.gradients.full import Full

    return Full()


def _checkpointed() -> GradientStrategy:
    from bptt_lab.gradients.checkpointed import Checkpointed

    return Checkpointed(every=3)


def _rtrl() -> GradientStrategy:
    from bptt_lab.gradients.rtrl import RTRL

    return RTRL()


def _rtrl_block() -> GradientStrategy:
    from bptt_lab.gradients.rtrl import RTRL

    return RTRL(block=4)


def _check(make: Callable[[], GradientStrategy], chunks: tuple[int, ...]) -> Callable[..., Result]:
    def check(trial: Trial) -> Result:
        worst = 0.0
        for seed in trial.seeds:
            draws = torch.Generator().manual_seed(seed)
            rnn = VanillaRNN(I, H, dtype=torch.float64, gradient=make())
            with torch.no_grad():
                for parameter in rnn.parameters():
                    parameter.copy_(torch.randn(parameter.shape, generator=draws).double() / 2)
            input = torch.randn(L, N, I, generator=draws).double()
            target = torch.randn(L, N, H, generator=draws).double()
            terms = oracle.terms(rnn, input, _distance(target))
            truth = oracle.masked_gradient(terms, torch.ones(L, L).tril())
            for length in chunks:
                found = _gradient(rnn, input, target, length)
                worst = max(worst, *(_error(found[name], truth[name]) for name in found))
        return Result(worst < LIMIT, f"largest relative error {worst:.1e}")

    return check


def _distance(target: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda output: (output - target).square().sum()


def _gradient(rnn: VanillaRNN, input: Tensor, target: Tensor, length: int) -> dict[str, Tensor]:
    """The gradient summed over chunks of a length, the carry handed on."""
    rnn.zero_grad()
    carry = rnn.gradient.init_carry(rnn, N)
    for begin in range(0, L, length):
        part = slice(begin, begin + length)
        output, carry = rnn.gradient.unroll(rnn, input[part], carry)
        (output - target[part]).square().sum().backward()  # type: ignore[no-untyped-call]
    return {name: p.grad for name, p in rnn.named_parameters() if p.grad is not None}


def _error(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).abs().max() / truth.abs().max())


WHOLE, CHUNKS = (L,), (L, 1, 3, 4, 5)
CLAIMS = [
    Claim("full", "Werbos 1990", "oracle to 1e-10", _check(_full, WHOLE)),
    Claim("checkpointed", "Chen et al. 2016", "oracle to 1e-10", _check(_checkpointed, WHOLE)),
    Claim(
        "rtrl",
        "Williams & Zipser 1989",
        "oracle to 1e-10, over chunks of 1, 3, 4, 5 too",
        _check(_rtrl, CHUNKS),
    ),
    Claim(
        "rtrl_block",
        "Schmidhuber 1992",
        "oracle to 1e-10, over chunks of 1, 3, 4, 5 too",
        _check(_rtrl_block, CHUNKS),
    ),
]
