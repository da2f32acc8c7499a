from typing import Annotated

import torch

from bptt_lab.core.random import generator
from bptt_lab.core.validation import Ge, checked
from bptt_lab.tasks.base import at_last_step
from bptt_lab.tasks.kinds import Classification, Generated


class Counting(Generated, Classification):
    """Is the number of ones among some bits even? Named after the last step."""

    input_size, output_size = 1, 2
    loss = "cross_entropy"

    @checked
    def __init__(
        self,
        *,
        num_steps: Annotated[int, Ge(1)] = 5,
        train_size: Annotated[int, Ge(1)] = 64,
        **rest,
    ):
        super().__init__(train_size=train_size, **rest)
        self.num_steps = num_steps

    def sequences(self, split, epoch):
        draws = generator(self.seed, f"counting/{split}", epoch)
        bits = torch.randint(2, (self.num_steps, self.sizes[split]), generator=draws)
        return at_last_step(bits[..., None].float(), bits.sum(0) % 2)
