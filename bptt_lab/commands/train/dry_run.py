"""`dry_run=true`: the jobs that a command line would start, and how many steps each takes."""

from __future__ import annotations

import json

from bptt_lab import runs
from bptt_lab.commands.train.plan import Plan
from bptt_lab.config.schema import Experiment
from bptt_lab.runs import resume
from bptt_lab.runs.sweep import aligned


def show(plan: Plan) -> None:
    """Print one row a job: overrides, status in a sweep that is continued, optimizer steps."""
    lengths: dict[str, int] = {}
    rows, total = [["job", "steps", "status", "overrides"]], 0
    folders = plan.folders or [None] * len(plan.jobs)
    for number, (job, experiment, folder) in enumerate(
        zip(plan.jobs, plan.experiments, folders, strict=True)
    ):
        steps = _steps(experiment, lengths)
        status = "waiting"
        if folder is not None and plan.sweep_dir is not None:
            status = runs.read_run(plan.sweep_dir / folder).status
        total += steps if status != "completed" else 0
        rows.append([str(number), str(steps), status, " ".join(resume.experiment_lines(job))])
    print(aligned(rows))
    if plan.sweep_dir is not None and not plan.folders:
        print("a search draws its trials as it goes; shown are the ends of its space")
        return
    what = "job" if len(plan.jobs) == 1 else "jobs"
    print(f"{len(plan.jobs)} {what}, {total} steps to do; nothing was started (dry_run=true)")


def _steps(experiment: Experiment, lengths: dict[str, int]) -> int:
    """Optimizer steps of a job: batches of an epoch, known from the data, times epochs."""
    key = json.dumps(experiment.dataset.section(), sort_keys=True)
    if key not in lengths:
        from bptt_lab.training.build import build

        lengths[key] = len(build(experiment).task.train_dataloader())
    trainer = experiment.trainer
    return -(-lengths[key] // trainer.accumulate_grad_batches) * trainer.max_epochs
