"""Every check of the contract, as tests of the strategy that `--bptt-strategy` names."""

from collections.abc import Callable

import pytest

from bptt_lab.diagnostics.conformance.compare import Failed
from bptt_lab.diagnostics.conformance.contract import CHECKS, NETS, ON_NETS
from bptt_lab.diagnostics.conformance.nets import Net
from bptt_lab.gradients.base import GradientStrategy


def _name(check: Callable[..., None]) -> str:
    return check.__name__.removeprefix("check_")


def _make(check: Callable[..., None], *on: object) -> None:
    """Make a check; what it says of a failure is enough, without the way there."""
    reason = ""
    try:
        check(*on)
    except Failed as failed:
        reason = str(failed)
    if reason:
        pytest.fail(reason, pytrace=False)


@pytest.mark.parametrize("check", CHECKS, ids=_name)
def test_keeps(strategy: GradientStrategy, check: Callable[..., None]) -> None:
    """The checks of the strategy by itself."""
    _make(check, strategy)


@pytest.mark.parametrize("check", ON_NETS, ids=_name)
@pytest.mark.parametrize("net", NETS, ids=str)
def test_keeps_on(strategy: GradientStrategy, net: Net, check: Callable[..., None]) -> None:
    """The checks that are made on nets of many kinds."""
    _make(check, strategy, net)
