"""From a command line to the jobs that it asks for, each of them validated before the first starts.

Neither torch nor lightning is imported here, so that a mistake is refused in well under a second.
"""

import argparse
import collections
import inspect
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bptt_lab import runs
from bptt_lab.commands.search import record as search
from bptt_lab.commands.train.steps import count_steps
from bptt_lab.config import (
    components,
    compose,
    fleets,
    memory_limit,
    output_paths,
    schema,
    security,
)
from bptt_lab.config.compose import CommandLine, hydra_setting, num_values
from bptt_lab.config.errors import compose_choices, on_one_line
from bptt_lab.config.parse import parse
from bptt_lab.config.schema import Experiment
from bptt_lab.config.security import Typed
from bptt_lab.core.machine import cores
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import files, resume
from bptt_lab.runs.sweep import aligned

MOST_JOBS = 10_000  # of a sweep
LOCAL = (".BasicLauncher", ".ProcessLauncher", ".FleetLauncher")  # on this machine


class Plan(NamedTuple):
    """What a command line asks for, found to be possible."""

    command: CommandLine
    config: DictConfig  # of the run or the sweep, its `hydra` section included
    jobs: list[list[str]]  # overrides of each
    experiments: list[Experiment]  # of each
    sweep_dir: Path | None = None  # None for a single run
    folders: tuple[str, ...] = ()  # of a sweep's jobs, in its own; none where it chooses as it goes


def make_plan(args: argparse.Namespace) -> Plan:
    """Compose and validate every job of a command line.

    Raises:
        ConfigError: naming key, value, limit and way out, on one line.
    """
    with on_one_line(None, args.overrides):
        command, typed = security.open_command_line(args)
    with on_one_line(command, command.lines):
        _refuse_repeats(command.parse(command.lines))
        config = _of_run(command)
        if config is None:
            return _plan_of_sweep(command, typed)
        return _plan_of_run(command, typed, config)


def _of_run(command: CommandLine) -> DictConfig | None:
    """Compose a single run; None for a sweep, by -m or by hydra.mode, in a preset or typed."""
    if command.args.multirun:
        return None
    try:
        config = outline = command.compose(command.lines)
    except HydraException:  # a sweep's settings need not make a run
        if command.args.cfg:
            raise
        outline = command.outline(command.lines, RunMode.MULTIRUN)
        if outline.hydra.mode != RunMode.MULTIRUN:
            raise
    return config if command.args.cfg or outline.hydra.mode != RunMode.MULTIRUN else None


def _plan_of_run(command: CommandLine, typed: Typed, config: DictConfig) -> Plan:
    _validate_hydra(config)
    typed.refuse_settings(config, command.lines)
    # What --cfg shows may run elsewhere.
    experiment = _experiment(command, command.lines, config, typed, here=not command.args.cfg)
    folder = _folder(config, "hydra.run.dir", typed)
    resume.refuse_elsewhere(experiment.control.resume, folder, sweep=False)
    resume.refuse_changed_config(experiment, command.lines)
    shown = command.args.package if command.args.cfg else None
    if shown not in (None, "_global_") and OmegaConf.select(config, shown, default=None) is None:
        raise ConfigError(f"--package={shown}: there is no such section; leave it out for all")
    return Plan(command, config, [command.lines], [experiment])


def _plan_of_sweep(command: CommandLine, typed: Typed) -> Plan:
    reworded = command.free_constants()
    lines = [reworded.get(line, line) for line in command.lines]
    lines.append("hydra.mode=MULTIRUN")  # so that each job knows
    sweep = command.compose(lines, RunMode.MULTIRUN)
    _validate_hydra(sweep)
    typed.refuse_settings(sweep, lines)
    for part in ("launcher", "sweeper"):
        _validate_plugin(part, sweep.hydra[part])
    for override in command.parse(lines):
        if not num_values(override):
            raise ConfigError(f"{override.input_line}: holds no value, so no job; give some")
    space = search.space(command.loader, sweep) if search.is_search(sweep) else None
    if space is None and (number := command.count(sweep)) > MOST_JOBS:
        longest = max(command.parse(compose.swept(sweep)), key=num_values).input_line
        many = f"{number:,}" if number < 10**15 else f"some 10^{math.log10(number):.0f}"
        problem = f"makes a sweep of {many} jobs, of which {MOST_JOBS:,} are allowed"
        raise ConfigError(f"{longest}: {problem}; give fewer values, or draw some by bptt-search")
    jobs = command.expand(sweep) if space is None else space.corners()
    for same, times in collections.Counter(map(tuple, jobs)).items():
        if times > 1:
            raise ConfigError(f"{' '.join(same)}: the sweep holds this job {times} times; keep one")
    sweep_dir = _folder(sweep, "hydra.sweep.dir", typed)
    resume.refuse_elsewhere(sweep.resume, sweep_dir, sweep=True)
    if sweep.resume and space is not None:
        search.refuse_changed(sweep_dir, search.description(space, sweep.hydra.sweeper))
    elif sweep.resume:
        resume.refuse_changed_sweep(sweep_dir, jobs)
    elif (sweep_dir / runs.SWEEP).exists():
        problem = f"holds a sweep already; continue it with resume={sweep_dir}, or give another"
        schema.refuse("hydra.sweep.dir", sweep_dir, problem)
    subdir = OmegaConf.to_container(sweep, resolve=False)["hydra"]["sweep"]["subdir"]  # type: ignore[index,call-overload]
    if len(jobs) > 1 and "${" not in str(subdir):
        problem = f"{len(jobs)} jobs would share it; add ${{hydra.job.num}}, or leave it out"
        schema.refuse("hydra.sweep.subdir", subdir, problem)
    # Other launchers take jobs to other machines.
    here = str(sweep.hydra.launcher._target_).endswith(LOCAL)
    experiments, folders = [], []
    for number, job in enumerate(jobs):
        try:
            with on_one_line(command, job):
                config = compose.compose_job(command.loader, sweep, number, job)
                if command.searchpath or not command.loader.of_packages:
                    typed.refuse_settings_of_job(config, sweep, job)
                experiments.append(_experiment(command, job, config, typed, here))
                folders.append(hydra_setting(config, "sweep.subdir"))
        except ConfigError as error:
            which = f" (job {number} of {len(jobs)}: {' '.join(job)})" if len(jobs) > 1 else ""
            raise ConfigError(f"{error}{which}") from error
    known = tuple(folders) if command.knows_jobs(sweep) else ()
    return Plan(command, sweep, jobs, experiments, sweep_dir, known)


def _experiment(
    command: CommandLine, lines: list[str], config: DictConfig, typed: Typed, here: bool
) -> Experiment:
    """Validate one configuration; where a limit is broken, name a value that works."""
    plain = compose.resolved(config)
    typed.refuse_allowing(plain)
    try:
        return parse(plain, options=command.strategies, here=here)
    except ConfigError as error:
        key, _, rest = str(error).partition("=")
        if ";" in rest:
            raise
        choices = compose_choices(command, lines)
        default = schema.MISSING
        with suppress(OmegaConfBaseException):  # of a setting in a list
            default = OmegaConf.select(choices, key, default=default)
        shown = schema.show([*default] if OmegaConf.is_list(default) else default)
        if shown == schema.MISSING or rest.startswith(f"{shown}:"):
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


def _validate_hydra(config: DictConfig) -> None:
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


def _validate_plugin(part: str, section: DictConfig) -> None:
    """Refuse settings of a launcher or sweeper of ours outside their limits, or not installed."""
    target = str(section._target_)
    if not target.startswith("bptt_lab."):
        return
    kind = compose.admit(target)
    options: Any = OmegaConf.to_container(section, resolve=True)
    del options["_target_"]
    components.refuse_unknown(f"hydra.{part}", options, inspect.signature(kind).parameters)
    try:
        kind(**options)
    except ConfigError as error:
        prefix = "" if str(error).startswith("hydra/") else f"hydra.{part}."
        raise ConfigError(f"{prefix}{error}") from error


def _folder(config: DictConfig, key: str, typed: Typed) -> Path:
    """The folder that Hydra will make, if it may and can."""
    text = hydra_setting(config, key.removeprefix("hydra."))
    if not text:
        schema.refuse(key, text, "must name a folder; leave it out for a new one in outputs/")
    path = output_paths.check_folder(key, text, typed.keys)
    files.refuse_strange(path)
    nearest = next(parent for parent in (path, *path.parents) if parent.exists())
    failing = f"cannot be made, since {nearest}"
    if not nearest.is_dir():
        schema.refuse(key, text, f"{failing} is a file; give another folder")
    if not os.access(nearest, os.W_OK):
        schema.refuse(key, text, f"{failing} may not be written to; give another")
    return path


def show_plan(plan: Plan) -> None:
    """Print one row a job: overrides, status in a sweep that is continued, optimizer steps."""
    lengths: dict[str, int] = {}
    placed = _placed(plan)
    rows, total = [["job", "steps", "status", *["runs"][: len(placed)], "overrides"]], 0
    for number, (job, experiment) in enumerate(zip(plan.jobs, plan.experiments, strict=True)):
        steps, folder = count_steps(experiment, lengths), experiment.control.resume
        trainer = experiment.trainer
        if plan.folders and plan.sweep_dir is not None:
            folder = str(plan.sweep_dir / plan.folders[number])
        run = runs.read_run(Path(folder)) if folder else runs.Run(Path())
        total += 0 if run.is_done and not resume.ends_later(run, experiment) else steps or 0
        shown_steps = f"in {trainer.max_time}" if steps is None else str(steps)
        where = placed[number : number + 1]
        shown = " ".join(resume.experiment_lines(job))
        rows.append([str(number), shown_steps, run.status, *where, shown])
    print(aligned(rows))
    if plan.sweep_dir is not None and not plan.folders:
        print("a search draws its trials as it goes; shown are the ends of its space")
        return
    what = "job" if len(plan.jobs) == 1 else "jobs"
    print(f"{len(plan.jobs)} {what}, {total} steps to do; nothing was started (dry_run=true)")


def _placed(plan: Plan) -> list[str]:
    """Say of each job in which fleet it runs, or why alone; nothing with another launcher."""
    launcher = plan.config.get("hydra", {}).get("launcher", {})
    if plan.sweep_dir is None or not str(launcher.get("_target_")).endswith(".FleetLauncher"):
        return []
    threads = max(max(e.num_threads, e.device.devices) for e in plan.experiments)
    processes = min(launcher.n_jobs or max(1, cores() // threads), len(plan.jobs))
    configs = [experiment.plain() for experiment in plan.experiments]
    memory = int(fleets.SHARE * memory_limit.installed())
    return [
        f"alone: {place.why}" if place.fleet is None else f"in fleet {place.fleet}"
        for place in fleets.place(configs, processes, memory, launcher.replicas)
    ]
