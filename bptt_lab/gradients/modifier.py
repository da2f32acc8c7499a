"""Modifiers: another future-facing strategy, with a change to how its credit flows back."""

from abc import abstractmethod

from bptt_lab.core.cell import Swept
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients.future import Estimate, PerUnroll, Rule
from bptt_lab.gradients.stack import Stack


class Modifier(PerUnroll):
    """Another future-facing strategy, `of`, with a change to its sweep."""

    def __init__(self, of: PerUnroll) -> None:
        if not isinstance(of, PerUnroll):
            name = type(self).__name__
            raise ConfigError(
                f"of={of!r}: must be a future-facing strategy, since {name} changes how credit "
                "flows back; wrap Full, Truncated or ARTBP"
            )
        self.of = of
        self.linear = of.linear

    @property
    def one_sweep(self) -> bool:  # type: ignore[override]  # it follows from a setting
        """Whether what it wraps is."""
        return self.of.one_sweep

    @abstractmethod
    def modify(self, rule: Rule, stack: Stack, estimate: Estimate) -> list[Swept]:
        """Let the wrapped strategy's rule assign credit, with the change made.

        Args:
            rule: the wrapped strategy's, of one unroll.
            stack: what the rule assigns credit in.
            estimate: which the modifier may fill in.
        """

    def begin(self, num_steps: int, draw: int, estimate: Estimate) -> Rule:
        """Modify the wrapped strategy's rule of the same unroll."""
        rule = self.of.begin(num_steps, draw, estimate)
        return lambda stack: self.modify(rule, stack, estimate)
