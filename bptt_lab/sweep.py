"""The table at a sweep's end: every job's choices, final metrics, seconds and status."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bptt_lab import records


def read_jobs(sweep_dir: Path) -> dict[str, dict[str, Any]]:
    """Read the summary of every job, by folder name; a job without one never got to its end."""
    jobs = {}
    for folder in sorted(path for path in sweep_dir.iterdir() if path.is_dir()):
        summary = folder / "summary.json"
        lost = {"status": "lost", "reason": "the job left no summary", "overrides": []}
        jobs[folder.name] = json.loads(summary.read_text()) if summary.exists() else lost
    return jobs


def print_table(sweep_dir: Path) -> int:
    """Print one row a job, then the reason of each failure.

    Columns are the settings in which jobs differ, then the test metrics.

    Args:
        sweep_dir: the sweep's folder, one folder a job in it.

    Returns:
        The number of jobs that did not complete.
    """
    jobs = read_jobs(sweep_dir)
    settings = {
        name: dict(override.lstrip("+").partition("=")[::2] for override in job["overrides"])
        for name, job in jobs.items()
    }
    keys = list(dict.fromkeys(key for setting in settings.values() for key in setting))
    swept = [key for key in keys if len({s.get(key) for s in settings.values()}) > 1]
    tags = [tag for job in jobs.values() for tag in job.get("metrics", {})]
    metrics = [tag for tag in dict.fromkeys(tags) if tag.startswith("test/")]
    rows = [["job", *swept, *metrics, "seconds", "status"]]
    for name, job in jobs.items():
        values = job.get("metrics", {})
        rows.append(
            [
                name.partition("_")[0],
                *(settings[name].get(key, "") for key in swept),
                *(f"{values[tag]:.4f}" if tag in values else "" for tag in metrics),
                f"{job['seconds']:.1f}" if "seconds" in job else "",
                job["status"],
            ]
        )
    print(_aligned(rows))
    failures = {name: job for name, job in jobs.items() if job["status"] != "completed"}
    for name, job in failures.items():
        print(f"{job['status']}: {name}: {job['reason']}")
    print(f"{len(jobs) - len(failures)} of {len(jobs)} jobs completed")
    print(records.signpost("sweep folder", sweep_dir))
    return len(failures)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
