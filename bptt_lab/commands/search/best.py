"""The best trial of a search, read from its folders. Nothing here needs Optuna."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from bptt_lab import runs
from bptt_lab.runs import Run

SEARCH = "search"  # in sweep.json: what is searched, by which metric, in which direction


def record(sweep_dir: Path) -> dict[str, Any]:
    """Return the search that sweep.json describes; empty where the sweep is no search."""
    found = runs.read_json(sweep_dir / runs.SWEEP).get(SEARCH)
    return found if isinstance(found, dict) else {}


def value(run: Run, metric: str) -> float | None:
    """Return a completed run's final metric; None where there is no finite one."""
    reached = run.metrics.get(metric, math.nan) if run.status == "completed" else math.nan
    return reached if math.isfinite(reached) else None


def print_best(sweep_dir: Path) -> None:
    """Print the best trial and the command that runs it again, where the sweep is a search."""
    search = record(sweep_dir)
    if not search:
        return
    metric, trials = search["metric"], runs.read_sweep(sweep_dir)
    reached = [(v, n) for n, run in enumerate(trials) if (v := value(run, metric)) is not None]
    if not reached:
        print(f"\nno trial reached a {metric}, so there is no best one")
        return
    sign = 1 if search["direction"] == "minimize" else -1
    best, number = min(reached, key=lambda pair: (sign * pair[0], pair[1]))
    run = trials[number]
    print(f"\nbest trial   {number}, {metric} {best:.6g} of {len(reached)} completed")
    print(f"settings     {' '.join(run.overrides)}")
    print(f"run folder   {runs.shown(run.folder)}")
    print(f"again        {run.manifest.get('command', '')}")
