"""Everything that can be refused before the first job starts, in well under a second.

Neither torch nor lightning is imported here: a typing mistake should not cost a coffee, and the
hundredth job of a sweep should not be the first to say that its settings make no sense.
"""

from __future__ import annotations

import argparse
import collections
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from bptt_lab import schema
from bptt_lab.command_line import CommandLine, resolved, without_hydra
from bptt_lab.complaints import compose_choices, on_one_line
from bptt_lab.limits import ConfigError


class Plan(NamedTuple):
    """What a command line asks for, found to be possible."""

    jobs: list[list[str]]  # overrides of each
    sweep_dir: Path | None = None  # None for a single run
    reworded: Mapping[str, str] = {}  # overrides to hand to Hydra in other words


def check(args: argparse.Namespace) -> Plan:
    """Compose and check every job of a command line.

    Args:
        args: as `flags.parse_arguments` returns them.

    Raises:
        ConfigError: naming key, value, limit and way out, on one line.
    """
    with on_one_line(None, args.overrides):
        command = CommandLine(args)
    with on_one_line(command, command.lines):
        _refuse_repeats(command.parse(command.lines))
        if args.cfg or command.mode() == RunMode.RUN:
            return _check_run(command)
        return _check_sweep(command)


def _check_run(command: CommandLine) -> Plan:
    config = command.compose(command.lines)
    # What --cfg shows may run elsewhere.
    _check_job(command, command.lines, config, config, here=not command.args.cfg)
    _folder(config, "hydra.run.dir")
    _check_hydra(config)
    shown = command.args.package if command.args.cfg else None
    if shown not in (None, "_global_") and OmegaConf.select(config, shown, default=None) is None:
        raise ConfigError(f"--package={shown}: there is no such section; leave it out for all")
    return Plan([command.lines])


def _check_sweep(command: CommandLine) -> Plan:
    reworded = command.free_constants()
    lines = [reworded.get(line, line) for line in command.lines]
    sweep = command.compose(lines, RunMode.MULTIRUN)
    _check_hydra(sweep)
    for override in command.parse(lines):
        if override.is_discrete_sweep() and not [*override.sweep_string_iterator()]:
            raise ConfigError(f"{override.input_line}: holds no value, so no job; give some")
    jobs = command.expand(sweep)
    for same, times in collections.Counter(map(tuple, jobs)).items():
        if times > 1:
            raise ConfigError(f"{' '.join(same)}: the sweep holds this job {times} times; keep one")
    sweep_dir = _folder(sweep, "hydra.sweep.dir")
    subdir = OmegaConf.to_container(sweep, resolve=False)["hydra"]["sweep"]["subdir"]  # type: ignore[index,call-overload]
    if len(jobs) > 1 and "${" not in str(subdir):
        problem = f"{len(jobs)} jobs would share it; add ${{hydra.job.num}}, or leave it out"
        schema.refuse("hydra.sweep.subdir", subdir, problem)
    # Other launchers take jobs to other machines.
    here = str(sweep.hydra.launcher._target_).endswith(".BasicLauncher")
    for number, job in enumerate(jobs):
        try:
            with on_one_line(command, job):
                _check_job(command, job, command.compose_job(sweep, job), sweep, here)
        except ConfigError as error:
            which = f" (job {number} of {len(jobs)}: {' '.join(job)})" if len(jobs) > 1 else ""
            raise ConfigError(f"{error}{which}") from error
    return Plan(jobs, sweep_dir, reworded)


def _check_job(
    command: CommandLine, lines: list[str], config: DictConfig, hydra: DictConfig, here: bool
) -> None:
    """Check one configuration; where only a limit is broken, name a value that works."""
    try:
        schema.check_config(resolved(without_hydra(config), hydra), here=here)
    except ConfigError as error:
        key, _, rest = str(error).partition("=")
        choices = compose_choices(command, lines)
        default = OmegaConf.select(choices, key, default=schema.MISSING)
        shown = schema.show([*default] if OmegaConf.is_list(default) else default)
        if ";" in rest or shown == schema.MISSING or rest.startswith(f"{shown}:"):
            raise
        raise ConfigError(f"{error}; leave it out for {shown}") from error


def _refuse_repeats(overrides: list[Override]) -> None:
    """Refuse a key given twice, of which Hydra would silently take the last.

    Lightning's launcher of further processes repeats `hydra.*` keys, so those may be.
    """
    seen: dict[str, Any] = {}
    for override in overrides:
        if not override.key_or_group:
            raise ConfigError(f"{override.input_line}: has no key; write key=value")
        key = override.get_key_element().lstrip("+~")
        if key in seen and not key.startswith("hydra."):
            raise ConfigError(f"{override.input_line}: comes after {seen[key]}; give {key} once")
        seen[key] = override.input_line


def _check_hydra(config: DictConfig) -> None:
    """Refuse what Hydra would only trip over once it runs."""
    for part in ("launcher", "sweeper"):
        section = config.hydra[part]
        if not isinstance(section, DictConfig) or "_target_" not in section:
            schema.refuse(f"hydra.{part}", section, f"must be a section; choose with hydra/{part}=")
    batch = config.hydra.sweeper.get("max_batch_size")
    if batch is not None and batch < 1:
        schema.refuse("hydra.sweeper.max_batch_size", batch, "must be at least 1, or null")
    verbose = config.hydra.verbose
    if not isinstance(verbose, bool | str | ListConfig):
        schema.refuse("hydra.verbose", verbose, "must be true, false or a list of loggers")


def _folder(config: DictConfig, key: str) -> Path:
    """The folder that Hydra will make, if it can."""
    value = resolved(
        OmegaConf.create({"folder": f"${{hydra:{key.removeprefix('hydra.')}}}"}), config
    )
    text = str(value["folder"] or "")
    if not text:
        schema.refuse(key, text, "must name a folder; leave it out for a new one in outputs/")
    path = Path(text).absolute()
    nearest = next(parent for parent in (path, *path.parents) if parent.exists())
    if not nearest.is_dir():
        schema.refuse(key, text, f"cannot be made, since {nearest} is a file; give another folder")
    if not os.access(nearest, os.W_OK):
        schema.refuse(
            key, text, f"cannot be made, since {nearest} may not be written to; give another"
        )
    return path
