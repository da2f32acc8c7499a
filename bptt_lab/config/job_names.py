"""What a sweep's job is called after: the settings that differ between its jobs, the seed last.

A setting that all jobs share says nothing, so it is left out. Where the others are too many for a
name, each gives up some of its middle, and none falls off the end.
"""

import functools
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from bptt_lab.config.schema import CONTROL, key_of

LONGEST = 150  # characters, all settings together


def words(master: DictConfig, overrides: Sequence[str]) -> str:
    """Return what a job is called after: `master` is the sweep's configuration."""
    section = master.hydra
    given: Any = OmegaConf.to_container(section.overrides.task, resolve=False)
    sweeper: Any = OmegaConf.to_container(section.sweeper, resolve=False)
    params = (sweeper.get("params") or {}).items()
    constant = _constant((*map(str, given), *(f"{key}={text}" for key, text in params)))
    own = [line for line in overrides if key_of(line) not in constant]
    own.sort(key=lambda line: key_of(line) == "seed")
    room = LONGEST // max(1, len(own)) - 1
    separator = str(section.job.config.override_dirname.item_sep)
    return separator.join(_short(line, room) for line in own)


@functools.lru_cache
def _constant(lines: tuple[str, ...]) -> frozenset[str]:
    """Return the keys to which a sweep gives one value, and those that are no settings."""
    found = set(CONTROL)
    for override in OverridesParser.create().parse_overrides([*lines]):
        one = override.is_choice_sweep() and len(getattr(override.value(), "list", ())) == 1
        if one or not override.is_sweep_override():
            found.add(key_of(str(override.input_line)))
    return frozenset(found)


def _short(line: str, room: int) -> str:
    """Write a setting in as many letters as there is room, without a section's brackets."""
    text = re.sub(r"[][{}\"' ]", "", line.lstrip("+")).replace(":", "=")
    if len(text) <= room:
        return text
    head = (room - 2) // 2
    return f"{text[:head]}--{text[head + 2 - room :]}"
