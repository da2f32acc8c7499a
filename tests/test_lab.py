"""The lab: runs and sweeps from Python are those of the command line."""

import io
import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from commands import Forked, wait_for
from hydra.core.override_parser.overrides_parser import OverridesParser
from report.sweep_folders import write_sweep
from runs import QUICK

from bptt_lab import lab, runs
from bptt_lab.config import schema
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients import Truncated
from bptt_lab.lab import figures, process, records, start
from bptt_lab.runs import resume
from bptt_lab.runs.outcome import Interrupted
from bptt_lab.training import fork_server

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


@pytest.mark.slow  # tests/test_notebook.py holds a sweep's jobs against the command's bits, too
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
    with pytest.raises(ConfigError, match=r"seed=-1: must be at least 0.* \(job 1 of 2"):
        lab.sweep({"seed": [1, -1]}, *SMALL)
    again = lab.sweep(resume=sweep)
    assert again.folder == sweep.folder
    assert "4 of 4 runs completed" in repr(again)


def test_a_sweep_has_a_best_run_and_pictures(here: Path) -> None:
    jobs = [
        {"gradient": name, "seed": seed, "final": final + 0.1 * seed}
        for name, final in (("full", 0.3), ("truncated", 0.2))
        for seed in range(2)
    ]
    sweep = lab.open(write_sweep(here / "sweep", [*jobs, {"status": "failed", "seed": 2}]))
    assert isinstance(sweep, lab.Sweep)
    assert sweep.settings == ["gradient", "seed"]
    assert [row["status"] for row in sweep.rows()] == [*["completed"] * 4, "failed"]
    for number, loss in ((1, math.nan), (2, 0.1)):
        summary = sweep.runs[number].folder / runs.SUMMARY
        content = json.loads(summary.read_text())
        content["metrics"]["test/loss"] = loss
        summary.write_text(json.dumps(content))
    assert sweep.best("test/loss").folder == sweep.runs[2].folder
    assert sweep.best("test/accuracy").folder == sweep.runs[1].folder
    figure = sweep.plot("seed", "test/loss")
    assert [text.get_text() for text in figure.axes[0].texts] == ["full", "truncated"]
    assert sweep.plot("gradient", "test/loss").legends == []
    with pytest.raises(ConfigError, match=r"x=gradient.k: no run has it; choose from gradient"):
        sweep.plot("gradient.k")
    with pytest.raises(ConfigError, match="y=status: must be a result"):
        sweep.plot("seed", "status")
    with pytest.raises(ConfigError, match="metric=nothing: no completed run has it"):
        sweep.best("nothing")


@pytest.mark.slow
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


@pytest.mark.slow
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
    assert start._values(np.array([1e-3, 0.5])) == "0.001,0.5"
    assert start._values(torch.tensor([1, 2])) == "1,2"
    assert start._values(range(3)) == start._values((0, 1, 2)) == "0,1,2"


NAMES = [pytest.param(name, marks=pytest.mark.slow) for name in ("a b", "it's", "a\\", "a,b {c}")]


@pytest.mark.parametrize("name", ['ü"$x', *NAMES])
def test_a_folder_of_any_name_is_continued(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = lab.train(*SMALL, folder=name)
    assert lab.train(resume=run).parameters_sha256 == run.parameters_sha256
    with pytest.raises(ConfigError, match="is a run, not a sweep"):
        lab.sweep("seed=0", resume=run)
    words = resume.continuing({"command": "bptt-train -m seed=0"}, run.folder)
    assert resume.overrides(words[2:])[-1] == f"hydra.run.dir={schema.quoted(str(run.folder))}"


def test_a_run_of_ones_own_strategy_is_continued_as_it_was_started(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "mine.py").write_text(
        "from bptt_lab.gradients import Full\n\n\nclass Mine(Full):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(here))
    own = ("gradient=full", "gradient._target_=mine.Mine", "allow=[mine]")
    run = lab.train(*SMALL, *own)
    assert lab.train(resume=run).parameters_sha256 == run.parameters_sha256
    with pytest.raises(ConfigError, match=r"add allow=\[mine\]"):
        lab.train(resume=run.folder)


def test_a_daemonic_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "current_process", lambda: SimpleNamespace(daemon=True))
    with pytest.raises(ConfigError, match=r"multiprocessing\.Pool; use threads, or lab\.sweep"):
        lab.train(*SMALL)


def test_words_that_train_no_network() -> None:
    with pytest.raises(ConfigError, match=r"-m: is of a sweep; use lab\.sweep"):
        lab.train("-m", "seed=0,1", *SMALL)
    for begin in (lab.train, lab.sweep):
        with pytest.raises(ConfigError, match=r"dry_run=true, .* train nothing; leave them out"):
            begin("dry_run=true", *SMALL)


def test_runs_in_threads_keep_to_their_own_data() -> None:
    done: dict[int, Any] = {}

    def work(number: int) -> None:
        inputs = np.random.default_rng(number).random((40, 400, 20)) + number
        done[number] = lab.train(*QUICK, data=(inputs, np.arange(40) % 2)), inputs

    main = sys.modules["__main__"]
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sys.modules["__main__"] is main
    for run, inputs in done.values():
        assert np.array_equal(np.load(run.config["dataset"]["path"])["inputs"], inputs)
    assert len(done) == len([*Path("outputs", "data").iterdir()]) == 4


@pytest.mark.slow
def test_nobody_need_read_what_a_run_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed, SimpleNamespace(write=len)):
        for name in ("stdout", "stderr"):
            with monkeypatch.context() as context:
                context.setattr(sys, name, stream)
                run = lab.train(*SMALL)
            assert run.status == "completed"


def test_data_that_cannot_be_written_are_refused(here: Path) -> None:
    (here / "outputs").touch()
    with pytest.raises(ConfigError, match=r"^data: cannot be written to outputs/data \(.*; make"):
        lab.train(*QUICK, data=(np.zeros((40, 3)), np.arange(40) % 2))


@pytest.mark.parametrize(("number", "error"), [(signal.SIGKILL, lab.Failed),
                                               (signal.SIGTERM, Interrupted)])  # fmt: skip
def test_a_run_that_is_killed(number: int, error: type[BaseException]) -> None:
    def kill() -> None:
        wait_for(lambda: Path("cut/checkpoints/last.ckpt").is_file())
        os.kill(int(Path("cut/.lock").read_text().split()[0]), number)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(error, match=signal.Signals(number).name):
        lab.train(*ENDLESS, "checkpoint_seconds=0.1", folder="cut")
    thread.join()


def test_an_interrupt_as_it_starts_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = fork_server.start

    def interrupted(*args: Any) -> Any:
        # Blocked here, it is delivered to another thread, as one to the whole process may be.
        thread = threading.Thread(target=signal.raise_signal, args=(signal.SIGINT,))
        thread.start()
        thread.join()
        process = begin(*args)
        started.append(process)
        return process

    started: list[Any] = []
    monkeypatch.setattr(fork_server, "start", interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt, match=r"^interrupted"):
            lab.train(*ENDLESS)
    assert [process.exitcode for process in started] == [130] * 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_that_raises_stops_the_run() -> None:
    def late(*_: object) -> None:
        raise TimeoutError

    def alarm() -> None:
        wait_for(lambda: Path("cut/checkpoints/last.ckpt").is_file())
        signal.pthread_kill(main, signal.SIGALRM)

    main, before = threading.get_ident(), signal.signal(signal.SIGALRM, late)
    thread = threading.Thread(target=alarm)
    thread.start()
    try:
        with pytest.raises(TimeoutError):
            lab.train(*ENDLESS, "checkpoint_seconds=0.1", folder="cut")
    finally:
        thread.join()
        signal.signal(signal.SIGALRM, before)
    wait_for(lambda: runs.read_status(Path("cut")) == "interrupted")


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


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([None, 0.5, 1], ["None", "0.5", "1"]),
        ([[0.9, 0.99], [0.5, 0.9]], ["[0.9, 0.99]", "[0.5, 0.9]"]),
        ([True, 1, "1e-3"], ["True", "1", "1e-3"]),
        ([float("nan"), 1], ["nan", "1"]),
        ([2, 1, 4], ["1", "2", "4"]),
    ],
)
def test_values_of_any_kind_are_drawn(values: list[Any], ticks: list[str]) -> None:
    rows = [{"x": value, "y": n, "by": [n]} for n, value in enumerate(values)]
    figure = figures.against("title", [*rows, {"y": 1.0}], "x", "y", ["by"])
    figure.draw_without_rendering()
    axes = figure.axes[0]
    numbers = ticks == ["1", "2", "4"]
    labels = axes.get_xticklabels() if numbers else axes.get_yticklabels()
    assert [text.get_text() for text in labels] == ticks
    names = axes.texts if numbers else figure.legends[0].get_texts()
    assert len(names) == len(values)


def test_all_strategies_are_named_and_nothing_is_not() -> None:
    rows = [{"x": 1, "y": 1.0, "gradient": f"{n}"} for n in range(13)]
    for shown, count in ((rows, 13), ([], 0)):
        axes = figures.against("t", shown, "x", "y", ["gradient"]).axes[0]
        assert len(axes.texts) == count


@pytest.mark.slow
def test_a_setting_that_is_nothing_is_drawn_and_one_that_is_not_there_is_not() -> None:
    sweep = lab.sweep({"trainer.gradient_clip_val": [None, 0.5]}, *SMALL, launcher="fleet")
    axes = sweep.plot("trainer.gradient_clip_val").axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["None", "0.5"]


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
