"""A gradient strategy by the name of its option, for a small example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bptt_lab.config.strategies import Options, from_name, packaged
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.training.build import make

# Of `truncated`, where the command line says nothing: its file's k would cut nothing here.
SMALL = {"k": 2, "mode": "lag"}


def names() -> list[str]:
    """Return the options of the group `gradient`, in order."""
    return packaged().names()


def build(name: str, given: Mapping[str, Any], options: Options | None = None) -> GradientStrategy:
    """Make the strategy that an option describes.

    Args:
        name: of the option.
        given: settings to replace the file's.
        options: the options there are; the package's own by default.

    Raises:
        ConfigError: for an option that does not exist, a class that is not allowed, or a setting
            that it lacks or refuses.
    """
    small = SMALL if name == "truncated" else {}
    component = from_name("--gradient", name, {**small, **given}, options or packaged())
    try:
        strategy = make("gradient", component)
    except ConfigError as error:
        key, _, problem = str(error).removeprefix("gradient.").partition("=")
        raise ConfigError(f"--{key} {problem}") from error
    assert isinstance(strategy, GradientStrategy)
    return strategy
