"""A search before its first trial: its space, and whether it may be continued.

Nothing here needs Optuna.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig

from bptt_lab import runs
from bptt_lab.commands.search import best
from bptt_lab.commands.search.space import Space
from bptt_lab.config import schema
from bptt_lab.config.compose import CommandLine
from bptt_lab.core.validation import ConfigError

SWEEPER = "bptt_lab.commands.search.sweeper.SearchSweeper"


def is_search(sweep: DictConfig) -> bool:
    """Whether a composed sweep is a search."""
    return bool(sweep.hydra.sweeper._target_ == SWEEPER)


def space(command: CommandLine, sweep: DictConfig) -> Space:
    """Return the space that a command line describes.

    Raises:
        ConfigError: naming the setting, where it makes no sense.
    """
    fixed = list(sweep.hydra.overrides.hydra)
    lines = [f"{key}={value}" for key, value in (sweep.hydra.sweeper.params or {}).items()]
    overrides = command.parse([*lines, *sweep.hydra.overrides.task])
    return Space(overrides, lambda job: command.compose([*fixed, *job], RunMode.MULTIRUN))


def description(space: Space, sweeper: DictConfig) -> dict[str, Any]:
    """Describe for sweep.json what a continued search must share with the first one."""
    settings = {
        key: text
        for key, text in space.described().items()
        if key.lstrip("+~") not in schema.CONTROL
    }
    return {"metric": sweeper.metric, "direction": sweeper.direction, "settings": settings}


def refuse_changed(sweep_dir: Path, wanted: Mapping[str, Any]) -> None:
    """Refuse to continue a search with another space, or by another metric, than it began with.

    Raises:
        ConfigError: naming the first setting that differs.
    """
    sweep, began = runs.read_json(sweep_dir / runs.SWEEP), best.record(sweep_dir)
    if not began:
        if sweep.get("jobs"):
            raise ConfigError(
                f"resume={sweep_dir}: holds a sweep that is no search; continue it with "
                "bptt-train -m, or start a new search"
            )
        return  # stopped before it began
    for key in dict.fromkeys([*_flat(began), *_flat(wanted)]):
        old, new = (_flat(search).get(key, "not given") for search in (began, wanted))
        if old != new:
            raise ConfigError(
                f"resume={sweep_dir}: {key} is {new}, and the search began with {old}; give what "
                f"it began with: {sweep.get('command', '')}"
            )


def _flat(search: Mapping[str, Any]) -> dict[str, str]:
    own = {f"hydra.sweeper.{key}": search[key] for key in ("metric", "direction")}
    return own | dict(search["settings"])
