"""Copy memory: ten symbols to be repeated after a long silence.

Whoever carries nothing across the silence can do no better than 10 ln 8 / (delay + 20) nats a
step, which makes the loss a direct reading of how much memory the gradient could teach.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor

from bptt_lab.core.random import generator
from bptt_lab.core.validation import Ge, checked
from bptt_lab.tasks.base import Sequences, Split
from bptt_lab.tasks.kinds import ClassificationByLoss, Generated

NUM_SYMBOLS = 8  # classes 0 to 7
BLANK = 8
GO = 9
NUM_COPIED = 10


def copy_memory(
    delay: int, num_sequences: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw M sequences: ten symbols, delay - 1 blanks, the go sign, ten blanks.

    Returns:
        Classes read and classes to name, both (delay + 20, M).
    """
    symbols = torch.randint(NUM_SYMBOLS, (NUM_COPIED, num_sequences), generator=generator)
    input = torch.full((delay + 2 * NUM_COPIED, num_sequences), BLANK)
    target = input.clone()
    input[:NUM_COPIED] = symbols
    input[NUM_COPIED + delay - 1] = GO
    target[-NUM_COPIED:] = symbols
    return input, target


class CopyMemory(Generated, ClassificationByLoss):
    """Name blanks until the go sign, then the ten symbols seen at first; every step counts.

    New sequences are drawn every epoch. The metric `recall` is the accuracy on the ten symbols
    alone: it is zero elsewhere and scaled so that its mean over all steps comes out right.

    Reference: Arjovsky, Shah and Bengio (2016), "Unitary evolution recurrent neural networks".

    Args:
        delay: steps between the end of the symbols and the beginning of their copy; a sequence
            has 20 more.
        train_size: sequences of a training epoch.
        settings: as Generated and ClassificationByLoss have them.
    """

    input_size = NUM_SYMBOLS + 2
    output_size = NUM_SYMBOLS + 2
    num_elements = ("delay * train_size", "delay * val_size", "delay * test_size")
    train_shape = (None, "train_size")

    @checked
    def __init__(
        self,
        *,
        delay: Annotated[int, Ge(1)] = 10,
        train_size: Annotated[int, Ge(1)] = 2560,
        **settings: Any,
    ) -> None:
        super().__init__(train_size=train_size, **settings)
        self.num_steps = delay + 2 * NUM_COPIED
        self.delay = delay

    def sequences(self, split: Split, epoch: int) -> Sequences:
        """Draw the sequences of a split and epoch."""
        draws = generator(self.seed, f"copy_memory/{split}", epoch)
        input, target = copy_memory(self.delay, self.sizes[split], draws)
        return Sequences(input, target, torch.ones_like(target, dtype=torch.bool))

    def score(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Whether the likeliest class is right, at every step and at those of the copy."""
        right = super().score(prediction, target)["accuracy"]
        scale = self.num_steps / NUM_COPIED
        return {"accuracy": right, "recall": right * (target < NUM_SYMBOLS) * scale}

    def references(self) -> Mapping[str, Mapping[str, float]]:
        """Remembering when to copy but not what: blanks, then any of the eight symbols."""
        each = math.log(NUM_SYMBOLS) if self.loss == "cross_entropy" else 1 - 1 / NUM_SYMBOLS
        right = self.num_steps - NUM_COPIED + NUM_COPIED / NUM_SYMBOLS
        chance = {"loss": NUM_COPIED * each / self.num_steps, "accuracy": right / self.num_steps}
        return {"chance": {**chance, "recall": 1 / NUM_SYMBOLS}}
