"""Future-facing strategies that are settled anew at every unroll: by a draw, by what they wrap.

Backward passes through one graph must agree, however often and in whatever order they come. What
is drawn is therefore drawn when the graph is built, and lives in a rule of that unroll's own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bptt_lab.core.cell import Swept
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients.base import Carry, Unrolled
from bptt_lab.gradients.future import FutureFacing, Stack

if TYPE_CHECKING:
    from bptt_lab.nn.rnn import VanillaRNN


class PerUnroll(FutureFacing):
    """A strategy that makes a rule for every unroll and leaves the work to it."""

    @abstractmethod
    def begin(self, num_steps: int) -> FutureFacing:
        """Make the rule of one unroll, draws and all, and move on to the next draw.

        Args:
            num_steps: L.
        """

    def states(
        self, rnn: VanillaRNN, input: Tensor, carry: Carry, lengths: Sequence[int] | None = None
    ) -> Unrolled:
        """Run one chunk; see GradientStrategy."""
        return self.begin(len(input)).states(rnn, input, carry, lengths)

    def credit(self, rnn: VanillaRNN, input: Tensor, hx: Tensor, q: Tensor) -> Tensor:
        """Return the credit that a rule made for this call assigns; see GradientStrategy."""
        return self.begin(len(input)).credit(rnn, input, hx, q)

    def assign(self, stack: Stack) -> list[Swept]:
        """Assign by a rule made for this call."""
        return self.begin(len(stack.layers[0].input)).assign(stack)


class Modifier(PerUnroll):
    """Another future-facing strategy with a change to its sweep.

    Args:
        of: the strategy to change.
    """

    def __init__(self, of: FutureFacing) -> None:
        if not isinstance(of, FutureFacing):
            name = type(self).__name__
            raise ConfigError(
                f"of={of!r}: must be a future-facing strategy, since {name} changes how credit "
                "flows back; wrap Full, Truncated or ARTBP"
            )
        self.of = of

    @abstractmethod
    def assign_by(self, rule: FutureFacing, stack: Stack) -> list[Swept]:
        """Let the wrapped strategy's rule assign credit, with the change made.

        Args:
            rule: the wrapped strategy's, of one unroll.
            stack: as `FutureFacing.assign` takes it.
        """

    def begin(self, num_steps: int) -> FutureFacing:
        """Make the wrapped strategy's rule of one unroll, of the same draw."""
        self.of.draw = self.draw
        self.draw += 1
        of = self.of
        return _Modified(self, of.begin(num_steps) if isinstance(of, PerUnroll) else of)

    def readings(self) -> dict[str, float]:
        """Return the wrapped strategy's readings."""
        return self.of.readings()

    def state_dict(self) -> dict[str, Any]:
        """Return the wrapped strategy's state."""
        return {"of": self.of.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.of.load_state_dict(state_dict["of"])


class _Modified(FutureFacing):
    """A modifier at work in one unroll."""

    def __init__(self, modifier: Modifier, rule: FutureFacing) -> None:
        self.modifier, self.rule = modifier, rule

    def assign(self, stack: Stack) -> list[Swept]:
        return self.modifier.assign_by(self.rule, stack)
