"""Temporal order: in which order did two rare symbols come, long ago?

Both symbols are easy to notice among the distractors; only their order over a long gap decides.
"""

from typing import Annotated, Any

import torch
from torch import Tensor

from bptt_lab.core.random import generator
from bptt_lab.core.validation import Ge, checked
from bptt_lab.tasks.base import Sequences, Split, at_last_step
from bptt_lab.tasks.kinds import ClassificationByLoss, Generated

NUM_RELEVANT = 2  # X and Y, symbols 0 and 1
NUM_DISTRACTORS = 4  # symbols 2 to 5
NUM_CLASSES = NUM_RELEVANT**2  # XX, XY, YX, YY


def temporal_order(
    num_steps: int, num_sequences: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw M sequences of distractors, with X or Y at t1 in [T/10, T/5] and t2 in [T/2, 3T/5].

    Returns:
        Symbols (T, M), and classes (M): twice the first relevant symbol plus the second.
    """
    shape, all_steps = (1, num_sequences), (num_steps, num_sequences)
    distractors = NUM_RELEVANT, NUM_RELEVANT + NUM_DISTRACTORS
    symbols = torch.randint(*distractors, all_steps, generator=generator)
    t1 = torch.randint(num_steps // 10, num_steps // 5 + 1, shape, generator=generator)
    t2 = torch.randint(num_steps // 2, 3 * num_steps // 5 + 1, shape, generator=generator)
    relevant = torch.randint(NUM_RELEVANT, (2, num_sequences), generator=generator)
    symbols.scatter_(0, torch.cat((t1, t2)), relevant)
    return symbols, NUM_RELEVANT * relevant[0] + relevant[1]


class TemporalOrder(Generated, ClassificationByLoss):
    """Name which of XX, XY, YX, YY came, after the last step; new sequences every epoch.

    Reference: Hochreiter and Schmidhuber (1997), "Long short-term memory", experiment 6a; here
    with a fixed length and without the signs that begin and end a sequence.

    Args:
        num_steps: steps of a sequence.
        train_size: sequences of a training epoch.
        settings: as Generated and ClassificationByLoss have them.
    """

    input_size = NUM_RELEVANT + NUM_DISTRACTORS
    output_size = NUM_CLASSES

    @checked
    def __init__(
        self,
        *,
        num_steps: Annotated[int, Ge(10)] = 40,
        train_size: Annotated[int, Ge(1)] = 2048,
        **settings: Any,
    ) -> None:
        super().__init__(train_size=train_size, **settings)
        self.num_steps = num_steps

    def sequences(self, split: Split, epoch: int) -> Sequences:
        """Draw the sequences of a split and epoch."""
        draws = generator(self.seed, f"temporal_order/{split}", epoch)
        symbols, classes = temporal_order(self.num_steps, self.sizes[split], draws)
        return at_last_step(symbols, classes)
