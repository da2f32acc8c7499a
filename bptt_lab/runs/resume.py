"""Continuing: find the run or sweep that `resume=` names; refuse settings it did not begin with."""

import dataclasses
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bptt_lab import runs
from bptt_lab.config import schema, signatures
from bptt_lab.config.components import renamed
from bptt_lab.config.parse import placed
from bptt_lab.config.schema import Experiment, key_of, refuse
from bptt_lab.config.strategies import packaged, shadow_sections
from bptt_lab.core.validation import ConfigError, seconds
from bptt_lab.runs import Run

# Settings that leave no trace in a result, so that a continued run may have others.
FREE = ("trainer.enable_progress_bar", "checkpoint_seconds", "loggers")
DATA = "dataset.path"  # relative to the folder in which it was typed
_OPTIMIZER = "optimizer._target_"
_DEFAULTS = "torch.optim.Adam", "torch.optim.AdamW"  # before the moving average, and since
_ENDS = ("max_epochs", "max_steps", "max_time")  # of trainer: how long, and nothing of how
_COMPARED = ("config", "data_sha256", "versions", "threads", "processes", "device", "kernel")


def overrides(lines: Sequence[str]) -> list[str]:
    """Return the overrides of a command line, with those that `resume=FOLDER` stands for.

    A run is continued by its own overrides, which its folder holds, and what is typed besides; a
    sweep by what is typed, which must be what it began with.

    Raises:
        ConfigError: for a folder that holds neither, or that was tampered with.
    """
    given = [line for line in lines if key_of(line) == "resume" and "=" in line]
    folder = schema.unquoted(given[0].partition("=")[2].strip()) if given else "null"
    if folder == "null":
        return list(lines)
    if not folder.strip():
        refuse("resume", folder, "must name a folder; give one out of outputs/, or leave it out")
    path = Path(os.path.abspath(folder))
    if (path / runs.SWEEP).is_file():
        return _with(lines, "hydra.sweep.dir", path)
    if not (path / runs.MANIFEST).is_file():
        there = "holds no run and no sweep" if path.is_dir() else "is not a folder"
        refuse("resume", folder, f"{there}; give a folder out of outputs/")
    manifest = runs.read_manifest(path)
    if not {"overrides", "config"} <= set(manifest):
        refuse("resume", folder, f"its {runs.MANIFEST} is damaged; start a new run")
    recorded: list[str] = manifest["overrides"]
    for line in recorded:
        key = key_of(line).partition("@")[0]
        if key in schema.CONTROL or key.partition(".")[0].partition("/")[0] == "hydra":
            refuse("resume", folder, f"its {runs.MANIFEST} sets {key}, which no run does")
    typed = {key_of(line) for line in lines}
    data = manifest["config"].get("dataset")
    file = data.get("path") if isinstance(data, dict) and not typed & {"dataset", DATA} else None
    if isinstance(file, str) and os.path.isabs(file):  # whatever folder this one is
        recorded = [*(o for o in recorded if key_of(o) != DATA), f"++{DATA}={schema.quoted(file)}"]
    return _with([*(o for o in recorded if key_of(o) not in typed), *lines], "hydra.run.dir", path)


def as_begun(experiment: Experiment, config: Mapping[str, Any], lines: Sequence[str]) -> Experiment:
    """Return the experiment with the defaults of the version that its run began with.

    What that version did not have, by the manifest's `config`, is null; where it has no moving
    average, Adam is the default. What the overrides set stays, for `compared` to judge.
    """
    typed, optimizer = {key_of(line) for line in lines}, experiment.optimizer
    changed: dict[str, Any] = {}
    before = config.get("optimizer", {})
    old = "ema_decay" not in config.get("trainer", {}) and not typed & {"optimizer", _OPTIMIZER}
    if old and (before.get("_target_"), optimizer.target) == _DEFAULTS:
        settings = {**before, **optimizer.settings, "_target_": before["_target_"]}
        if "optimizer.weight_decay" not in typed:
            settings["weight_decay"] = before.get("weight_decay")
        changed["optimizer"] = schema.Component.of(settings)
    for name, kind in schema.SECTIONS.items():
        new = [n for n, setting in schema.fields(kind).items() if not setting.required]
        known = config.get(name, new)
        absent = {n: None for n in new if n not in known and f"{name}.{n}" not in typed}
        changed[name] = dataclasses.replace(getattr(experiment, name), **absent)
    return dataclasses.replace(experiment, **changed)


def refuse_elsewhere(resumed: object, folder: Path, *, sweep: bool) -> None:
    """Refuse to begin a run, or a sweep, in a folder where `resume` names another one."""
    if not resumed:
        return
    known = Path(os.path.abspath(str(resumed)))
    listed = runs.read_json(known / runs.SWEEP)
    if listed and not sweep:
        command = shlex.join(continuing(listed, resumed))
        raise ConfigError(f"resume={resumed}: is a sweep; continue it by {command}")
    if sweep and not listed and (known / runs.MANIFEST).is_file():
        refuse("resume", resumed, "is a run, not a sweep; leave out -m")
    if str(known) != os.path.abspath(folder):
        refuse("resume", resumed, "must be typed, as resume=FOLDER; leave it out here")


def continuing(listed: Mapping[str, Any], folder: object) -> list[str]:
    """Return the words of the command that continues a sweep, from what its sweep.json says."""
    command = str(listed.get("command") or "bptt-train -m")
    try:
        words = shlex.split(command)
    except ValueError:  # written by somebody else
        words = command.split()
    words = [word for word in words if key_of(word) not in ("resume", "hydra.sweep.dir")]
    return [*words, f"resume={schema.word(str(folder))}"]


def refuse_changed_config(experiment: Experiment, lines: Sequence[str]) -> None:
    """Refuse a single run whose config is not what it began with, before torch is imported."""
    control = experiment.control
    if control.resume and not control.force_resume:
        run = runs.read_run(Path(control.resume))
        if run.config:
            now = as_begun(experiment, run.config, lines).plain()
            compared({"config": run.config}, {"config": now})
        refuse_early_end(experiment, run.epochs or 0, run.steps or 0)


def refuse_early_end(experiment: Experiment, epochs: int, steps: int) -> None:
    """Refuse to end a run before what it has trained, the begun epoch included."""
    for name, trained in (("max_epochs", epochs), ("max_steps", steps)):
        end = getattr(experiment.trainer, name)
        if end is not None and end < trained and not experiment.control.force_resume:
            problem = f"must be at least {trained}, which the run has trained; give that or more"
            refuse(f"trainer.{name}", end, problem)


def ends_later(run: Run, experiment: Experiment) -> bool:
    """Whether a run that has ended is asked for more epochs, steps or time than it was."""
    before = run.config.get("trainer", {})
    return any(_later(before.get(name), getattr(experiment.trainer, name)) for name in _ENDS)


def _later(before: object, now: float | str | None) -> bool:
    if not isinstance(before, int | float | str):
        return False
    try:
        return now is None or seconds(now) > seconds(before)
    except ValueError:  # of a manifest that no run wrote
        return False


def refuse_changed_sweep(folder: Path, jobs: Sequence[Sequence[str]]) -> None:
    """Refuse to continue a sweep with other jobs than it began with."""
    sweep = runs.read_sweep_file(folder)
    where = sweep.get("cwd", "")
    began = [_placed_lines(run.overrides, where) for run in runs.read_sweep(folder)]
    known = f"give what it began with: {shlex.join(continuing(sweep, folder))}"
    way_out = known if sweep.get("command") else "start a new sweep"
    for number, (old, new) in enumerate(zip(began, jobs, strict=False)):
        if old != (now := _placed_lines(new)):
            gone = shlex.join(line for line in old if line not in now)
            more = shlex.join(line for line in now if line not in old)
            more = more or (gone and "without it") or shlex.join(now)
            problem = f"its job {number} is {gone or shlex.join(old) + ' alone'}, not {more}"
            raise ConfigError(f"resume={folder}: {problem}; {way_out}")
    if len(began) != len(jobs):
        refuse("resume", folder, f"it has {len(began)} jobs, not {len(jobs)}; {way_out}")


def experiment_lines(lines: Sequence[str]) -> list[str]:
    """Return overrides without what only says how to go about it."""
    return [line for line in lines if key_of(line) not in schema.CONTROL]


def place(key: str, text: str, folder: str = "") -> str:
    """Return an override's value: that of the data's path absolute, any other as it is."""
    if key.lstrip("+~") != DATA or any(mark in text for mark in ",()[]{}"):
        return text
    return str(placed({"path": schema.unquoted(text)}, folder)["path"])


def _placed_lines(lines: Sequence[str], folder: str = "") -> list[str]:
    parts = [line.partition("=") for line in experiment_lines(lines)]
    return [f"{key}{mark}{place(key, text, folder)}" for key, mark, text in parts]


def compared(
    before: Mapping[str, Any], now: Mapping[str, Any], *, force: bool = False
) -> dict[str, object]:
    """Return the manifest to go on with, from that of the beginning and that of a run begun now.

    With `force` it goes on in spite of differences. The manifest keeps a note of each, and of an
    end that has moved, which needs no force.
    """
    changes = dict(differences(before, now))
    if not changes:
        return {**now, **before}
    ends = {f"config.trainer.{name}": name for name in _ENDS}
    moves_end = changes.keys() <= ends.keys()
    if moves_end and not _is_made_for_its_end(now, changes):  # the first epochs are the same
        again = {key: now[key] for key in ("overrides", "command") if key in now}
        config = before["config"]  # without the settings that the run's version did not have
        changed = {ends[key]: new for key, (_, new) in changes.items()}
        config = {**config, "trainer": {**config["trainer"], **changed}}
        moved = [*before.get("end_moved", []), changes]
        return {**now, **before, **again, "config": config, "end_moved": moved}
    if force:
        return {**now, "forced": [*before.get("forced", []), changes]}
    if moves_end:
        key, (_, new) = next(iter(changes.items()))
        problem = "would have changed the learning rates from the first step on, by its schedule"
        way_out = "start a new run, or continue all the same with force_resume=true"
        refuse(key.removeprefix("config."), new, f"{problem}; {way_out}")
    known = [dict(flat(_written_out(manifest))) for manifest in (before, now)]
    shared = [key for key in changes if all(key in one for one in known)]
    key = next(key for key in (*shared, *changes) if key not in ends)
    old, new = changes[key]
    if key in shared:
        more = f" (and {len(changes) - 1} more settings differ)" if len(changes) > 1 else ""
        problem = f"the run began with {schema.show(old)}{more}; give that"
    elif key in known[1]:
        problem = f"the run began without it, by its {runs.MANIFEST}; leave it out, start a new run"
    else:
        problem = f"the run's {runs.MANIFEST} has it, and this version does not; start a new run"
        new = old
    anyway = "or continue all the same with force_resume=true"
    refuse(key.removeprefix("config."), new, f"{problem}, {anyway}")


def _is_made_for_its_end(now: Mapping[str, Any], changes: Iterable[str]) -> bool:
    """Whether a schedule would have been another one for the whole run, had it ended there."""
    schedule = now["config"]["schedule"]
    needs_end = signatures.read(schedule["_target_"]).claim("needs_end", schedule)
    return bool(needs_end) and any(not key.endswith(".max_time") for key in changes)


def differences(
    before: Mapping[str, object], now: Mapping[str, object]
) -> Iterator[tuple[str, tuple[object, object]]]:
    """Yield each dotted key in which two manifests disagree, with both values.

    A run that was killed in its first seconds has a manifest without its machine.
    """
    keys = [key for key in _COMPARED if key in before]
    manifests = [{key: manifest.get(key) for key in keys} for manifest in (before, now)]
    old, new = (dict(flat(_written_out(manifest))) for manifest in manifests)
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key) and key.removeprefix("config.") not in FREE:
            yield key, (old.get(key), new.get(key))


def _written_out(manifest: Mapping[str, object]) -> Mapping[str, object]:
    """Write out what earlier versions put in other words: moved classes, shadows, paths."""
    config = renamed(manifest.get("config"))
    if not isinstance(config, dict):
        return manifest
    config = {**schema.UNSAID, **config, "dataset": placed(config.get("dataset", {}))}
    callbacks = config.get("callbacks", {})
    if callbacks.get("shadow"):
        found = shadow_sections(callbacks["shadow"], config.get("seed", 0), packaged())
        listed = [{"name": name, **section} for name, section in found.items()]
        config["callbacks"] = {**callbacks, "shadow": listed}
    return {**manifest, "config": config}


def flat(value: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield nested settings as dotted keys and values."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(item) if isinstance(item, tuple) else item


def _with(lines: Sequence[str], key: str, path: Path) -> list[str]:
    if any(key_of(line) == key for line in lines):
        raise ConfigError(f"{key}: the folder is that of resume=; leave it out")
    return [*lines, f"{key}={schema.quoted(str(path))}"]
