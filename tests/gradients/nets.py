"""The nets that the package ships, under the name that the tests here know."""

from bptt_lab.diagnostics.conformance.nets import *  # noqa: F403
