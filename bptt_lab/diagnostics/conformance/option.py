"""pytest's option `--bptt-strategy`: a plugin, since a conftest behind --pyargs is read too late.

It is loaded in every run of pytest where this package is installed, and imports nothing else.
"""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take --bptt-strategy."""
    parser.addoption(
        "--bptt-strategy",
        metavar="MODULE:NAME",
        help="gradient strategy to check with --pyargs bptt_lab.conformance, or an installed NAME",
    )
