"""A job's folder, which TensorBoard shows, says what tells it from the others and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from runs import QUICK

from bptt_lab import runs
from bptt_lab.commands.train import cli
from bptt_lab.commands.train.plan import make_plan
from bptt_lab.config import output_paths
from bptt_lab.config.arguments import parse_arguments


def names(*words: str) -> list[str]:
    """The folders of the jobs that a command line stands for."""
    output_paths.register()
    return list(make_plan(parse_arguments(["-m", *words])).folders)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["seed=0,1", "gradient=truncated", "gradient.k=4"], ["seed=0", "seed=1"]),
        (
            ["seed=0,1", "trainer.max_epochs=3", "gradient=full,truncated"],
            [
                *("gradient=full,seed=0", "gradient=truncated,seed=0"),
                *("gradient=full,seed=1", "gradient=truncated,seed=1"),
            ],
        ),
        (["optimizer.lr=choice(0.1)", "model.leak=0.5,1.0"], ["model.leak=0.5", "model.leak=1.0"]),
        (
            ["model={hidden_size:8,leak:0.5},{hidden_size:8,leak:1.0}"],
            ["model=hidden_size=8,leak=0.5", "model=hidden_size=8,leak=1.0"],
        ),
        (["num_threads=1,2"], ["num_threads=1", "num_threads=2"]),
        (["seed=choice(3)"], [""]),
        (
            ["hydra.sweeper.params={gradient.k:'4,8',gradient.mode:tail}", "gradient=truncated"],
            ["gradient.k=4", "gradient.k=8"],
        ),
    ],
)  # fmt: skip
def test_a_job_is_called_after_what_differs(words: list[str], expected: list[str]) -> None:
    found = [name.partition("_")[2] for name in names(*words)]
    assert sorted(found) == sorted(expected)


def test_no_setting_falls_off_the_end_of_a_name(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    for end in "ab":
        (folder / f"{end}.txt").write_text("to be or not to be " * 200)
    paths = ",".join(str(path) for path in sorted(folder.iterdir()))
    swept = ["optimizer.lr=0.1,0.2", "model.leak=0.5,1.0", "seed=0,1"]
    found = names("dataset=text", f"dataset.path={paths}", *swept)
    assert len({name.partition("_")[2] for name in found}) == len(found) == 16
    assert max(map(len, found)) <= 180
    keys = ("dataset.path=", "optimizer.lr=0.", "model.leak=", "seed=")
    assert all(key in name for key in keys for name in found)


@pytest.mark.parametrize("launcher", ["basic", pytest.param("process", marks=pytest.mark.slow)])
def test_a_sweep_of_another_naming_goes_on_in_its_folders(
    launcher: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    listed = [f"{n:03d}_dataset.layout=rows,seed={n}" for n in range(2)]
    common = [*(line.replace("false", "False") for line in QUICK), "dataset.layout=rows"]
    lines = [[*common, f"seed={n}"] for n in range(2)]
    jobs = [{"folder": f, "overrides": o} for f, o in zip(listed, lines, strict=True)]
    folder = tmp_path / "outputs" / "s"
    (folder / listed[0]).mkdir(parents=True)
    (folder / listed[0] / runs.STATUS).write_text('{"status": "completed"}')
    (folder / runs.SWEEP).write_text(json.dumps({"command": "", "jobs": jobs}))
    words = [*common, "seed=0,1", f"hydra/launcher={launcher}"]
    monkeypatch.setattr("sys.argv", ["bptt-train", "-m", *words, f"resume={folder}"])
    assert cli.main() == 0, capfd.readouterr()
    assert sorted(path.parent.name for path in folder.glob("*/status.json")) == listed
    assert [run.status for run in runs.read_sweep(folder)] == ["completed"] * 2
