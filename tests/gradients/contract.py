"""The contract that the package ships, under the name that the tests here know."""

from bptt_lab.diagnostics.conformance.carrying import *  # noqa: F403
from bptt_lab.diagnostics.conformance.claims import *  # noqa: F403
from bptt_lab.diagnostics.conformance.compare import *  # noqa: F403
from bptt_lab.diagnostics.conformance.contract import CHECKS, NETS, ON_NETS, outcome  # noqa: F401
from bptt_lab.diagnostics.conformance.passes import *  # noqa: F403


def assert_identical(actual, expected, what):
    assert_same(actual, expected, what, 0)  # noqa: F405
