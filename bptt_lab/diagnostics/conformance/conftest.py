"""The strategy that `--bptt-strategy module:attribute` names; option.py takes the option."""

import os
import pkgutil
import sys
from importlib import metadata

import pytest

from bptt_lab.gradients.base import GradientStrategy


def load(name: str) -> GradientStrategy:
    """Return the strategy at "module:attribute": an object, or a class that needs no settings.

    A name without a colon is that of an entry point in the group bptt_lab.gradients.

    Raises:
        UsageError: where there is none.
    """

    def refused(problem: str) -> pytest.UsageError:
        return pytest.UsageError(f"--bptt-strategy={name}: {problem}")

    sys.path.append(os.getcwd())
    installed = {e.name: e.value for e in metadata.entry_points(group="bptt_lab.gradients")}
    place = installed.get(name, name)
    if ":" not in place:
        known = ", ".join(["MODULE:NAME, such as mypkg.my:Mine", *sorted(installed)])
        raise refused(f"must be {known}")
    try:
        found = pkgutil.resolve_name(place)
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
        raise pytest.UsageError(
            "--bptt-strategy: must be given, as MODULE:NAME or a package's NAME"
        )
    load(name)


@pytest.fixture(scope="session")
def strategy(request: pytest.FixtureRequest) -> GradientStrategy:
    """The strategy under test."""
    return load(request.config.getoption("--bptt-strategy"))
