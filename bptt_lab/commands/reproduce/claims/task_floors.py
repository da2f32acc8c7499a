"""Task floors: the loss of a predictor that knows nothing of the past, or a given part of it."""

import math

import torch

from bptt_lab.commands.reproduce.topics import Result, Trial, claim
from bptt_lab.tasks.adding import adding
from bptt_lab.tasks.copy_memory import BLANK, GO, NUM_SYMBOLS, copy_memory
from bptt_lab.tasks.echo import LONG_LAG, SHORT_LAG, echo
from bptt_lab.tasks.temporal_order import temporal_order

ARJOVSKY = "Arjovsky et al. 2016"
SAMPLES = 100_000
HOCHREITER = "Hochreiter & Schmidhuber 1997"
SEEDS = range(8)  # that tolerances were set on


def _draws(trial: Trial) -> torch.Generator:
    return torch.Generator().manual_seed(trial.seeds[0])


@claim("published", ARJOVSKY, "1/6 = .1667 to .002", name="adding", set_on=SEEDS)
def adding_floor(trial: Trial) -> Result:
    """Always naming the mean, 1, of the sum of one marked number in either half."""
    input, sums = adding(20, SAMPLES, _draws(trial))
    values, markers = input.unbind(-1)
    found = float((sums - 1).square().mean())
    good = all(bool((half.sum(0) == 1).all()) for half in (markers[:10], markers[10:]))
    good &= float(((values * markers).sum(0) - sums).abs().max()) < 1e-6
    return Result(good and abs(found - 1 / 6) < 0.002, f"{found:.4f}{_as_told(good)}")


@claim("published", ARJOVSKY, "10 ln 8/(T+20) = .4159, T = 30", name="copy", set_on=SEEDS)
def copy_floor(trial: Trial) -> Result:
    """Blanks until the go sign, then each symbol with probability 1/8."""
    delay = 30
    input, target = copy_memory(delay, 1000, _draws(trial))
    nats = torch.where(target == BLANK, 0.0, math.log(NUM_SYMBOLS)).mean()
    expected = 10 * math.log(8) / (delay + 20)
    balanced = _entropy(target[-10:])  # of the symbols drawn
    told = torch.equal(input[:10], target[-10:]) and bool((input[delay + 9] == GO).all())
    good = told and abs(float(nats) - expected) < 1e-6 and math.log(8) - balanced < 0.002
    return Result(good, f"{float(nats):.4f}, symbols {balanced:.4f} nats each{_as_told(told)}")


@claim("derived", HOCHREITER, "ln 4 = 1.38629 to 2e-4", name="temporal_order", set_on=SEEDS)
def order_floor(trial: Trial) -> Result:
    """Class frequencies."""
    symbols, classes = temporal_order(40, SAMPLES, _draws(trial))
    relevant = symbols.t()[symbols.t() < 2]  # X is 0 and Y is 1, in their order
    good = len(relevant) == 2 * SAMPLES
    good = good and torch.equal(2 * relevant[::2] + relevant[1::2], classes)
    found = _entropy(classes)
    near = abs(found - math.log(4)) < 2e-4
    return Result(good and near, f"{found:.5f}{_as_told(good)}")


@claim("published", "Pitis 2016", ".6616/.5192/.4545 to .003", name="echo", set_on=SEEDS)
def echo_floors(trial: Trial) -> Result:
    """Frequencies of the answer: alone, by the bit 3 steps back, by those 3 and 8 steps back."""
    x, y = echo(2000, SAMPLES // 500, _draws(trial))
    y, short, long = y[LONG_LAG:], x[LONG_LAG - SHORT_LAG : -SHORT_LAG], x[:-LONG_LAG]
    # What is left of y's entropy where a case is known is that of both, less that of the case.
    found = [_entropy(2 * case + y) - _entropy(case) for case in (0 * y, short, 2 * short + long)]
    expected = (0.6616, 0.5192, 0.4545)
    worst = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    return Result(worst < 0.003, "/".join(f"{nats:.4f}" for nats in found))


def _entropy(values: torch.Tensor) -> float:
    """Entropy of the frequencies of whole numbers, in nats."""
    counts = torch.bincount(values.flatten().long()).double()
    return float(torch.special.entr(counts / counts.sum()).sum())


def _as_told(good: bool) -> str:
    return "" if good else ", but input and target do not go together"


CLAIMS = [adding_floor, copy_floor, order_floor, echo_floors]
