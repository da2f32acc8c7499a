"""The whole contract: checks of one strategy, and checks of a strategy on a net."""

import inspect
from collections.abc import Callable
from typing import Literal, NamedTuple

from bptt_lab.diagnostics.conformance import carrying, claims, passes
from bptt_lab.diagnostics.conformance.compare import Failed, Skipped
from bptt_lab.diagnostics.conformance.nets import Net
from bptt_lab.gradients.base import GradientStrategy

# By name: what a module calls check_..., in its order.
_found: list[Callable[..., None]] = [
    check
    for module in (claims, passes, carrying)
    for name, check in vars(module).items()
    if name.startswith("check_")
]
CHECKS = [check for check in _found if len(inspect.signature(check).parameters) == 1]
ON_NETS = [check for check in _found if check not in CHECKS]
NETS = [
    Net(5, 7),
    Net(16, 30, 1, nonlinearity="relu", loss="last"),
    Net(5, 30, num_layers=2, leak=0.5, loss="mean"),
    Net(2, 7, num_layers=3, nonlinearity="relu", leak=0.5),
    Net(1, 7, 1, num_layers=2, nonlinearity="sigmoid", loss="mean"),
    Net(5, 7, 1, num_layers=3, nonlinearity="identity", loss="last"),
    Net(2, 30, nonlinearity="sigmoid", leak=0.5, loss="last"),
    Net(1, 1, 1),
    Net(5, 1, num_layers=2, nonlinearity="relu", leak=0.5, loss="last"),
    Net(2, 2, num_layers=2, nonlinearity="identity", leak=0.5),
    Net(16, 2, 1, num_layers=3, leak=0.5, loss="mean"),
    Net(16, 7, num_layers=2, bias=False),
]


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


def verify(strategy: GradientStrategy) -> list[Outcome]:
    """Hold a strategy to the whole contract, in a second or a few.

    Examples:
        >>> from bptt_lab.gradients.truncated import Truncated
        >>> outcomes = verify(Truncated(k=4))
        >>> [str(outcome) for outcome in outcomes if outcome.status == "failed"]
        []

    Returns:
        One outcome for every check, and for every net where a check is made on many.
    """
    alone = [outcome(check, strategy) for check in CHECKS]
    return alone + [outcome(check, strategy, net) for net in NETS for check in ON_NETS]


def outcome(
    check: Callable[..., None], strategy: GradientStrategy, net: Net | None = None
) -> Outcome:
    """Make a check of a strategy; an error that the strategy raises is a failure."""
    name = check.__name__.removeprefix("check_")
    try:
        check(strategy) if net is None else check(strategy, net)
    except Skipped as skipped:
        return Outcome(name, net, "skipped", str(skipped))
    except Exception as error:
        raised = "" if isinstance(error, Failed) else f"raised {type(error).__name__}: "
        return Outcome(name, net, "failed", f"{raised}{error}")
    return Outcome(name, net, "passed")
