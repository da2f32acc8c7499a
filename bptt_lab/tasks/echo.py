"""Echo: an endless stream of bits, each answered by a law of the bits 3 and 8 steps before.

    P(y_t = 1) = 0.5 + 0.5 x_{t-3} - 0.25 x_{t-8}

The loss tells which of the two lags was learnt, hence how far back credit really travels when a
stream is learnt in chunks.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor

from bptt_lab.core.random import generator
from bptt_lab.core.validation import Ge, checked
from bptt_lab.tasks.base import Sequences, Split
from bptt_lab.tasks.kinds import ClassificationByLoss

SHORT_LAG = 3
LONG_LAG = 8

# P(y = 1) in the equally likely cases that are told apart once so much is learnt.
FLOORS = {
    "chance": (0.625,),
    "lag 3 learnt": (0.375, 0.875),
    "lag 3 and 8 learnt": (0.5, 0.25, 1.0, 0.75),
}


def echo(num_steps: int, num_streams: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw M streams of T steps, and eight bits before, so that the law holds throughout.

    Returns:
        The bits x and their answers y, both (T, M).
    """
    bits = torch.randint(2, (LONG_LAG + num_steps, num_streams), generator=generator)
    short = bits[LONG_LAG - SHORT_LAG : -SHORT_LAG]
    probability = 0.5 + 0.5 * short - 0.25 * bits[:-LONG_LAG]
    answers = torch.rand(num_steps, num_streams, generator=generator) < probability
    return bits[LONG_LAG:], answers.long()


class Echo(ClassificationByLoss):
    """Name the answer at every step of parallel streams, the state carried from chunk to chunk.

    New streams are drawn every epoch. The answers to the first 8 of `stream_length` steps count
    too, although they depend on bits before the stream, which nobody can know.

    Reference: S. Pitis (2016), "Styles of truncated backpropagation", R2RT.

    Args:
        stream_length: steps of a stream.
        batch_size: parallel streams, over all processes together.
        chunk_length: steps between two updates; null is the whole stream.
        settings: as ClassificationByLoss has them.
    """

    stream = True
    input_size = 2
    output_size = 2
    num_elements = ("stream_length * batch_size",)
    train_shape = ("stream_length", "batch_size")

    @checked
    def __init__(
        self,
        *,
        stream_length: Annotated[int, Ge(1)] = 800,
        batch_size: Annotated[int, Ge(1)] = 32,
        chunk_length: Annotated[int | None, Ge(1)] = 10,
        **settings: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, chunk_length=chunk_length, **settings)
        self.stream_length = stream_length

    def sequences(self, split: Split, epoch: int) -> Sequences:
        """Draw the streams of a split and epoch."""
        draws = generator(self.seed, f"echo/{split}", epoch)
        bits, answers = echo(self.stream_length, self.batch_size, draws)
        return Sequences(bits, answers, torch.ones_like(bits, dtype=torch.bool))

    def references(self) -> Mapping[str, Mapping[str, float]]:
        """The best that can be reached with neither lag learnt, with the short one, with both."""
        return {name: self._floor(torch.tensor(cases)) for name, cases in FLOORS.items()}

    def _floor(self, cases: Tensor) -> dict[str, float]:
        chances = torch.stack((cases, 1 - cases)).double()  # (2, cases)
        entropy = torch.special.entr(chances).sum(0)
        loss = entropy if self.loss == "cross_entropy" else 2 * chances.prod(0)
        return {"loss": loss.mean().item(), "accuracy": chances.amax(0).mean().item()}
