"""A setting is whatever differs between jobs' resolved configs, however it was swept."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from bptt_lab.commands.horizon import longest
from bptt_lab.commands.report import results, write_report

from .sweep_folders import write_sweep

CONFIG: dict[str, Any] = {
    "seed": 0,
    "model": {"hidden_size": 8, "leak": 1.0},
    "gradient": {"_target_": "x.Truncated", "k": 16, "mode": "tail"},
    "dataset": {"_target_": "bptt_lab.tasks.digits.Digits", "layout": "rows", "seed": 0},
    "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.1, "betas": [0.9, 0.999]},
    "callbacks": {"shadow": [{"name": "uoro", "seed": 0}]},
    "checkpoint_seconds": 10,
}
CHOICES = {"gradient": "truncated", "dataset": "digits", "model": "orthogonal"}
FULL = {"gradient": {"_target_": "x.Full"}, "choices": {**CHOICES, "gradient": "full"}}


def changed(seed: int, lines: list[str], **sections: dict[str, Any]) -> dict[str, Any]:
    """A manifest of a job with some sections changed."""
    config = copy.deepcopy(CONFIG)
    choices = sections.pop("choices", CHOICES)
    for name, section in sections.items():
        whole = "_target_" in section
        config[name] = section if whole else {**config[name], **section}
    for place in (config, config["dataset"], config["callbacks"]["shadow"][0]):
        place["seed"] = seed
    config["checkpoint_seconds"] += seed  # leaves no trace
    lines = [*lines, f"seed={seed}"]
    return {"overrides": lines, "choices": choices, "config": config, "command": "bptt-train"}


def sweep(folder: Path, settings: list[tuple[list[str], dict[str, Any]]]) -> Path:
    """A sweep over settings, each its lines and sections, with two seeds."""
    path = write_sweep(folder, [{"seed": n, "final": 0.1 * n} for n in range(2 * len(settings))])
    listed = json.loads((path / "sweep.json").read_text())
    for number, job in enumerate(listed["jobs"]):
        lines, sections = settings[number // 2]
        manifest = changed(number % 2, lines, **copy.deepcopy(sections))
        job["overrides"] = manifest["overrides"]
        (path / job["folder"] / "manifest.json").write_text(json.dumps(manifest))
    (path / "sweep.json").write_text(json.dumps(listed))
    return path


PAIRS: dict[str, tuple[list[tuple[list[str], dict[str, Any]]], list[str]]] = {
    "a key": (
        [([f"model.leak={leak}"], {"model": {"leak": leak}}) for leak in (0.5, 1.0)],
        ["leak=0.5", "leak=1"],
    ),
    "a section given whole": (
        [
            (
                [f"model={{hidden_size:{h},leak:{leak}}}"],
                {"model": {"hidden_size": h, "leak": leak}},
            )
            for h, leak in ((8, 0.5), (8, 1.0), (9, 1.0))
        ],
        ["hidden_size=8, leak=0.5", "hidden_size=8, leak=1", "hidden_size=9, leak=1"],
    ),
    "a list": (
        [
            ([f"optimizer.betas=[{b},0.999]"], {"optimizer": {"betas": [b, 0.999]}})
            for b in (0.8, 0.9)
        ],
        ["betas=[0.8,0.999]", "betas=[0.9,0.999]"],
    ),
    "a long list": (
        [(["x=y"], {"optimizer": {"betas": [0.123456789] * 20 + [b]}}) for b in (0.8, 0.9)],
        ["", ""],
    ),
    "a preset": (
        [
            (["experiment=a"], {"choices": {**CHOICES, "experiment": "a"}}),
            (["experiment=b"], {"choices": {**CHOICES, "experiment": "b"}, "model": {"leak": 0.5}}),
        ],
        ["a", "b"],
    ),
    "a group": ([(["gradient=truncated"], {}), (["gradient=full"], FULL)], ["truncated", "full"]),
    "a group and its own key": (
        [
            (["gradient=truncated", "gradient.k=16", "gradient.mode=tail"], {}),
            (["gradient=truncated", "gradient.k=4", "gradient.mode=tail"], {"gradient": {"k": 4}}),
            (["gradient=full"], FULL),
        ],
        ["truncated, k=16", "truncated, k=4", "full"],
    ),
    "a default that changed": ([([], {}), ([], FULL)], ["truncated", "full"]),
    "a default key that changed": (
        [([], {}), ([], {"dataset": {"layout": "pixels"}})],
        ["layout=rows", "layout=pixels"],
    ),
    "an instrument": (
        [([], {}), ([], {"callbacks": {"shadow": [{"name": "rtrl", "seed": 0}]}})],
        ["callbacks.shadow.0.name=uoro", "callbacks.shadow.0.name=rtrl"],
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_whatever_differs_is_a_setting_and_has_both_seeds(name: str, tmp_path: Path) -> None:
    settings, labels = PAIRS[name]
    groups = results.read(sweep(tmp_path / "s", settings)).groups("digits")
    assert [[job.seed for job in group.jobs] for group in groups] == [[0, 1]] * len(settings)
    if labels[0]:
        ends = [group.label.removeprefix("shadow.0.") for group in groups]
        assert ends == [label.removeprefix("callbacks.shadow.0.") for label in labels]


def test_seeds_of_one_setting_are_one(tmp_path: Path) -> None:
    (group,) = results.read(sweep(tmp_path / "s", [(["model.leak=1.0"], {})])).groups("digits")
    assert len(group.jobs) == 2


def test_a_job_without_a_config_is_of_the_setting_that_its_overrides_are(tmp_path: Path) -> None:
    settings, labels = PAIRS["a section given whole"]
    folder = sweep(tmp_path / "s", settings)
    manifests = sorted(folder.glob("*/manifest.json"))
    manifests[0].write_text("{")  # another job has its setting
    for manifest in manifests[2:4]:  # no other has
        manifest.unlink()
    read = results.read(folder)
    assert [group.label for group in read.groups("digits")] == labels
    assert [job.run.status for job in read.jobs[:1]] == ["unreadable"]


@pytest.mark.usefixtures("unpainted")
def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    finals = {"full": 0.7, "autograd": 0.7, "rtrl": 0.6}
    jobs = [{"gradient": g, "final": v} for g, v in finals.items()]
    page = write_report(write_sweep(tmp_path / "s", jobs)).read_text()
    assert "standard deviation of it:" not in page
    assert "with one seed; chance 0.1000. Equal to it: autograd." in page


def test_a_horizon_does_not_mix_settings(tmp_path: Path) -> None:
    def job(lr: float, k: int, loss: float) -> dict[str, Any]:
        config = {
            "seed": 0,
            "gradient": {"k": k, "mode": "tail"},
            "dataset": {"num_steps": 10},
            "optimizer": {"lr": lr},
        }
        choices = {"dataset": "adding", "gradient": "truncated"}
        manifest = {"config": config, "choices": choices, "overrides": [], "seed": 0}
        return {"manifest.json": manifest, "summary.json": {"metrics": {"test/loss": loss}}}

    jobs = [job(0.1, 4, 0.001), job(0.2, 4, 0.2), job(0.1, 8, 0.001), job(0.2, 8, 0.2)]
    for number, papers in enumerate(jobs):
        (tmp_path / f"{number}").mkdir()
        papers["status.json"] = {"status": "completed"}
        for name, content in papers.items():
            (tmp_path / f"{number}" / name).write_text(json.dumps(content))
    listed = [{"folder": str(number), "overrides": []} for number in range(len(jobs))]
    (tmp_path / "sweep.json").write_text(json.dumps({"command": "", "jobs": listed}))
    lines = {line.label: line for line in longest.lines(results.read(tmp_path))}
    assert {name: line.longest[4][0] for name, line in lines.items()} == {
        "truncated tail, lr=0.1": 10,
        "truncated tail, lr=0.2": 0,
    }
