"""Bias and cost of every strategy on the same batch and parameters.

What it will cost is estimated before it begins: a strategy's pass is run on one sequence, then on
two, four, ..., until a pass takes a moment; the rest of the batch costs in proportion. What no
longer grows in proportion, as the caches fill, is why the numbers are rough.
"""

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from bptt_lab.commands import command, peak_memory, timing
from bptt_lab.commands.compare.batch import TrainingBatch, prepare
from bptt_lab.commands.compare.request import Option, Request, truncations
from bptt_lab.config.schema import Component, Experiment
from bptt_lab.core.messages import printable
from bptt_lab.diagnostics import alignment
from bptt_lab.diagnostics.alignments import Aligned
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.gradients.full import Full
from bptt_lab.training.build import make

MOMENT = 0.03  # processor seconds of a piece
ROWS_OF_A_MODE = 3  # the table's; the figure has all of them
SHARE = 6  # of timing.BUDGET a row's rounds take this part
ALIGNED = 2  # passes that tell whether a strategy is random
MEASURED = 2  # passes that tell its memory
LARGEST_MASK = 2**26  # numbers


class Candidate(NamedTuple):
    """A strategy that works on this batch, and the processor seconds that its row will take."""

    option: Option
    strategy: GradientStrategy
    shown: bool  # in the table; the others are only in the figure
    seconds: float

    @property
    def label(self) -> str:
        """The strategy, and the k of a truncation."""
        return f"{self.option.label} k={self.option.k}" if self.option.mode else self.option.label


class Plan(NamedTuple):
    """What will be measured, and why the rest will not."""

    candidates: Sequence[Candidate]
    left_out: Mapping[str, str]


def plan(
    request: Request, batch: TrainingBatch, draws: int, *, curve: bool, limit: float, fixed: float
) -> Plan:
    """Choose what to measure.

    Args:
        request: the strategies.
        batch: what they are compared on.
        draws: gradients of a random strategy.
        curve: whether truncation is measured at every k, for the figure.
        limit: processor seconds of a row; dearer ones are left out.
        fixed: processor seconds that each row of the table takes besides its passes.
    """
    L, N, _, _ = batch.shape
    ks = grid(L)
    shown = {*ks[-ROWS_OF_A_MODE:], request.truncated and request.truncated.k}
    found, left_out = [], dict(request.refused)
    for option in (*request.options, *truncations(request, ks)):
        in_table = not option.mode or option.k in shown
        if not (in_table or curve):
            continue
        try:
            strategy = make("gradient", option.component)
            run = functools.partial(batch.gradient, strategy)
            longest = option.component.settings.get("k_max", option.k) or 1  # that credit travels
            seconds = of_a_pass(run, (L, N), 2 * longest)
        except (ValueError, RuntimeError, NotImplementedError) as error:
            left_out[option.label] = printable(str(error))
            continue
        passes = ALIGNED + MEASURED * in_table + draws * (strategy.claim == "unbiased")
        rounds = max((timing.FEWEST + 1) * seconds, timing.BUDGET / SHARE)
        row = Candidate(option, strategy, in_table, passes * seconds + rounds + fixed * in_table)
        if row.seconds > limit:
            name = option.name
            way_out = f"--strategies {name} runs it, --strategies all runs all"
            left_out[row.label] = f"skipped, {about(row.seconds)}; {way_out}"
        else:
            found.append(row)
    return Plan(found, left_out)


def grid(num_steps: int) -> list[int]:
    """Powers of two below the number of steps; with as many, nothing is truncated."""
    return [2**i for i in range((num_steps - 1).bit_length())] or [1]


def of_a_pass(run: Callable[[int, int], object], whole: tuple[int, int], least: int) -> float:
    """Estimate the processor seconds of `run(L, N)` from those of a piece.

    Args:
        run: works on that many steps of that many sequences.
        whole: L and N.
        least: steps of the shortest piece that tells anything.
    """
    L, N = whole
    steps, sequences = min(least, L), 1
    run(steps, sequences)  # warms up
    while True:
        began = time.process_time()
        run(steps, sequences)
        took = time.process_time() - began
        if took >= MOMENT or (steps, sequences) == whole:
            return took * (L / steps) * (N / sequences)
        if sequences < N:
            sequences = min(2 * sequences, N)
        else:
            steps = min(2 * steps, L)


def about(seconds: float) -> str:
    """Write processor seconds with the two digits that an estimate is good for."""
    return f"about {float(f'{seconds:.2g}'):,.0f} processor seconds"


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
    alike: Alike  # truncations that are one; empty where the masks are too large to tell

    @property
    def unsteady(self) -> float:
        """Median over minimum of full BPTT's times, the median of the measurements'."""
        found = [row.unsteady for row in (*self.strategies, *self.curve)]
        return statistics.median([1.0, *found])


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
        command.progress(each.label)
        try:
            row = _measured(request, batch, each, draws)
        except (ValueError, RuntimeError, NotImplementedError) as error:  # too large as a whole
            left_out[each.option.label] = printable(str(error))
            continue
        command.progress("")
        found.append(row)
        if each.shown:
            shown.append(row)
            tell(row)
    same, ks = Alike(), grid(batch.shape[0])
    if request.truncated is not None and batch.shape[0] ** 2 <= LARGEST_MASK:
        options = [option for option in truncations(request, ks) if option.k in ks]
        same = alike(options, batch.losses())
    curve = [row for row in found if row.option.mode]
    return Comparison(batch.shape, shown, curve, left_out, same)


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
    except peak_memory.Unmeasured:
        return None


def one_pass(
    experiment: Experiment, checkpoint: Path | None, component: Component
) -> Callable[[], object]:
    """Return a strategy's forward and backward pass as a call, made from its configuration."""
    batch = prepare(experiment, checkpoint)
    return functools.partial(batch.gradient, make("gradient", component))
