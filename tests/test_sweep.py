from __future__ import annotations

import pytest

from bptt_lab import runs
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import resume
from bptt_lab.runs.sweep import announce, print_table


def job(folder, status, overrides, summary=None, reason=""):
    folder.mkdir(exist_ok=True)
    runs.write_status(folder, status, reason)
    runs.write_json(folder / runs.MANIFEST, {"overrides": overrides})
    if summary is not None:
        runs.write_json(folder / runs.SUMMARY, summary)


def test_table_names_what_differs_and_every_failure(tmp_path, capsys):
    values = (1, 8, 9, 10)
    folders = [f"{number:03d}_gradient.k={k}" for number, k in enumerate(values)]
    lines = [["gradient=truncated", f"gradient.k={k}"] for k in values]
    announce(tmp_path, "bptt-train -m ...", folders, lines)
    for folder, own, k in zip(folders[:2], lines[:2], values[:2], strict=True):
        summary = {
            "metrics": {"val/loss": 1.0, "test/loss": 0.25 * k, "test/accuracy": 0.5},
            "seconds": 3.14159,
        }
        job(tmp_path / folder, "completed", own, summary)
    job(tmp_path / folders[2], "failed", lines[2], reason="ValueError: no")
    (tmp_path / folders[2] / "log.txt").touch()
    (tmp_path / "multirun.yaml").touch()

    assert print_table(tmp_path) == 2
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["job", "gradient.k", "test/loss", "test/accuracy", "seconds", "status"]
    assert rows[2] == ["000", "1", "0.2500", "0.5000", "3.1", "completed"]
    assert rows[3] == ["001", "8", "2.0000", "0.5000", "3.1", "completed"]
    assert rows[5] == ["003", "10", "waiting"]
    assert f"failed: {folders[2]}: ValueError: no\n  see {tmp_path / folders[2] / 'log.txt'}" in out
    assert "2 of 4 jobs completed" in out


def test_jobs_of_a_sweeper_that_chose_as_it_went_are_found(tmp_path, capsys):
    job(tmp_path / "0", "completed", ["seed=3"], {"metrics": {"test/loss": 1.0}})
    job(tmp_path / "1", "diverged", ["seed=4"], reason="the loss is nan at step 4")
    (tmp_path / ".submitit").mkdir()
    assert print_table(tmp_path) == 1
    out = capsys.readouterr().out
    assert "diverged: 1: the loss is nan at step 4" in out and "1 of 2 jobs completed" in out


def test_the_list_of_jobs_is_written_once(tmp_path):
    announce(tmp_path / "sweep", "first", ["0"], [["seed=0"]])
    announce(tmp_path / "sweep", "second", ["1"], [["seed=1"]])
    (run,) = runs.read_sweep(tmp_path / "sweep")
    assert (run.folder.name, run.overrides, run.status) == ("0", ("seed=0",), "waiting")


def test_jobs_of_a_sweep_are_inside_its_folder(tmp_path):
    outside = tmp_path / "outside"
    job(outside, "completed", ["seed=0"])
    announce(tmp_path / "sweep", "", ["../outside", f"{outside}/1"], [["seed=0"], ["seed=1"]])
    listed = runs.read_sweep(tmp_path / "sweep")
    assert [run.folder.parent for run in listed] == [tmp_path / "sweep"] * 2
    assert [run.status for run in listed] == ["waiting"] * 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([["seed=0"]], "it has 2 jobs, not 1"),
        ([["seed=0"], ["seed=1"], ["seed=2"]], "it has 2 jobs, not 3"),
        ([["seed=0"], ["seed=7"]], "its job 1 is seed=1, not seed=7"),
        ([[]], "its job 0 is seed=0, not without it; give what"),
        ([["seed=0", "num_threads=1"]], "its job 0 is seed=0 alone, not num_threads=1; give"),
        ([["seed=0"]], r"give what it began with: bptt-train -m seed=0,1 resume=/"),
    ],
)
def test_a_sweep_is_continued_with_the_jobs_that_it_began_with(tmp_path, lines, message):
    command = f"bptt-train -m seed=0,1 hydra.sweep.dir={tmp_path}"
    announce(tmp_path, command, ["0", "1"], [["seed=0"], ["seed=1"]])
    resume.refuse_changed_sweep(tmp_path, [["seed=0"], ["seed=1", "resume=there"]])
    with pytest.raises(ConfigError, match=message):
        resume.refuse_changed_sweep(tmp_path, lines)
