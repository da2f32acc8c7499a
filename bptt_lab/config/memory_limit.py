"""Sizes that no memory of this machine could hold, refused before anything is allocated.

The estimates are lower bounds: what they refuse cannot work, what they let pass may still not fit.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from bptt_lab.core.validation import ConfigError


def installed() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check(config: Mapping[str, Any], limit: int) -> None:
    """Refuse a network or a data set that is larger than the memory.

    Args:
        config: plain containers whose settings have passed their own limits.
        limit: bytes.

    Raises:
        ConfigError: naming the largest of the sizes that make it so.
    """
    number = 8 if config["trainer"]["precision"] == "64-true" else 4
    model, data = config["model"], config["dataset"]
    # W_hh of every layer, and its gradient.
    network = {"model.num_layers": model["num_layers"], "model.hidden_size": model["hidden_size"]}
    width = model["hidden_size"]
    _refuse_above(limit, 2 * number * width * width * model["num_layers"], network)
    steps = [key for key in ("num_steps", "stream_length", "delay") if _is_size(data.get(key))]
    for key in ("train_size", "val_size", "test_size"):
        if steps and _is_size(data.get(key)):
            sizes = {f"dataset.{name}": data[name] for name in (steps[0], key)}
            _refuse_above(limit, 4 * data[steps[0]] * data[key], sizes)
    if "stream_length" in steps and _is_size(data.get("batch_size")):
        sizes = {f"dataset.{name}": data[name] for name in ("stream_length", "batch_size")}
        _refuse_above(limit, 4 * data["stream_length"] * data["batch_size"], sizes)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _refuse_above(limit: int, needed: int, sizes: Mapping[str, int]) -> None:
    if needed > limit:
        key = max(sizes, key=lambda name: sizes[name])
        need = f"needs at least {needed / 2**30:.3g} GiB of memory"
        problem = f"{need}, of which there are {limit / 2**30:.3g}; give a smaller number"
        raise ConfigError(f"{key}={sizes[key]}: {problem}")
