"""results.csv: one row a job, for any tool to read."""

from __future__ import annotations

import csv
from pathlib import Path

from bptt_lab.commands.report import tidy
from bptt_lab.commands.report.tidy import Sweep

BEFORE = ("seed", "status", "reason")
AFTER = ("seconds", "steps", "epochs", "parameters_sha256")


def write(sweep: Sweep, path: Path) -> None:
    """Write the header and a row a job: folder, swept keys, seed, status, metrics and the rest.

    What a job does not have is empty. Metrics keep all their digits.
    """
    tags = sorted({tag for job in sweep.jobs for tag in job.metrics})
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["folder", *sweep.keys, *BEFORE, *tags, *AFTER])
        for job in sweep.jobs:
            run, metrics = job.run, job.metrics
            values = [run.seconds, run.steps, run.epochs, run.parameters_sha256]
            writer.writerow(
                [
                    run.folder.name,
                    *map(tidy.exact, job.setting),
                    tidy.exact(job.seed),
                    run.status,
                    run.reason,
                    *(repr(metrics[tag]) if tag in metrics else "" for tag in tags),
                    *("" if value is None else value for value in values),
                ]
            )
