"""`callbacks.shadow`: gradient strategies by the name of their option, or by a section of settings.

[truncated, autograd]                            options of conf/gradient, as they are
[{name: truncated, k: 4}, {name: truncated, k: 8, mode: lag}]
[{_target_: mypkg.mine.Mine, some: 1}]           a class of an allowed package
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import yaml  # type: ignore[import-untyped]  # its stubs are another package

from bptt_lab.core.validation import ConfigError


def sections(shadow: Sequence[Any], seed: int) -> dict[str, dict[str, Any]]:
    """Return each strategy's section, `_target_` and settings, by a label for its tags.

    Args:
        shadow: what the config lists.
        seed: the experiment's, for options that ask for it.

    Raises:
        ConfigError: for what names no strategy, or one twice.
    """
    found: dict[str, dict[str, Any]] = {}
    for entry in shadow:
        settings = dict(entry) if isinstance(entry, Mapping) else {"name": entry}
        if "_target_" in settings:
            base, name = {}, str(settings["_target_"]).rpartition(".")[2]
        else:
            name = settings.pop("name", None)
            base = _option(name)
        changed = [f"{key}_{value}" for key, value in settings.items() if key != "_target_"]
        label = "_".join([name, *changed])
        if label in found:
            raise ConfigError(f"callbacks.shadow: holds {label} twice; keep one")
        section = {**base, **settings}
        found[label] = {k: seed if v == "${seed}" else v for k, v in section.items()}
    return found


def _option(name: Any) -> dict[str, Any]:
    folder = resources.files("bptt_lab.conf").joinpath("gradient")
    options = sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))
    if name not in options:
        raise ConfigError(f"callbacks.shadow={name}: must be of {', '.join(options)}")
    section: dict[str, Any] = yaml.safe_load(folder.joinpath(f"{name}.yaml").read_text())
    return section
