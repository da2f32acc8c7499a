"""Sweep folders without training: the files that jobs would have written."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DATASETS: dict[str, dict[str, Any]] = {
    "digits": {
        "config": {"_target_": "bptt_lab.tasks.digits.Digits", "loss": "cross_entropy"},
        "metric": "accuracy",
        "references": {"chance": {"loss": math.log(10), "accuracy": 0.1}},
    },
    "mackey_glass": {
        "config": {"_target_": "bptt_lab.tasks.mackey_glass.MackeyGlass"},
        "metric": "relative_error",
        "references": {
            "persistence": {"loss": 0.02, "relative_error": 1.0},
            "mean": {"loss": 0.05, "relative_error": 2.5},
        },
    },
}
SHA = "0123456789abcdef" * 4
CRASH = "RuntimeError: <script>alert('x')</script> & more"


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def write_job(
    folder: Path,
    *,
    status: str = "completed",
    reason: str = "",
    dataset: str = "digits",
    gradient: str = "full",
    k: int | None = None,
    lr: float = 0.001,
    seed: int = 0,
    final: float | None = None,
    steps: int = 300,
    overrides: Sequence[str] = (),
) -> None:
    """Write a run folder; a job that waits has none."""
    if status == "waiting":
        return
    folder.mkdir()
    task = DATASETS[dataset]
    write_json(folder / "status.json", {"status": status, "reason": reason})
    config = {
        "seed": seed,
        "gradient": {"_target_": f"x.{gradient}"} | ({} if k is None else {"k": k}),
        "dataset": {**task["config"], "seed": seed},
        "optimizer": {"_target_": "torch.optim.Adam", "lr": lr},
    }
    manifest = {
        "command": "bptt-train " + " ".join(overrides),
        "overrides": list(overrides),
        "choices": {"gradient": gradient, "dataset": dataset, "optimizer": "adam"},
        "config": config,
        "seed": seed,
        "processor": "A processor",
        "versions": {"python": "3.11"},
    }
    write_json(folder / "manifest.json", manifest)
    (folder / "train.log").write_text("log\n")
    higher = task["metric"] == "accuracy"
    level = final if final is not None else 0.5 + 0.01 * seed + 0.001 * (k or 100)
    last = steps if status == "completed" else steps // 2
    lines: list[dict[str, Any]] = [{"step": 0, "credit/zero_fraction": 0.0}]
    for step in range(steps // 10, last + 1, steps // 10):
        loss = 0.3 + (1 + 0.1 * seed) * math.exp(-step * (k or 10) / 1000)
        metric = level * step / steps if higher else level + 1 - step / steps
        lines.append({"step": step, "val/loss": loss, f"val/{task['metric']}": metric})
        lines.append({"step": step, "train/loss": loss, "gradient_norm/total": 1 / (step + seed)})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    if status == "diverged":
        text += '{"step": 999, "val/loss": "nan", "gradient_norm/total": "inf"}\n'
    if status != "completed":
        text += '{"step": 1000, "val/lo'  # killed while it wrote
    (folder / "metrics.jsonl").write_text(text)
    if status == "completed":
        summary = {
            "metrics": {"test/loss": 0.4, f"test/{task['metric']}": level, "val/loss": 0.41},
            "references": task["references"],
            "seconds": 2.5 + seed,
            "steps": steps,
            "epochs": 3,
            "parameters_sha256": SHA,
        }
        write_json(folder / "summary.json", summary)


def write_sweep(
    folder: Path, jobs: Sequence[dict[str, Any]], command: str = "bptt-train -m"
) -> Path:
    """Write a sweep of jobs, each the arguments of `write_job`; overrides follow from them."""
    folder.mkdir(parents=True)
    listed = []
    for number, job in enumerate(jobs):
        names = {"gradient": "gradient", "k": "gradient.k", "lr": "optimizer.lr"}
        names |= {"dataset": "dataset", "seed": "seed"}
        overrides = [f"{names[key]}={job[key]}" for key in names if key in job]
        name = f"{number:03d}_{','.join(overrides)}"
        write_job(folder / name, overrides=overrides, **job)
        listed.append({"folder": name, "overrides": overrides})
    write_json(folder / "sweep.json", {"command": command, "jobs": listed})
    return folder


def strategies(**more: Any) -> list[dict[str, Any]]:
    """Full BPTT and truncation to 4 and 16 steps, each with three seeds."""
    return [
        {**setting, "seed": seed, **more}
        for setting in (
            {"gradient": "full"},
            {"gradient": "truncated", "k": 4},
            {"gradient": "truncated", "k": 16},
        )
        for seed in range(3)
    ]


def half_finished() -> list[dict[str, Any]]:
    """A bit of everything that can befall a sweep."""
    jobs = strategies(dataset="digits") + strategies(dataset="mackey_glass")
    jobs[1] |= {"status": "failed", "reason": CRASH}
    jobs[4] |= {"status": "diverged", "reason": "train/loss is nan at step 120"}
    jobs[5] |= {"status": "interrupted", "reason": "SIGTERM"}
    jobs[7] |= {"status": "running"}
    jobs[10] |= {"final": math.nan}
    for job in jobs[12:]:
        job |= {"status": "waiting"}
    return jobs
