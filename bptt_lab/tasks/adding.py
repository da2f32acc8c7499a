"""Adding two numbers far apart: a long-lag task with continuous targets.

Every step brings a number; a second input marks two of them, one in each half of the sequence.
The network names their sum after the last step.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor

from bptt_lab.core.random import generator
from bptt_lab.core.validation import Ge, checked
from bptt_lab.tasks.base import Sequences, Split, at_last_step
from bptt_lab.tasks.kinds import Generated

TOLERANCE = 0.04  # an error below it counts as right


def adding(num_steps: int, num_sequences: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw M sequences of T steps.

    Returns:
        Numbers from [0, 1) with their markers, (T, M, 2), and the sums, (M).
    """
    values = torch.rand(num_steps, num_sequences, generator=generator)
    half = num_steps // 2
    first = torch.randint(half, (1, num_sequences), generator=generator)
    second = torch.randint(half, num_steps, (1, num_sequences), generator=generator)
    marked = torch.cat((first, second))  # (2, M)
    markers = torch.zeros_like(values).scatter_(0, marked, 1.0)
    return torch.stack((values, markers), -1), values.gather(0, marked).sum(0)


class Adding(Generated):
    """Name the sum of the two marked numbers after the last step; new sequences every epoch.

    Reference: Hochreiter and Schmidhuber (1997), "Long short-term memory", experiment 4; here
    with numbers from [0, 1] and a fixed length.

    Args:
        num_steps: steps of a sequence.
        train_size: sequences of a training epoch.
        settings: as Generated and SequenceDataModule have them.
    """

    input_size = 2
    output_size = 1
    loss = "mse"

    @checked
    def __init__(
        self,
        *,
        num_steps: Annotated[int, Ge(2)] = 20,
        train_size: Annotated[int, Ge(1)] = 4096,
        **settings: Any,
    ) -> None:
        super().__init__(train_size=train_size, **settings)
        self.num_steps = num_steps

    def sequences(self, split: Split, epoch: int) -> Sequences:
        """Draw the sequences of a split and epoch."""
        draws = generator(self.seed, f"adding/{split}", epoch)
        input, sums = adding(self.num_steps, self.sizes[split], draws)
        return at_last_step(input, sums[:, None])

    def score(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Whether the sum is right to within 0.04."""
        return {"accuracy": ((prediction - target).abs() < TOLERANCE).squeeze(-1).float()}

    def references(self) -> Mapping[str, Mapping[str, float]]:
        """Always naming the mean, 1: the variance of the sum, and its density around 1."""
        return {"chance": {"loss": 1 / 6, "accuracy": 2 * TOLERANCE - TOLERANCE**2}}
