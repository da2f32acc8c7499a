"""Modifiers: another future-facing strategy, with a change to how its credit flows back."""

from abc import abstractmethod

from bptt_lab.core.cell import Swept
from bptt_lab.gradients.future import Estimate, PerUnroll, Rule
from bptt_lab.gradients.stack import Stack


class Modifier(PerUnroll):
    """Another future-facing strategy, `of`, with a change to its sweep."""

    def __init__(self, of: PerUnroll) -> None:
        self.of = of
        self.linear = of.linear

    @property
    def one_sweep(self) -> bool:  # type: ignore[override]  # it follows from a setting
        """Whether what it wraps is."""
        return self.of.one_sweep

    @abstractmethod
    def modify(self, rule: Rule, stack: Stack, estimate: Estimate) -> list[Swept]:
        """Let the wrapped strategy's rule of one unroll assign a stack's credit, with a change.

        The modifier may fill in the estimate.
        """

    def begin(self, num_steps: int, draw: int, estimate: Estimate) -> Rule:
        """Modify the wrapped strategy's rule of the same unroll."""
        rule = self.of.begin(num_steps, draw, estimate)
        return lambda stack: self.modify(rule, stack, estimate)
