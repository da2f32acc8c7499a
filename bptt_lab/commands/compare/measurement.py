"""Bias and cost of every strategy on the same batch and parameters."""

import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from bptt_lab.commands import command, peak_memory, timing
from bptt_lab.commands.compare.batch import TrainingBatch, prepare
from bptt_lab.commands.compare.estimate import ALIGNED, SHARE, Candidate, Plan, grid
from bptt_lab.commands.compare.request import Option, Request, truncations
from bptt_lab.config.schema import Component, Experiment
from bptt_lab.core.messages import printable
from bptt_lab.diagnostics import alignment
from bptt_lab.diagnostics.alignments import Aligned
from bptt_lab.gradients.full import Full
from bptt_lab.training.build import make

LARGEST_MASK = 2**26  # numbers


@dataclass(frozen=True)
class Measurement:
    """One strategy's gradient and cost."""

    option: Option
    claims: str  # exact | unbiased | biased
    aligned: Aligned
    draws: bool  # whether its gradient is random
    seconds: float  # of a forward and backward pass, median
    times_full: float  # the same over full BPTT's, median of paired rounds
    quartiles: tuple[float, float]  # of the rounds' ratios
    unsteady: float  # median over minimum of full BPTT's times; near 1 on an idle machine
    peak: int | None  # bytes; None where it was not measured


class Alike(NamedTuple):
    """All modes, in groups that agree at every k, and what is alike in words."""

    modes: Sequence[Sequence[str]] = ()
    sentences: Sequence[str] = ()


@dataclass(frozen=True)
class Comparison:
    """All strategies on one batch."""

    shape: tuple[int, int, int, int]  # L, N, I, H
    strategies: Sequence[Measurement]  # of the table
    curve: Sequence[Measurement]  # every mode of truncation at every k
    left_out: Mapping[str, str]  # strategies that cannot work here or cost too much, and why
    unsteady: float  # the median of the measurements'
    alike: Alike  # truncations that are one; empty where the masks are too large to tell


def measure(
    request: Request,
    batch: TrainingBatch,
    plan: Plan,
    draws: int,
    tell: Callable[[Measurement], None],
) -> Comparison:
    """Measure what was planned; `tell` is given each row of the table as soon as it is known."""
    found: list[Measurement] = []
    shown: list[Measurement] = []
    left_out = dict(plan.left_out)
    for each in plan.candidates:
        command.progress(
            " k=".join(str(part) for part in (each.option.label, each.option.k) if part)
        )
        try:
            row = _measured(request, batch, each, draws)
        except (ValueError, RuntimeError, NotImplementedError) as error:  # too large as a whole
            left_out[each.option.label] = printable(str(error))
            continue
        command.progress("")
        if each.shown:
            shown.append(row)
            tell(row)
        found.append(row)
    same, ks = Alike(), grid(batch.shape[0])
    if request.truncated is not None and batch.shape[0] ** 2 <= LARGEST_MASK:
        options = [option for option in truncations(request, ks) if option.k in ks]
        same = alike(options, batch.losses())
    curve = [row for row in found if row.option.mode]
    unsteady = statistics.median([1.0, *(row.unsteady for row in found)])
    return Comparison(batch.shape, shown, curve, left_out, unsteady, same)


def _measured(request: Request, batch: TrainingBatch, each: Candidate, draws: int) -> Measurement:
    net, named = (batch.module.rnn, batch.sequences.input, batch.loss), {"": each.strategy}
    # More than two draws only pay for the random ones: whose two differ, or who need not be exact
    # in each to be so in the mean; of those, two may be alike by chance.
    aligned = alignment(*net, named, batch.hx, draws=ALIGNED)[""]
    random = each.strategy.claim == "unbiased" or aligned.variance.value > 0
    if random and draws > ALIGNED:
        aligned = alignment(*net, named, batch.hx, draws=draws)[""]
    calls = {"full": functools.partial(batch.gradient, Full())}
    mine = "full" if type(each.strategy) is Full else "mine"
    calls[mine] = functools.partial(batch.gradient, each.strategy)
    calls["full"]()
    seconds = timing.alternate(calls, None, budget=timing.BUDGET / SHARE)
    ratios = [a / b for a, b in zip(seconds[mine], seconds["full"], strict=True)]
    low, times_full, high = np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()
    return Measurement(
        each.option,
        each.strategy.claim,
        aligned,
        random,
        statistics.median(seconds[mine]),
        times_full,
        (low, high),
        statistics.median(seconds["full"]) / min(seconds["full"]),
        _peak(request, each.option) if each.shown else None,
    )


def alike(options: Sequence[Option], losses: Tensor) -> Alike:
    """Compare the masks of truncations, all modes at the same k, where there are losses (L,).

    A mask counts at the steps that have a loss. Where only the last has one, lag, window and tail
    are alike at every k, and chunks of several lengths begin at the same step.
    """
    masks: dict[str, dict[int, bytes]] = {}
    for option in options:
        mask = make("gradient", option.component).mask(len(losses))[losses]
        assert option.k is not None
        masks.setdefault(option.mode, {})[option.k] = mask.numpy().tobytes()
    modes: dict[tuple[bytes, ...], list[str]] = {}
    said = []
    for mode, by_k in masks.items():
        modes.setdefault(tuple(by_k.values()), []).append(mode)
        groups: dict[bytes, list[str]] = {}
        for k, mask in by_k.items():
            groups.setdefault(mask, []).append(str(k))
        for mask, ks in groups.items():
            if len(ks) > 1:
                reached = sum(mask) / max(int(losses.sum()), 1)
                said.append(f"{mode} at k = {', '.join(ks)} ({reached:g} steps reached)")
    said += [f"{', '.join(group)} at each k" for group in modes.values() if len(group) > 1]
    steps = (losses.nonzero().flatten() + 1).tolist()
    ends = " to ".join(map(str, dict.fromkeys((*steps[:1], *steps[-1:]))))
    where = f"{len(steps)} of {len(losses)} steps have a loss ({ends})"
    sentences = [f"one and the same gradient: truncated {each}; {where}" for each in said]
    return Alike([*modes.values()], sentences)


def _peak(request: Request, option: Option) -> int | None:
    try:
        return peak_memory.peak(one_pass, request.experiment, request.checkpoint, option.component)
    except peak_memory.NotMeasuredError:
        return None


def one_pass(
    experiment: Experiment, checkpoint: Path | None, component: Component
) -> Callable[[], object]:
    """Return a strategy's forward and backward pass as a call, made from its configuration."""
    batch = prepare(experiment, checkpoint)
    return functools.partial(batch.gradient, make("gradient", component))
