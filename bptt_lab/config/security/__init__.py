"""What files from somebody else may say: options, presets, Hydra's own settings.

Whoever types may allow packages and write to any absolute path. A preset or another file of options
may do neither. `open_command_line` is the door: what it returns reads such files within bounds, and
knows what was typed.
"""

import argparse
from collections.abc import Mapping
from typing import Any, NamedTuple

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from bptt_lab.config import schema, targets
from bptt_lab.config.compose import CommandLine, given
from bptt_lab.config.security import hydra_section, preset_files
from bptt_lab.core.validation import ConfigError


def open_command_line(args: argparse.Namespace) -> tuple[CommandLine, "Typed"]:
    """Read a command line before anything is composed from it.

    Raises:
        ConfigError: for an option that leads out of its folder, a place to look for options that
            would be imported, or packages that may not be allowed.
    """
    preset_files.register()
    hydra_section.refuse_imports([args.config_path], "--config-path")
    command = CommandLine(args)
    overrides = command.parse(command.lines)
    for override in overrides:
        _refuse_paths(override)
    hydra_section.refuse_imports(_searchpath(command, overrides), "hydra.searchpath")
    allow: tuple[str, ...] = ()
    for override in overrides:
        if override.key_or_group == "allow" and override.is_sweep_override():
            problem = "holds for all jobs; write a list, as allow=[mypkg]"
            raise ConfigError(f"{override.input_line}: {problem}")
        if override.key_or_group == "allow" and not override.is_delete():
            allow += targets.packages(_listed(override.value()))
    keys = frozenset(override.get_key_element().lstrip("+~") for override in overrides)
    return command, Typed(keys, allow)


class Typed(NamedTuple):
    """What was typed, and therefore meant."""

    keys: frozenset[str]
    allow: tuple[str, ...]

    def refuse_allowing(self, config: Mapping[str, object]) -> None:
        """Refuse packages that a file allows, in a job's configuration as plain containers."""
        found: Any = config.get("allow", [])
        if list(self.allow) != ([found] if isinstance(found, str) else found):
            way_out = "only the command line may allow packages, as allow=[mypkg]"
            schema.refuse("allow", found, f"comes from a file; {way_out}")

    def refuse_settings(self, config: DictConfig, lines: list[str]) -> None:
        """Refuse Hydra's own settings where they could run code or write elsewhere.

        `lines` are the overrides that the configuration was composed from.
        """
        whole: Any = OmegaConf.to_container(config, resolve=False)
        hydra_section.refuse(whole["hydra"], lines, self.keys, self.allow)

    def refuse_settings_of_job(self, config: DictConfig, sweep: DictConfig, job: list[str]) -> None:
        """Do so for a job, whose options may set what the sweep's own configuration does not."""
        self.refuse_settings(config, [*given(sweep, "hydra"), *job])
        for key in ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir"):
            if (found := _written(config, key)) != _written(sweep, key):
                problem = "is set by an option that is swept; set it for the whole sweep"
                raise ConfigError(f"{key}={found}: {problem}")


def _refuse_paths(override: Override) -> None:
    """Refuse an option of a group, or a key, that is a path out of the folder of options."""
    texts = [override.key_or_group] if "/" in override.key_or_group else []
    if not override.is_sweep_override() and isinstance(override.value(), str):
        key = override.key_or_group
        is_option = key not in schema.CONTROL and not set(".$") & set(key)
        texts += [str(override.value())] if is_option and "/" in str(override.value()) else []
    for text in texts:
        if ".." in text.split("/") or text.startswith("/"):
            problem = "must name an option, not a path; add its folder with --config-dir"
            raise ConfigError(f"{override.input_line}: {problem}")


def _searchpath(command: CommandLine, overrides: list[Override]) -> list[object]:
    """The folders to look for options in, by the command line or else the primary file."""
    for override in overrides:
        if override.key_or_group == "hydra.searchpath":
            return _listed(override.value())
    primary = command.loader.repository.load_config(command.name)
    found = OmegaConf.select(primary.config, "hydra.searchpath") if primary else None
    return list(found or [])


def _written(config: DictConfig, key: str) -> str:
    """A setting of Hydra's as its file writes it."""
    section, _, name = key.removeprefix("hydra.").partition(".")
    return str(config.hydra[section]._get_node(name)._value())


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]
