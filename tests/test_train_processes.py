"""`bptt-train` as its user runs it, in a folder of its own; where it matters, in a process too."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from commands import Forked, Fresh, wait_for

from bptt_lab import runs
from bptt_lab.commands.train import cli

ROOT = Path(__file__).parents[1]
QUICK = [
    "num_threads=1",
    "trainer.enable_progress_bar=false",
    "trainer.max_epochs=1",
    "model.hidden_size=8",
    "dataset.layout=rows",
    "callbacks=none",
]
WATCHED = [*QUICK[:-1], "callbacks.every_n_steps=20"]


def start(folder: Path, *arguments: str) -> Forked:
    return Forked("bptt_lab.commands.train.cli:main", arguments, folder)


def finish(process: Forked | Fresh) -> tuple[int, str, str]:
    out, err = process.communicate()
    return process.returncode, out, err


def found(folder: Path) -> list[runs.Run]:
    return [runs.read_run(path.parent) for path in sorted(folder.glob("*/status.json"))]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Run commands of this process in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # of earlier tests, now closed
    yield
    for handler in logging.getLogger().handlers:
        handler.close()


def test_a_run_ends_with_its_metrics_beside_chance_and_says_where_it_is(here, tmp_path, capfd):
    assert cli.main(QUICK) == 0
    out, err = capfd.readouterr()
    assert err == ""
    (run,) = (tmp_path / "outputs").iterdir()
    assert "test/accuracy" in out and "chance 0.1000" in out
    assert f"run folder   outputs/{run.name}" in out
    assert f"--logdir outputs/{run.name}" in out
    assert (run / ".hydra" / "config.yaml").exists()


def test_two_processes_by_one_command(tmp_path):
    code, out, _ = finish(start(tmp_path, *QUICK, "device=ddp_cpu"))
    assert code == 0
    (run,) = found(tmp_path / "outputs")
    assert run.status == "completed" and run.choices["device"] == "ddp_cpu"
    assert out.count("test/accuracy") == 1


def test_sweeps_started_in_one_second_keep_apart_and_end_in_a_table(tmp_path):
    sweep = ["-m", "gradient=full,truncated", "gradient.k=1,4", *QUICK]
    started = [start(tmp_path, *sweep) for _ in range(2)]
    for process in started:
        code, out, _ = finish(process)
        assert code == 0
        assert "3 of 3 jobs completed" in out  # full takes no k
        header = next(line for line in out.splitlines() if line.endswith("  status"))
        assert header.split()[:3] == ["job", "gradient", "gradient.k"]
        assert header.split()[-2:] == ["seconds", "status"]
    folders = sorted((tmp_path / "outputs").iterdir())
    assert len(folders) == 2
    hashes = [[job.parameters_sha256 for job in found(folder)] for folder in folders]
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0])) == 3


def test_a_job_of_a_sweep_is_the_run_of_its_own_command(here, tmp_path, monkeypatch):
    assert cli.main(["-m", "gradient=truncated,full", "seed=1", *QUICK]) == 0
    (sweep,) = (tmp_path / "outputs").iterdir()
    second = sorted(path for path in sweep.iterdir() if path.is_dir())[1]
    manifest = json.loads((second / "manifest.json").read_text())
    command = manifest["command"].split()
    assert command[0] == "bptt-train"
    alone = tmp_path / "alone"
    alone.mkdir()
    monkeypatch.chdir(alone)
    assert cli.main(command[1:]) == 0
    (run,) = found(alone / "outputs")
    assert run.parameters_sha256 == found(sweep)[1].parameters_sha256


BROKEN = """
from bptt_lab.gradients.full import Full

class Broken(Full):
    def assign(self, stack, *args, **kwargs):
        raise FloatingPointError("broken on purpose")
"""


def test_a_job_that_fails_is_told_at_the_end_and_stops_no_other(here, tmp_path, capfd):
    (tmp_path / "conf" / "gradient").mkdir(parents=True)
    (tmp_path / "conf" / "gradient" / "broken.yaml").write_text("_target_: mine.Broken\n")
    (tmp_path / "mine.py").write_text(BROKEN)
    arguments = ["--config-dir", "conf", "-m", "gradient=broken,full", "allow=[mine]", *QUICK]
    assert cli.main(arguments) == 1
    out = capfd.readouterr().out
    assert "1 of 2 jobs completed" in out
    assert "FloatingPointError: broken on purpose" in out.rpartition("completed")[0]
    (sweep,) = (tmp_path / "outputs").iterdir()
    assert [job.status for job in found(sweep)] == ["failed", "completed"]
    assert "Traceback" in (found(sweep)[0].folder / "log.txt").read_text()


@pytest.mark.slow  # it builds the C core once more
def test_the_wheel_finds_its_configs_from_another_folder(tmp_path):
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    copy = tmp_path / "source"
    copy.mkdir()
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, tracked):
        source = ROOT / name
        if not name.startswith("tests") and source.exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes(source.read_bytes())
    subprocess.run([*pip, "-w", str(tmp_path), str(copy)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = {"PYTHONPATH": str(tmp_path / "installed")}
    arguments = ("--cfg", "job", "gradient=truncated")
    code, out, _ = finish(Fresh("bptt_lab.commands.train.cli:main", arguments, elsewhere, path))
    assert code == 0 and "_target_: bptt_lab.gradients.truncated.Truncated" in out
    where = "import bptt_lab; print(bptt_lab.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where],
        env={**os.environ, **path},
        cwd=elsewhere,
        capture_output=True,
        text=True,
    )
    assert found.stdout.startswith(str(tmp_path / "installed"))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
@pytest.mark.parametrize("sweep", [False, True])
def test_a_signal_stops_a_run_and_is_told(number, code, sweep, tmp_path):
    many = ["-m", "seed=0,1"] if sweep else []
    long = [o.replace("max_epochs=1", "max_epochs=100000") for o in QUICK]
    long.append("checkpoint_seconds=0.2")
    process = start(tmp_path, *many, *long)
    begun = "outputs/**/checkpoints/last.ckpt"
    wait_for(lambda: list(tmp_path.glob(begun)) or process.poll() is not None)
    process.send_signal(number)
    returned, out, _ = finish(process)
    assert returned == code
    statuses = [json.loads(p.read_text()) for p in tmp_path.glob("outputs/**/status.json")]
    assert {status["status"] for status in statuses} == {"interrupted"}
    assert ("0 of 2 jobs completed" in out) == sweep


def test_a_strategy_of_the_users_folder_is_a_shadow_too(here, tmp_path, capfd):
    (tmp_path / "conf" / "gradient").mkdir(parents=True)
    option = "_target_: bptt_lab.gradients.truncated.Truncated\nk: 2\nmode: lag\n"
    (tmp_path / "conf" / "gradient" / "mine.yaml").write_text(option)
    shadow = "callbacks.shadow=[mine,truncated]"
    assert cli.main(["--config-dir", "conf", *WATCHED, shadow]) == 0
    (run,) = found(tmp_path / "outputs")
    tags = {tag for line in runs.read_metrics(run.folder) for tag in line}
    assert {"alignment/cosine_mine", "alignment/cosine_truncated"} <= tags
    assert [entry["name"] for entry in run.config["callbacks"]["shadow"]] == ["mine", "truncated"]
