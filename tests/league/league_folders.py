"""Sweep folders of online runs without training: what a league reads of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SHA = "0123456789abcdef" * 4
STEPS = 100
FORECAST = "bptt_lab.tasks.mackey_glass.MackeyGlass"


def write_run(folder: Path, job: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Write a run folder: ten records of the loss, two of the shadow; a waiting job has none.

    The first eight records are 9, the last two around the job's `error`.
    """
    status = job.get("status", "completed")
    if status == "waiting":
        return
    folder.mkdir()
    rule, error, cosine = job.get("gradient", "snap1"), job.get("error", 0.1), job.get("cosine")
    settings = {"k": job["k"]} if "k" in job else {}
    dataset = {"_target_": job.get("task", FORECAST), "seed": job.get("seed", 0)}
    dataset |= {"series": job["series"]} if "series" in job else {}
    manifest = {
        "overrides": list(overrides),
        "choices": {"gradient": rule, "dataset": "chaos"},
        "config": {
            "seed": job.get("seed", 0),
            "gradient": {"_target_": f"x.{rule}", **settings},
            "dataset": dataset,
        },
        "seed": job.get("seed", 0),
    }
    records = [9.0] * 8 + [0.9 * error, 1.1 * error]
    lines: list[dict[str, Any]] = [
        {"step": STEPS // 10 * (i + 1), "train/loss": x} for i, x in enumerate(records)
    ]
    if job.get("offline"):
        lines = [{"step": 1, "val/loss": 1.0}]
    if cosine is not None:
        lines += [
            {"step": step, "exact_shadow/cosine": cosine + change, "exact_shadow/norm_ratio": 0.5}
            for step, change in ((50, 0.125), (100, -0.125))
        ]
    if status != "completed":
        lines = lines[:4]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text.replace("NaN", '"nan"').replace("Infinity", '"inf"'))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    state = {"status": status, "reason": job.get("reason", "")}
    (folder / "status.json").write_text(json.dumps(state))
    if status == "completed":
        summary = {"metrics": {"test/loss": 0.1}, "steps": STEPS, "epochs": job.get("epochs", 1)}
        summary["references"] = {"ar": {"loss": 1e-6 * (1 + job.get("seed", 0))}}
        (folder / "summary.json").write_text(json.dumps(summary | {"parameters_sha256": SHA}))


def write_sweep(folder: Path, jobs: Sequence[Mapping[str, Any]]) -> Path:
    """Write a sweep of jobs, each the arguments of `write_run`."""
    folder.mkdir()
    names = {"gradient": "gradient", "k": "gradient.k", "series": "dataset.series", "seed": "seed"}
    listed = []
    for number, job in enumerate(jobs):
        overrides = [f"{names[key]}={job[key]}" for key in names if key in job]
        name = f"{number:03d}"
        write_run(folder / name, job, overrides)
        listed.append({"folder": name, "overrides": overrides})
    content = {"command": "bptt-train experiment=league", "jobs": listed}
    (folder / "sweep.json").write_text(json.dumps(content))
    return folder


def league(
    rules: Mapping[str, float], seeds: int, cosines: Mapping[str, float] | None = None, **more: Any
) -> list[dict[str, Any]]:
    """Rules whose errors are so many times what the seed draws."""
    return [
        {"gradient": rule, "seed": seed, "error": times * math.exp(0.3 * seed), **more}
        | ({"cosine": cosines[rule]} if cosines and rule in cosines else {})
        for rule, times in rules.items()
        for seed in range(seeds)
    ]
