"""`callbacks.shadow`: strategies that do not train, by name or by a section of settings.

[truncated, autograd]                            options of the group `gradient`, as they are
[{name: truncated, k: 4}, {name: truncated, k: 8, mode: lag}]
[{_target_: mypkg.mine.Mine, some: 1}]           a class of an allowed package

A manifest holds each one written out, `name` being the label of its tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bptt_lab.config import strategies
from bptt_lab.config.schema import Component
from bptt_lab.config.strategies import Options
from bptt_lab.core.validation import ConfigError

KEY = "callbacks.shadow"


def components(
    shadow: Sequence[Any], seed: int, options: Options, allow: str | Sequence[str]
) -> dict[str, Component]:
    """Return each strategy by a label for its tags.

    Args:
        shadow: what the config lists.
        seed: the experiment's, for options that ask for it.
        options: the options there are.
        allow: packages allowed beside the package's own.

    Raises:
        ConfigError: for what names no strategy, or one twice.
    """
    found = sections(shadow, seed, options)
    return {label: strategies.checked(KEY, section, allow) for label, section in found.items()}


def sections(shadow: Sequence[Any], seed: int, options: Options) -> dict[str, dict[str, Any]]:
    """Return each strategy's section by its label, not yet validated; arguments as above."""
    found: dict[str, dict[str, Any]] = {}
    for entry in shadow:
        given = dict(entry) if isinstance(entry, Mapping) else {"name": entry}
        name = given.pop("name", None)
        if "_target_" in given:
            label = str(name or _label(str(given["_target_"]).rpartition(".")[2], given))
            section = given
        else:
            label = _label(str(name), given)
            section = strategies.section(KEY, name, given, options, seed)
        if label in found:
            raise ConfigError(f"{KEY}: holds {label} twice; keep one")
        found[label] = section
    return found


def _label(name: str, given: Mapping[str, Any]) -> str:
    changed = [f"{key}_{value}" for key, value in given.items() if key != "_target_"]
    return "_".join([name, *changed])
