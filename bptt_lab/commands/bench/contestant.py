"""What a contestant is: a name, and a function that makes a problem into calls to be timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from bptt_lab.commands.bench.problem import Problem


class UnavailableError(Exception):
    """A contestant that cannot take part here; the message says why, on one line."""


class Prepared(NamedTuple):
    """Calls ready to be timed; nothing of a call's work outlives what it returns."""

    forward: Callable[[], Any]  # the output
    both: Callable[[], tuple[Any, dict[str, Any]]]  # the output, the gradients by weight's name
    to_torch: Callable[[Any], Tensor]


@dataclass(frozen=True)
class Contestant:
    """Who takes part."""

    name: str
    prepare: Callable[[Problem], Prepared]
    needs: str  # a module that must be installed
    biased: bool  # its gradient is not the loss's, so that it may differ from the right one

    def missing(self) -> str | None:
        """Say what it lacks here, without importing it."""
        if find_spec(self.needs) is not None:
            return None
        if "." in self.needs:
            return f"{self.name}: this installation has no {self.needs}"
        return f"{self.name}: {self.needs} is not installed; pip install 'bptt_lab[{self.needs}]'"


CONTESTANTS: dict[str, Contestant] = {}
Prepare = Callable[["Problem"], Prepared]


def contestant(
    name: str, *, needs: str = "torch", biased: bool = False
) -> Callable[[Prepare], Prepare]:
    """Enter a function into the contest under a name."""

    def enter(prepare: Prepare) -> Prepare:
        CONTESTANTS[name] = Contestant(name, prepare, needs, biased)
        return prepare

    return enter
