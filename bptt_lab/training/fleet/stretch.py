"""What replicas ask for, and steps in a row that are taken for all of them.

Between such steps no replica is at work: each would do nothing but what is done here.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from lightning.pytorch import Trainer
from torch import Tensor

from bptt_lab.tasks.base import SequenceBatch
from bptt_lab.training.callbacks.stretch import Stretch
from bptt_lab.training.fleet.fused import Fused
from bptt_lab.training.fleet.stack import Stack
from bptt_lab.training.module import SequenceModule


class Step(NamedTuple):
    """What a replica waits for: gradients of batches or their evaluation, or an optimizer step."""

    kind: Hashable  # equal for what may be computed together
    module: SequenceModule
    trainer: Trainer
    batches: Sequence[SequenceBatch] = ()  # of one shape; none for an optimizer step
    learns: bool = True  # whether their gradients are wanted
    draw: int = 0  # number of the first batch
    whole: bool = False  # whether the optimizer may step after each; else one gradient is wanted
    finite: bool = False  # whether it may do so only where the gradient is finite


class Taken(NamedTuple):
    """What was done of it."""

    steps: int  # whole ones, or batches that were evaluated
    stretch: Stretch
    ready: bool = False  # whether the gradient of the batch after these is there too


def evaluate(
    fused: Fused, wants: Sequence[Step], goes_on: Callable[[], bool]
) -> tuple[list[Taken], Exception | None]:
    """Evaluate batches, as many as all replicas have; return what was done, and what ended it."""
    done, error = 0, None
    try:
        fused.begin([want.batches[0] for want in wants])
        while done < min(len(want.batches) for want in wants) and (not done or goes_on()):
            fused.evaluate([want.batches[done] for want in wants])
            done += 1
    except Exception as problem:
        error = problem
    if done:
        fused.end()
    return [Taken(done, Stretch([], [], [])) for _ in wants], error


def train(
    stack: Stack, fused: Fused, wants: Sequence[Step], goes_on: Callable[[], bool]
) -> tuple[list[Taken], Exception | None]:
    """Take steps, as many as all replicas want; return what was done, and what ended it."""
    rows, stretches = range(len(wants)), [Stretch([], [], []) for _ in wants]
    whole = all(want.whole for want in wants) and stack.steps(rows)
    count = min(len(want.batches) for want in wants) if whole else 0
    firsts = [want.trainer.global_step + 1 for want in wants]
    done, ready, error = 0, False, None
    for index in range(max(count, 1)):
        if index and not goes_on():
            break
        batches = [want.batches[index] for want in wants]
        try:
            if not index:
                fused.begin(batches)
            sums, counts = fused.gradients(batches, [want.draw + index for want in wants])
        except Exception as problem:
            error = problem
            break
        counted = [row for row in rows if counts[row] > 0]
        norms = stack.norms() if count else None
        if norms is None or _is_told(norms, counted, wants):
            ready = True
            break
        _step(stack, counted, wants, [first + index for first in firsts])
        for row, (stretch, own) in enumerate(zip(stretches, norms.unbind(), strict=True)):
            stretch.sums.append(sums[row])
            stretch.counts.append(counts[row])
            stretch.norms.append(own if counts[row] > 0 else None)
        done += 1
    if done or ready:
        fused.end()
    for row, (want, stretch) in enumerate(zip(wants, stretches, strict=True)):
        module = want.module
        if done:
            module.latest_sum, module.latest_count = stretch.sums[-1], stretch.counts[-1]
            module.share, module.counted = float(module.latest_count), 0.0
        if ready:
            module.latest_sum = sums[row]
    return [Taken(done, stretch, ready) for stretch in stretches], error


def _is_told(norms_RP: Tensor, counted: Sequence[int], wants: Sequence[Step]) -> bool:
    """Whether a replica is to hear of a gradient that is not finite before it steps."""
    finite: list[bool] = norms_RP.sum(1).isfinite().tolist()
    return any(wants[row].finite and not finite[row] for row in counted)


def _step(
    stack: Stack, counted: Sequence[int], wants: Sequence[Step], numbers: Sequence[int]
) -> None:
    """Clip, and let the optimizers step, of those replicas for which something counted."""
    for want, number in zip(wants, numbers, strict=True):
        want.module.rates.set(want.trainer.optimizers[0], number)
    for row in counted:
        trainer = wants[row].trainer
        if trainer.gradient_clip_val is not None:
            wants[row].module.configure_gradient_clipping(
                trainer.optimizers[0], trainer.gradient_clip_val, trainer.gradient_clip_algorithm
            )
    if counted:
        stack.step(counted, [numbers[row] for row in counted])
