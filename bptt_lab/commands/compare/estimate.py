"""What a comparison will cost, in processor seconds, before it begins.

A strategy's pass is run on one sequence, then on two, four, ..., until a pass takes a moment; the
rest of the batch costs in proportion. What no longer grows in proportion, as the caches fill, is
why the numbers are rough.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bptt_lab.commands import timing
from bptt_lab.commands.compare.batch import TrainingBatch
from bptt_lab.commands.compare.request import Option, Request, truncations
from bptt_lab.core.messages import printable
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.training.build import make

MOMENT = 0.03  # processor seconds of a piece
ROWS_OF_A_MODE = 3  # the table's; the figure has all of them
SHARE = 6  # of timing.BUDGET a row's rounds take this part
ALIGNED = 2  # passes that tell whether a strategy is random
MEASURED = 2  # passes that tell its memory


class Candidate(NamedTuple):
    """A strategy that works on this batch, and the processor seconds that its row will take."""

    option: Option
    strategy: GradientStrategy
    shown: bool  # in the table; the others are only in the figure
    seconds: float


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
        label = f"{option.label} k={option.k}" if option.mode else option.label
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
            left_out[label] = f"skipped, {about(row.seconds)}; {way_out}"
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
