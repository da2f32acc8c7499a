"""What the commands ask of gradient strategies: which there are, their settings, their claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from bptt_lab.config import signatures
from bptt_lab.config.arguments import parse_arguments
from bptt_lab.config.schema import Component
from bptt_lab.config.security import open_command_line
from bptt_lab.config.strategies import Options, packaged

if TYPE_CHECKING:
    from bptt_lab.gradients.base import GradientStrategy


def options(config_dir: str | None = None) -> Options:
    """Return the options of the group `gradient`.

    Args:
        config_dir: a folder with more of them, as bptt-train's --config-dir.

    Raises:
        ConfigError: where it is no folder.
    """
    if config_dir is None:
        return packaged()
    return open_command_line(parse_arguments([f"--config-dir={config_dir}"]))[0].strategies


def settings(component: Component) -> Mapping[str, signatures.Setting]:
    """Return the settings that a component's class takes."""
    return signatures.read(component.target).settings


def choices(component: Component, key: str) -> tuple[str, ...]:
    """Return the values that a component's class allows for a setting by Literal, or none."""
    setting = settings(component).get(key)
    return get_args(setting.hint) if setting and get_origin(setting.hint) is Literal else ()


def claims(strategy: GradientStrategy) -> str:
    """Return what a strategy says of its gradient within a chunk: exact, unbiased or biased."""
    if strategy.exact_within_chunk:
        return "exact"
    return "unbiased" if strategy.unbiased else "biased"
