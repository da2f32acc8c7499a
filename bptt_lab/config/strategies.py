"""A gradient strategy from the name of its option and settings: one way for every command.

Training, shadows, bptt-explain and bptt-compare find a strategy here, one of --config-dir too.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Protocol

import yaml  # type: ignore[import-untyped]  # its stubs are another package
from omegaconf import OmegaConf

from bptt_lab.config import components, targets
from bptt_lab.config.schema import Component, refuse


class Options(Protocol):
    """The options of the group `gradient`."""

    def names(self) -> list[str]:
        """Return the names, in order."""

    def section(self, name: str) -> Mapping[str, Any]:
        """Return an option's `_target_` and settings, interpolations as written."""


class PackagedOptions:
    """The options that the package itself brings."""

    def names(self) -> list[str]:
        """Return the names, in order."""
        files = resources.files("bptt_lab.conf").joinpath("gradient").iterdir()
        return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))

    def section(self, name: str) -> Mapping[str, Any]:
        """Return an option's `_target_` and settings, interpolations as written."""
        file = resources.files("bptt_lab.conf").joinpath("gradient", f"{name}.yaml")
        section: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        return section


@functools.cache
def packaged() -> Options:
    """Return the package's own options, for whoever has no command line."""
    return PackagedOptions()


def from_name(
    key: str,
    name: Any,
    given: Mapping[str, Any],
    options: Options,
    *,
    seed: int = 0,
    allow: str | Sequence[str] = (),
) -> Component:
    """Return a strategy's checked section.

    Args:
        key: what named it, for messages.
        name: of the option.
        given: settings to replace the option's.
        options: the options there are.
        seed: the experiment's, for options that ask for it.
        allow: packages allowed beside the package's own.

    Raises:
        ConfigError: for an option that does not exist, a class that is not allowed, or a setting
            that it does not have or refuses.
    """
    return checked(key, section(key, name, given, options, seed), allow)


def section(
    key: str, name: Any, given: Mapping[str, Any], options: Options, seed: int
) -> dict[str, Any]:
    """Return a strategy's section, interpolations resolved; arguments as for `from_name`."""
    names = options.names()
    if name not in names:
        refuse(key, name, f"must be one of {', '.join(names)}")
    return resolved({**options.section(name), **given}, seed)


def checked(key: str, section: Mapping[str, Any], allow: str | Sequence[str]) -> Component:
    """Validate a strategy's section, the classes that it names included."""
    trusted = targets.packages(allow)
    for inner, target in targets.targets(section, key):
        kinds = targets.KINDS["gradient"] if inner == f"{key}._target_" else targets.PARTS
        targets.check_target(inner, target, kinds, trusted)
    return components.component(key, section)


def resolved(section: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Resolve an option's interpolations: what it may take from around it is the seed."""
    around = OmegaConf.create({"seed": seed, "gradient": dict(section)})
    plain: Any = OmegaConf.to_container(around, resolve=True)
    found: dict[str, Any] = plain["gradient"]
    return found
