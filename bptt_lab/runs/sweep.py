"""A sweep: sweep.json lists its jobs when it begins, a table shows their results when it ends."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from bptt_lab import runs
from bptt_lab.config.schema import key_of
from bptt_lab.core.messages import columns, escaped, headed, printable, rounded

HIGHER_IS_BETTER = ("accuracy", "recall", "correlation", "score", "f1", "r2")
LOG = "log.txt"  # in a run folder: what the job's process printed, where it had one of its own


def announce(
    sweep_dir: Path, command: str, folders: Sequence[str], jobs: Sequence[Sequence[str]]
) -> None:
    """Write sweep.json, before the first job starts; one that is there already stays.

    `command` is what was typed, `folders` has each job's in the sweep's, `jobs` its overrides.
    """
    if (sweep_dir / runs.SWEEP).exists():
        return
    sweep_dir.mkdir(parents=True, exist_ok=True)
    pairs = zip(folders, jobs, strict=True)
    listed = [{"folder": folder, "overrides": list(lines)} for folder, lines in pairs]
    content = {"command": command, "cwd": os.getcwd(), "jobs": listed}
    runs.write_json(sweep_dir / runs.SWEEP, content)


def swept(folder: Path) -> list[str]:
    """Return the keys that tell a job from the others of its sweep; none outside of a sweep."""
    try:
        listed = runs.read_sweep_file(folder.parent)
    except runs.Damaged:  # a run needs no list of the others
        return []
    jobs = [settings_of(job["overrides"]) for job in listed.get("jobs", [])]
    if space := listed.get("search", {}).get("settings"):
        jobs.append({key_of(key): text for key, text in space.items()})
    return differing(jobs)


def settings_of(lines: Sequence[str]) -> dict[str, str]:
    """Return the texts of a job's overrides, by their keys."""
    return {key_of(line): line.partition("=")[2] for line in lines}


def differing(jobs: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the keys to which jobs give different values, or that some of them leave out."""
    keys = dict.fromkeys(key for job in jobs for key in job)
    return [key for key in keys if len({job.get(key) for job in jobs}) > 1]


def higher_is_better(metric: str) -> bool:
    """Whether more of a metric is better; of a loss, an error, a perplexity it is not."""
    return any(word in metric for word in HIGHER_IS_BETTER)


def print_table(sweep_dir: Path) -> int:
    """Print one row a job, then the failures with reason and log; return how many did not complete.

    Columns are the settings in which jobs differ, then the test metrics.
    """
    jobs = runs.read_sweep(sweep_dir)
    if not jobs:  # a sweeper that chose as it went
        jobs = [run for run in map(runs.read_job, sorted(sweep_dir.iterdir())) if run.overrides]
    settings = [settings_of(job.overrides) for job in jobs]
    own = differing(settings)
    tags = [tag for job in jobs for tag in job.metrics]
    metrics = [tag for tag in dict.fromkeys(tags) if tag.startswith("test/")]
    rows = [["job", *own, *metrics, "seconds", "status"]]
    for job, setting in zip(jobs, settings, strict=True):
        told = [setting.get(key, "") for key in own]
        told += [rounded(job.metrics[tag]) if tag in job.metrics else "" for tag in metrics]
        told += [f"{job.seconds:.1f}" if job.seconds is not None else "", job.status]
        rows.append([job.folder.name.partition("_")[0], *told])
    print(aligned(rows))
    failures = [job for job in jobs if job.status not in ("completed", "waiting")]
    if failures:
        print()
    for job in failures:
        print(f"{job.status}: {escaped(job.folder.name)}: {printable(job.reason)}")
        if (log := job.folder / LOG).exists():
            print(f"  see {runs.shown(log)}")
    completed = sum(job.status == "completed" for job in jobs)
    print(f"\n{completed} of {len(jobs)} jobs completed")
    print(runs.folder_and_board("sweep folder", sweep_dir))
    return len(jobs) - completed


def aligned(rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Lay out a table: a header, a rule, and rows of cells; some columns to the `right`."""
    rows = [[escaped(cell) for cell in row] for row in rows]
    layout = columns(rows, right)
    return "\n".join([headed(layout, rows[0]), *(layout.format(*row).rstrip() for row in rows[1:])])
