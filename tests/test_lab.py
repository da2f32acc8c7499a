"""The lab: runs and sweeps from Python are those of the command line."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Forked, wait_for
from hydra.core.override_parser.overrides_parser import OverridesParser
from runs import QUICK

from bptt_lab import lab, runs
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients import Truncated
from bptt_lab.lab import process, records, start

SMALL = (*QUICK, "dataset=adding", "dataset.train_size=64", "dataset.num_steps=8")
ENDLESS = (*(line for line in SMALL if "max_epochs" not in line), "trainer.max_epochs=100000")
TRAIN = "bptt_lab.commands.train.cli:main"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_is_the_commands(here: Path) -> None:
    run = lab.train(*SMALL, {"gradient": "truncated", "gradient.k": 3, "seed": 2})
    words = (*SMALL, "gradient=truncated", "gradient.k=3", "seed=2")
    Forked(TRAIN, (*words, "hydra.run.dir=outputs/alone"), here).communicate()
    alone = lab.open("outputs/alone")
    assert isinstance(alone, lab.Run)
    assert run.status == alone.status == "completed"
    assert run.parameters_sha256 == alone.parameters_sha256
    assert run.record.overrides == alone.record.overrides == words
    assert run.record.manifest["command"] == alone.record.manifest["command"]
    lines = [(one.folder / runs.METRICS).read_text() for one in (run, alone)]
    assert lines[0] == lines[1]


def test_a_run_leaves_nothing_behind_in_this_process() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    torch.manual_seed(7)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    usual = lab.train(*SMALL)
    torch.set_default_dtype(torch.float64)
    try:
        odd = lab.train(*SMALL)
    finally:
        torch.set_default_dtype(torch.float32)
    assert odd.parameters_sha256 == usual.parameters_sha256
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_what_a_run_logged_and_shows() -> None:
    run = lab.train(*SMALL, {"seed": 5}, "seed=0", folder="mine")
    assert run.config["seed"] == 0
    assert run.folder == Path("mine").absolute()
    frame = run.metrics()
    assert frame["val/loss"].dropna().iloc[-1] == pytest.approx(run.results["val/loss"])
    assert set(run.references) == {"chance"}
    assert "completed, test/loss" in repr(run)
    assert run.plot()._repr_png_().startswith(b"\x89PNG")
    assert len(run.plot("val/accuracy").axes[0].lines) == 1
    with pytest.raises(ConfigError, match=r"val/nothing: was not logged; choose from .*val/loss"):
        run.plot("val/nothing")


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["gradient=nothing"], "gradient=nothing: there is no such option; choose from adaptive"),
        (["seed=-1"], "seed=-1: must be at least 0; leave it out for 0"),
        ([{"gradient": "truncated", "gradient.k": 0}], "gradient.k=0: must be at least 1"),
        ([3], "an override of type int: must be a text, as 'seed=1', or a mapping;"),
    ],
)
def test_an_error_is_the_commands_line(overrides: list[Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        lab.train(*overrides)
    assert str(caught.value).startswith(problem)
    assert "\n" not in str(caught.value)
    assert not Path("outputs").exists()


def test_a_run_that_diverges_says_so() -> None:
    with pytest.raises(lab.Diverged, match=r"(loss|gradient).*see outputs/"):
        lab.train(*SMALL, "optimizer=sgd", "optimizer.lr=1e30", "model.nonlinearity=relu")


def test_a_sweep_is_its_jobs() -> None:
    space = {"gradient": ["full", "truncated"], "seed": range(2)}
    sweep = lab.sweep(space, *SMALL, launcher="fleet")
    assert [run.status for run in sweep.runs] == ["completed"] * 4
    assert sweep.settings == ["gradient", "seed"]
    frame = sweep.table()
    assert list(frame["gradient"]) == ["full", "full", "truncated", "truncated"]
    assert list(frame["seed"]) == [0, 1, 0, 1]
    assert sweep.report.is_file()
    alone = lab.train(*SMALL, {"gradient": "truncated", "seed": 1})
    assert sweep.runs[3].parameters_sha256 == alone.parameters_sha256
    best = sweep.best("test/loss")
    assert best.results["test/loss"] == frame["test/loss"].min()
    assert sweep.best("test/accuracy").results["test/accuracy"] == frame["test/accuracy"].max()
    figure = sweep.plot("seed", "test/loss")
    assert len(figure.axes[0].get_legend().get_texts()) == 2
    assert sweep.plot("gradient", "test/loss").axes[0].get_legend() is None
    with pytest.raises(ConfigError, match=r"x=gradient.k: no run has it; choose from gradient"):
        sweep.plot("gradient.k")
    with pytest.raises(ConfigError, match="metric=nothing: no completed run has it"):
        sweep.best("nothing")
    with pytest.raises(ConfigError, match=r"seed=-1: must be at least 0.* \(job 1 of 2"):
        lab.sweep({"seed": [1, -1]}, *SMALL)
    again = lab.sweep(resume=sweep)
    assert again.folder == sweep.folder
    assert "4 of 4 runs completed" in repr(again)


def test_a_job_that_fails_is_in_the_table_and_a_warning() -> None:
    space = {"optimizer.lr": [1e-3, 1e30], "optimizer": "sgd", "model.nonlinearity": "relu"}
    with pytest.warns(UserWarning, match="1 of 2 jobs did not complete, .*diverged"):
        sweep = lab.sweep(space, *SMALL)
    assert sorted(sweep.table()["status"]) == ["completed", "diverged"]


def test_an_interrupt_saves_and_the_run_goes_on() -> None:
    main, seen = threading.get_ident(), []

    def interrupt() -> None:
        wait_for(lambda: Path("cut/checkpoints/last.ckpt").is_file())
        seen.append(runs.read_status(Path("cut")))
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt, match=r"lab.train\(resume='.*cut'\) goes on"):
        lab.train(*ENDLESS, "checkpoint_seconds=0.1", folder="cut")
    thread.join()
    assert seen == ["running"]
    run = lab.open("cut")
    assert isinstance(run, lab.Run)
    assert run.status == "interrupted"
    steps = json.loads((run.folder / runs.SUMMARY).read_text())["epochs"] + 2
    ended = lab.train(f"trainer.max_epochs={steps}", "force_resume=true", resume=run)
    whole = lab.train(*ENDLESS[:-1], f"trainer.max_epochs={steps}")
    assert ended.parameters_sha256 == whole.parameters_sha256


def test_a_script_needs_no_guard(here: Path) -> None:
    script = here / "script.py"
    script.write_text(
        f"from bptt_lab import lab\nrun = lab.train(*{SMALL!r})\nprint('ended', run.status)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, script.name], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.splitlines()[-1] == "ended completed"
    assert done.stdout.count("ended") == 1


@pytest.mark.parametrize(
    "value",
    [1, -2.5, 1e-3, True, None, "full", "a b", "it's", "null", "8", "a,b", "x=1", "", "ü", "a\\b",
     "a\\'b", "a\\", "a\\\\",
     [0.9, 0.999], ["a", "b c"], {"name": "full"}, "${seed}", "1e3", "~/file.npz", "# no"],
)  # fmt: skip
def test_a_value_is_read_as_it_was_written(value: Any) -> None:
    parser = OverridesParser.create()
    assert parser.parse_override(f"key={start._text(value)}").value() == value
    several = parser.parse_override(f"key={start._values([value, 7])}")
    assert several.is_sweep_override()
    assert [*several.sweep_iterator()][1] == 7


def test_values_of_numpy_and_torch() -> None:
    assert start._values(np.linspace(0, 1, 3).tolist()) == "0.0,0.5,1.0"
    assert start._text(np.float64(0.5)) == start._text(torch.tensor(0.5)) == "0.5"
    assert start._values(range(3)) == start._values((0, 1, 2)) == "0,1,2"


def test_what_is_no_run_cannot_be_opened(here: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run and no sweep; give a folder"):
        lab.open(here)
    with pytest.raises(ConfigError, match="is not a folder"):
        lab.open(here / "nowhere")
    with pytest.raises(ConfigError, match="leave it out"):
        lab.train(folder="a", resume="b")


def test_there_is_a_table_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"step": 1, "a": 1.0}, {"step": 1, "b": 2.0}, {"step": 3, "a": 4.0}]
    frame = records.table(records.by_step(lines), "step")
    assert frame.loc[3, "a"] == 4
    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = records.table(records.by_step(lines), "step")
    assert rows == [{"step": 1, "a": 1.0, "b": 2.0}, {"step": 3, "a": 4.0}]


def test_progress_reaches_a_notebook_without_codes_of_terminals(
    capsys: pytest.CaptureFixture[str],
) -> None:
    relay = process._Relay(sys.stdout, notebook=True)
    relay.take(b"\r\x1b[Kepoch 1\r\x1b[Kepoch 2")
    relay.take(b"\r\x1b[Kbptt-train: seed=-1: must be")
    relay.take(b" at least 0\nmore\n")
    relay.take(b"")
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert text.split("\r")[-1].endswith("more\n")
    assert "epoch 2" in text
    assert relay.said == ["seed=-1: must be at least 0"]


def test_a_network_is_diagnosed() -> None:
    run = lab.train(*SMALL)
    found = run.diagnose(short=Truncated(k=2))
    assert found.scalars["alignment/cosine_short"] <= 1
    assert found.scalars["truncation/cosine_k_008"] == pytest.approx(1)
    assert "recurrence/eigenvalues" in found.figures


def test_how_own_data_are_read_is_said_before_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    draws = np.random.default_rng(0)
    series = draws.normal(size=(40, 2))  # one series, meant as a single sequence
    lab.train("trainer.max_epochs=1", "model.hidden_size=4", data=(series, series[:, 0]))
    said = capsys.readouterr().out.splitlines()[0]
    assert said == "data: 40 sequences of 2 steps, 1 number a step; 1 number for each sequence"
