"""The nets that the package ships, under the name that the tests here know."""

from bptt_lab.diagnostics.conformance.by_hand import *  # noqa: F403
from bptt_lab.diagnostics.conformance.compare import full_mask  # noqa: F401
from bptt_lab.diagnostics.conformance.nets import *  # noqa: F403
