"""What a check says of a strategy: passed, failed with a reason, or skipped with a reason.

`Failed` and `Skipped` are Python's own words for these, so that every test runner knows them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple
from unittest import SkipTest

if TYPE_CHECKING:
    from bptt_lab.diagnostics.conformance.nets import Net
    from bptt_lab.gradients.base import GradientStrategy


class Failed(AssertionError):
    """The strategy breaks the contract; the message says how."""


class Skipped(SkipTest):
    """The check cannot be made of this strategy; the message says why."""


class Outcome(NamedTuple):
    """What one check found."""

    check: str
    net: Net | None  # where the check is made on nets of many kinds
    status: Literal["passed", "failed", "skipped"]
    reason: str = ""  # empty if passed

    def __str__(self) -> str:
        where = "" if self.net is None else f" on {self.net}"
        reason = self.reason and f": {self.reason}"
        return f"{self.status} {self.check}{where}{reason}"


def require(condition: object, reason: str) -> None:
    """Raise Failed with the reason unless the condition holds."""
    if not condition:
        raise Failed(reason)


def outcome(
    check: Callable[..., None], strategy: GradientStrategy, net: Net | None = None
) -> Outcome:
    """Make a check of a strategy; an error that the strategy raises is a failure."""
    name = check.__name__.removeprefix("check_")
    try:
        check(strategy) if net is None else check(strategy, net)
    except Skipped as skipped:
        return Outcome(name, net, "skipped", str(skipped))
    except Failed as failed:
        return Outcome(name, net, "failed", str(failed))
    except Exception as error:
        return Outcome(name, net, "failed", f"raised {type(error).__name__}: {error}")
    return Outcome(name, net, "passed")
