"""The strategy that `--bptt-strategy module:attribute` names; option.py takes the option."""

import os
import pkgutil
import sys

import pytest

from bptt_lab.gradients.base import GradientStrategy


def load(name: str) -> GradientStrategy:
    """Return the strategy at "module:attribute": an object, or a class that needs no settings.

    Raises:
        UsageError: where there is none.
    """

    def refused(problem: str) -> pytest.UsageError:
        return pytest.UsageError(f"--bptt-strategy={name}: {problem}")

    if ":" not in name:
        raise refused("must be MODULE:NAME, such as mypkg.my:Mine")
    sys.path.append(os.getcwd())
    try:
        found = pkgutil.resolve_name(name)
    except (ValueError, ImportError, AttributeError) as error:
        raise refused(f"cannot be found: {error}") from error
    try:
        found = found() if isinstance(found, type) else found
    except TypeError as error:
        raise refused(f"cannot be made without settings ({error}); name an object") from error
    if not isinstance(found, GradientStrategy):
        raise refused(f"must be a GradientStrategy, not {found!r}")
    return found


def pytest_collection_modifyitems(config: pytest.Config) -> None:
    """Find the strategy before any test runs, so that a wrong name is one complaint."""
    name = config.getoption("--bptt-strategy")
    if name is None:
        raise pytest.UsageError("--bptt-strategy: must be given, as MODULE:NAME")
    load(name)


@pytest.fixture(scope="session")
def strategy(request: pytest.FixtureRequest) -> GradientStrategy:
    """The strategy under test."""
    return load(request.config.getoption("--bptt-strategy"))
