"""The results of a sweep, read from its folder: a row a job, a group a setting.

A setting is what the sweep varied, seed left out. Values come from the resolved config of the job,
so that a default shows where another job overrides it; a job that never started has its overrides.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bptt_lab import runs
from bptt_lab.config import schema
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import Run, files

SEED = "seed"
Value = bool | int | float | str | None
SweptValues = tuple[Value, ...]  # a setting: the values of SweepResults.keys, in their order


@dataclass(frozen=True)
class JobResult:
    """A run within its sweep."""

    run: Run
    dataset: str
    strategy: str  # option chosen in the group `gradient`
    seed: Value
    values: SweptValues

    @property
    def metrics(self) -> Mapping[str, float]:
        """Final metrics by tag; NaN and inf among them."""
        return {tag: float(value) for tag, value in self.run.metrics.items()}


@dataclass(frozen=True)
class Group:
    """The jobs of one setting, which differ in their seeds."""

    values: SweptValues
    strategy: str
    label: str  # within its dataset, as "truncated, k=8"
    jobs: Sequence[JobResult]


@dataclass(frozen=True)
class SweepResults:
    """All jobs of a sweep."""

    folder: Path
    command: str
    began: float  # seconds since 1970: when sweep.json was written
    keys: Sequence[str]  # what was varied, seed left out
    jobs: Sequence[JobResult]

    @property
    def datasets(self) -> list[str]:
        """The datasets, in the order of the jobs."""
        return list(dict.fromkeys(job.dataset for job in self.jobs))

    def groups(self, dataset: str) -> list[Group]:
        """The settings of one dataset, in the order of the jobs."""
        jobs: dict[SweptValues, list[JobResult]] = {}
        for job in self.jobs:
            if job.dataset == dataset:
                jobs.setdefault(job.values, []).append(job)
        names = short_names(self.keys)
        keys = [key for key in self.keys if key != "dataset"]
        groups = []
        for values, members in jobs.items():
            by_key = dict(zip(self.keys, values, strict=True))
            label = describe({key: by_key[key] for key in keys}, names) or members[0].strategy
            groups.append(Group(values, members[0].strategy, label, members))
        return groups


def read(folder: Path) -> SweepResults:
    """Read a sweep's folder.

    Raises:
        ConfigError: where it is none.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{folder}: there is no such folder; give a sweep's, as outputs/..._sweep"
        )
    listed = folder / runs.SWEEP
    if not listed.exists():
        alone = (folder / runs.MANIFEST).exists() or (folder / runs.STATUS).exists()
        kind = "a single run's folder" if alone else "no sweep's folder"
        raise ConfigError(f"{folder}: this is {kind}; give one that `bptt-train -m` made")
    try:
        with files.reading(listed, files.LARGEST_PAPER) as file:
            command = json.loads(file.read())["command"]
        # A sweeper that chooses as it goes may list no jobs.
        found = runs.read_sweep(folder) or _run_folders(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{listed}: cannot be read, {error!r}; is it a sweep's?") from error
    if not found:
        raise ConfigError(f"{folder}: no job of this sweep has begun; wait for the first")
    keys = _swept(found)
    jobs = [_job(run, keys, found) for run in found]
    return SweepResults(folder, str(command), listed.stat().st_mtime, keys, jobs)


def value(run: Run, key: str) -> Value:
    """Return what a run has at a dotted key or group; None where it has no such setting."""
    if key in run.choices:
        return run.choices[key]
    found: Any = run.config
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    if found is not None and not isinstance(found, Mapping):
        return found if isinstance(found, bool | int | float | str) else schema.show(found)
    return _parsed(_overrides(run)[key]) if key in _overrides(run) else None


def show(value: Value) -> str:
    """Write a value shortly: 0.001, 1e-05, true; nothing for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else schema.show(value)


def exact(value: Value) -> str:
    """Write a value with all its digits."""
    return repr(value) if isinstance(value, float) else show(value)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Name each key by its last part, where no other key ends like it."""
    ends = [key.rpartition(".")[2] for key in keys]
    return {key: end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)}


def describe(values: Mapping[str, Value], names: Mapping[str, str]) -> str:
    """Say a setting in words: options of groups by themselves, other values after their names."""
    words = [
        show(value) if _is_group(key) else f"{names[key]}={show(value)}"
        for key, value in values.items()
        if value is not None
    ]
    return ", ".join(words)


def order(value: Value) -> tuple[int, float, str]:
    """Sort numbers by size, before texts, before nothing."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (0, value if math.isfinite(value) else math.inf, "")
    return (2, 0.0, "") if value is None else (1, 0.0, show(value))


def _is_group(key: str) -> bool:
    return key in (*schema.PLUGIN_SECTIONS, *schema.SECTIONS, "experiment")


def _run_folders(folder: Path) -> list[Run]:
    manifests = sorted(folder.glob(f"*/{runs.MANIFEST}"))
    return [runs.read_run(manifest.parent) for manifest in manifests]


def _overrides(run: Run) -> dict[str, str]:
    pairs = (override.lstrip("+~").partition("=") for override in run.overrides)
    return {key: text for key, _, text in pairs}


def _parsed(text: str) -> Value:
    """Read an override's value as YAML would a plain scalar's."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"null": None, "true": True, "false": False}.get(text.lower(), text.strip("'\""))


def _swept(jobs: Sequence[Run]) -> list[str]:
    """Return the keys that the command line gave and in which jobs differ, groups first."""
    left_out = {SEED, *schema.CONTROL}
    keys = dict.fromkeys(key for run in jobs for key in _overrides(run) if key not in left_out)
    swept = [key for key in keys if len({value(run, key) for run in jobs}) > 1]
    # A data seed that goes along with the seed is another name for it.
    swept = [key for key in swept if any(value(run, key) != value(run, SEED) for run in jobs)]
    return sorted(swept, key=lambda key: (not _is_group(key), not key.startswith("gradient")))


def _job(run: Run, keys: Sequence[str], jobs: Sequence[Run]) -> JobResult:
    def choice(group: str) -> str:
        # One that has not started and does not name it has the default, as all others then have.
        known = (value(each, group) for each in (run, *jobs))
        return next((str(option) for option in known if option is not None), "")

    values = tuple(value(run, key) for key in keys)
    seed = value(run, SEED)
    seed = run.manifest.get(SEED) if seed is None else seed
    return JobResult(run, choice("dataset"), choice("gradient"), seed, values)
