"""pytest's option `--strategy`: a plugin, since a conftest.py behind --pyargs is read too late.

It is loaded in every run of pytest where this package is installed, and imports nothing else.
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take --strategy."""
    parser.addoption(
        "--strategy",
        metavar="MODULE:NAME",
        help="gradient strategy to check with --pyargs bptt_lab.conformance",
    )
