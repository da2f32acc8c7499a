"""bptt-verify tells a run that repeats from one that does not."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from runs import QUICK, config, job

from bptt_lab import runs
from bptt_lab.commands.verify import distance, main
from bptt_lab.core.machine import git_commit
from bptt_lab.runs.outcome import Interrupted
from bptt_lab.training import job as jobs
from bptt_lab.training import train


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    rows = ("dataset.layout=rows", "trainer.log_every_n_steps=9")
    assert jobs.attempt(config(*QUICK, *rows), folder, job()) == 0
    return folder


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def repeated(finished, monkeypatch):
    """The repetition, without training once more."""

    def attempt(experiment, folder, job):
        shutil.copytree(finished, folder)
        return 0

    monkeypatch.setattr(jobs, "attempt", attempt)


def change(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def shift_losses(run: Path, factor: float) -> None:
    lines = []
    for line in runs.read_metrics(run):
        if "val/loss" in line:
            line["val/loss"] *= factor
        lines.append(json.dumps(line))
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_a_run_that_repeats(run, capsys):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main([str(run)]) == 0
    assert "the same: " in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_one_loss_in_the_last_digit_is_a_difference(run, capsys):
    shift_losses(run, 1 + 1e-15)
    assert main([str(run)]) == 1
    out = capsys.readouterr().out
    assert "logged numbers: 1 of" in out and "val/loss at step 41" in out


def test_other_parameters_are_a_difference(run, capsys):
    change(run / "summary.json", parameters_sha256="0" * 64)
    assert main([str(run)]) == 1
    assert "parameters: different" in capsys.readouterr().out


def test_a_missing_number_is_a_difference(run, capsys):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:-1]))
    assert main([str(run)]) == 1


def test_ctrl_c_is_no_difference(run, capsys, monkeypatch):
    def interrupted(*args):
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr(train, "perform", interrupted)
    assert main([str(run)]) == 130
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and out.startswith("training again: the run took ")
    assert err.count("\n") == 1 and "interrupted by SIGINT" in err


@pytest.mark.parametrize(("factor", "code"), [(1.005, 0), (1.05, 1)])
def test_another_machine_has_a_tolerance(factor, code, run, capsys):
    change(run / "manifest.json", kernel="avx1024", processor="Analytical Engine")
    change(run / "summary.json", parameters_sha256="0" * 64)
    shift_losses(run, factor)
    assert main([str(run)]) == code
    out = capsys.readouterr().out
    assert "kernel: avx1024 then" in out and "processor: Analytical Engine then" in out
    assert "0.01 accepted" in out
    assert main([str(run), "--tolerance", "0.1"]) == 0


def test_a_diverged_run_repeats_too(tmp_path, capsys):
    wild = config(*QUICK, "dataset.layout=rows", "model.nonlinearity=identity", "model.gain=1e30")
    assert jobs.attempt(wild, tmp_path / "run", job()) == 3
    assert main([str(tmp_path / "run")]) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"forced": [{"config.seed": [0, 1]}]}, "force_resume=true"),
        ({"config": {}}, "section is missing"),
        ({"config": [1]}, "config=[1]: must be an object"),
        ({"choices": None}, "choices=null: must be an object"),
        ({"command": None}, "command=null: must not be null"),
        ({"overrides": None}, "overrides=null: must not be null"),
    ],
)
def test_what_cannot_be_run_again_is_refused(values, message, run, capsys):
    change(run / "manifest.json", **values)
    assert main([str(run)]) == 2
    assert message in capsys.readouterr().err


def test_a_sweep_is_refused_by_name(tmp_path, capsys):
    (tmp_path / "sweep.json").write_text('{"command": "bptt-train -m", "jobs": []}')
    assert main([str(tmp_path)]) == 2
    assert "is a sweep; give the folder of one of its jobs" in capsys.readouterr().err


def test_an_unfinished_run_is_refused(run, capsys):
    runs.write_status(run, "interrupted")
    assert main([str(run)]) == 2
    assert "bptt-train resume=" in capsys.readouterr().err


def spoil_summary(**values):
    return lambda run: change(run / "summary.json", **values)


def drop_sha(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    del summary["parameters_sha256"]
    (run / "summary.json").write_text(json.dumps(summary))


def pipe(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    os.mkfifo(run / "metrics.jsonl")


def linked(run: Path) -> None:
    run.rename(run.with_name("elsewhere"))
    run.symlink_to("elsewhere")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "summary.json").unlink(), "its summary.json is missing"),
        (spoil_summary(metrics={}), "its summary.json is damaged: it has no metrics"),
        (drop_sha, "has no parameters_sha256"),
        (spoil_summary(parameters_sha256="x"), "must be 64 hexadecimal digits"),
        (lambda run: (run / "metrics.jsonl").unlink(), "its metrics.jsonl is missing or empty"),
        (lambda run: (run / "metrics.jsonl").write_text(""), "metrics.jsonl is missing or empty"),
        (lambda run: change(run / "manifest.json", seed=7), "says seed=7 and config.seed=0"),
        (pipe, "metrics.jsonl: is no regular file; move it away"),
        (linked, "run: is a link, which is not followed; move it away"),
        (lambda run: (shutil.rmtree(run), os.mkfifo(run)), "run: is no folder; move it away"),
    ],
)
def test_what_lacks_something_to_compare_is_refused(damage, message, run, capsys):
    damage(run)
    assert main([str(run)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err


def test_a_hostile_manifest_executes_nothing(run, capsys):
    config_ = json.loads((run / "manifest.json").read_text())["config"]
    config_["gradient"] = {"_target_": "os.system", "command": f"touch {run}/canary"}
    change(run / "manifest.json", config=config_)
    assert main([str(run)]) == 2
    assert not (run / "canary").exists()


@pytest.mark.parametrize("elsewhere", [{}, {"kernel": "avx1024"}])
@pytest.mark.parametrize("metrics", [{"test/loss": 1e299}, {"test/loss": 2.0}, {"test/mine": 1.0}])
def test_a_number_of_the_end_is_a_difference(elsewhere, metrics, run, capsys, repeated):
    before = json.loads((run / "summary.json").read_text())["metrics"]
    change(run / "summary.json", metrics={**before, **metrics})
    change(run / "manifest.json", **elsewhere)
    assert main([str(run)]) == 1
    assert f"  {next(iter(metrics))} in summary.json: " in capsys.readouterr().out


def test_parameters_alone_differ_on_no_machine(run, capsys, repeated):
    change(run / "manifest.json", kernel="avx1024")
    change(run / "summary.json", parameters_sha256="0" * 64)
    assert main([str(run)]) == 1
    assert "different, though all logged numbers are the same" in capsys.readouterr().out


def test_another_config_is_no_other_machine(run, capsys, repeated):
    config_ = json.loads((run / "manifest.json").read_text())["config"]
    del config_["trainer"]["ema_decay"]
    change(run / "manifest.json", config=config_)
    shift_losses(run, 1.001)
    assert main([str(run)]) == 1
    assert "different, though machine" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--allow", "runs", "RUN"], ["RUN", "--allow", "runs,sampling"]]
)
def test_packages_stand_before_or_behind_the_folder(arguments, run, repeated):
    assert main([str(run) if each == "RUN" else each for each in arguments]) == 0


@pytest.mark.parametrize("value", ["-1", "-1e-9", "inf", "nan", "x"])
def test_a_tolerance_is_at_least_0(value, run, capsys):
    assert main([str(run), f"--tolerance={value}"]) == 2
    assert f"--tolerance={value}: must be " in capsys.readouterr().err


def test_distance():
    inf, nan = float("inf"), float("nan")
    assert distance(1.0, 1.0) == 0
    assert distance(2.0, 1.0) == 0.5
    assert distance(nan, nan) == 0
    assert distance(nan, 1.0) == inf
    assert distance(inf, inf) == 0
    assert distance(None, inf) == inf


def test_a_run_of_another_commit_may_log_at_other_steps(run, capsys):
    change(run / "manifest.json", git_commit="0" * 40)
    log = run / "metrics.jsonl"
    log.write_text('{"step": 0, "credit/zero_fraction": 0.5}\n' + log.read_text())
    assert main([str(run)]) == 0
    said = capsys.readouterr().out
    assert "  credit/zero_fraction at step 0: 0.5 then, not logged now\n" in said
    assert "git_commit: '000" in said and "the same within the tolerance" in said
    change(run / "manifest.json", git_commit=git_commit())
    assert main([str(run)]) == 1  # of the same commit it may not
