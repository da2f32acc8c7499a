"""A search: its space, what it refuses, and that neither a kill nor a restart changes it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from bptt_lab import runs
from bptt_lab.commands.search import cli, record
from bptt_lab.commands.search.space import Choice, Numbers, Space
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import Run

optuna = pytest.importorskip("optuna")

from bptt_lab.commands.search import draws  # noqa: E402  # needs Optuna
from bptt_lab.commands.search.sweeper import was_killed  # noqa: E402  # the launchers

GRADIENTS = {"full": {}, "truncated": {"k": 1}}
TINY = (
    "dataset=digits", "dataset.layout=rows", "model.hidden_size=4", "trainer.max_epochs=1",
    "num_threads=1", "callbacks=none",
)  # fmt: skip
SPACE = (
    "gradient=full,truncated",
    "gradient.k=range(1,9)",
    "optimizer.lr=tag(log,interval(1e-4,1))",
)
HERE = ("hydra/launcher=basic", "trainer.enable_progress_bar=false")


@pytest.fixture(autouse=True)
def path(monkeypatch):
    """Forget what a command puts on the path."""
    monkeypatch.setattr(sys, "path", [*sys.path])


def compose(lines):
    chosen = dict(line.split("=") for line in lines)
    return OmegaConf.create({"gradient": GRADIENTS[chosen["gradient"]]})


def space(*lines):
    return Space(OverridesParser.create().parse_overrides(list(lines)), compose)


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("a=1,2", Choice(("1", "2"))),
        ("a=choice(full,'x y')", Choice(("full", "x\\ y"))),
        ("a=interval(0.5,2)", Numbers(0.5, 2.0)),
        ("a=tag(log,interval(1e-4,1))", Numbers(1e-4, 1.0, log=True)),
        ("a=int(interval(1,20))", Numbers(1, 20, 1)),
        ("a=tag(log,int(interval(1,20)))", Numbers(1, 20, 1, log=True)),
        ("a=range(1,33)", Numbers(1, 32, 1)),
        ("a=range(9,1,-3)", Numbers(3, 9, 3)),
        ("a=tag(log,range(1,33))", Numbers(1, 32, 1, log=True)),
        ("a=range(0,1,0.25)", Numbers(0.0, 0.75, 0.25)),
    ],
)
def test_a_space_is_written_as_a_sweep(line, values):
    assert space(line).drawn == {"a": values}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a=3", "nothing to search"),
        ("a=choice(3)", "nothing to search"),
        ("a=range(3,4)", "nothing to search"),
        ("a=interval(2,1)", "from a number to a greater one"),
        ("a=interval(0,inf)", "from a number to a greater one"),
        ("a=tag(log,interval(0,1))", "greater than 0"),
        ("a=tag(log,range(1,9,2))", "cannot be log with a step"),
        ("a=tag(log,range(0.5,2,0.5))", "cannot be log with a step"),
        ("a=tag(log,choice(1,2))", "cannot be log"),
        ("a=tag(loog,interval(1,2))", "loog means nothing"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(line, said):
    with pytest.raises(ConfigError, match=said):
        space(line)


def first(key, values):
    return values.ends[0]


def last(key, values):
    return values.ends[-1]


def test_a_setting_is_drawn_only_for_options_that_have_it():
    searched = space("seed=3", *SPACE, "seed=4")
    assert searched.draw(first) == ["seed=4", "gradient=full", "optimizer.lr=0.0001"]
    assert searched.draw(last) == [
        "seed=4", "gradient=truncated", "gradient.k=8", "optimizer.lr=1.0",
    ]  # fmt: skip
    assert space("gradient=full,truncated", "gradient.q=range(3)").draw(first) == [
        "gradient=full", "gradient.q=0",
    ]  # fmt: skip  # a mistake stays one


def test_every_end_is_checked_beforehand():
    corners = [" ".join(job) for job in space(*SPACE[:2], "a=1,2,3").corners()]
    assert corners == [
        "gradient=full a=1", "gradient=full a=2", "gradient=full a=3",
        "gradient=truncated gradient.k=1 a=1", "gradient=truncated gradient.k=8 a=2",
        "gradient=truncated gradient.k=8 a=3",
    ]  # fmt: skip


def test_numbers_are_written_short_and_inside_their_limits():
    assert Numbers(0.0, 1.0).text(0.123456789) == "0.123457"
    assert Numbers(1e-6, 1.0).text(1.23456789e-5) == "1.23457e-05"
    assert Numbers(0.0, 0.99999999).text(0.99999998) == "0.99999998"
    assert Numbers(1, 8, 1).text(8) == "8"


def asked(name, trials, *, restart, seed=0, searched=None):
    """The jobs of a search whose values are known at once, in one study or each in its own."""
    searched, jobs, told = searched or space(*SPACE), [], []
    for _ in range(trials):
        if restart or not told:
            study = optuna.create_study()
            study.add_trials(told)
        lines = searched.draw(draws.next_trial(study, name, seed))
        values = [float(line.partition("=")[2]) for line in lines if line[-1].isdigit()]
        run = Run(Path(), "completed", overrides=tuple(lines), metrics={"val/loss": sum(values)})
        told.append(draws.ended(run, searched.drawn, "val/loss"))
        if not restart:
            study.tell(len(told) - 1, sum(values))
        jobs.append(tuple(lines))
    return jobs


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_a_restart_neither_repeats_nor_changes_a_draw(name):
    once = asked(name, 15, restart=True)
    assert asked(name, 15, restart=True) == once
    assert asked(name, 15, restart=True, seed=1) != once
    assert len(set(once)) == 15


def test_a_study_made_anew_knows_what_it_was_told():
    searched = space("a=range(1,9)", "b=x,y")
    assert asked("tpe", 15, restart=True, searched=searched) == asked(
        "tpe", 15, restart=False, searched=searched
    )


def test_settings_of_a_trial_are_drawn_apart():
    searched = space("a=interval(0,1)", "b=interval(0,1)")
    lines = asked("random", 20, restart=True, searched=searched)
    pairs = [(a.partition("=")[2], b.partition("=")[2]) for a, b in lines]
    assert not [pair for pair in pairs if pair[0] == pair[1]]


@pytest.mark.parametrize("line", ["a=tag(log,interval(1e-4,1))", "a=range(0,2,0.333333333)"])
def test_what_was_drawn_can_be_told(line):
    searched = space(line)
    for (text,) in asked("random", 20, restart=True, searched=searched):
        run = Run(Path(), "diverged", overrides=(text,))
        told = draws.ended(run, searched.drawn, "val/loss")
        assert told.state.name == "PRUNED"
        assert searched.drawn["a"].text(told.params["a"]) == text.partition("=")[2]


def test_a_run_with_a_value_that_is_not_drawn_is_refused():
    for line, text in (("a=1,2", "a=3"), ("a=range(1,9)", "a=x"), ("a=interval(0,1)", "a=2.0")):
        run = Run(Path("outputs/s/0"), "diverged", overrides=(text,))
        with pytest.raises(ConfigError, match=r"outputs/s/0: is no trial \(.*; start a new search"):
            draws.ended(run, space(line).drawn, "val/loss")


@pytest.mark.parametrize(
    ("run", "killed"),
    [
        ({"status": "failed"}, True),
        ({"status": "failed", "raised": True}, False),
        ({"status": "failed", "reason": "over its time limit of 3 s"}, False),
        ({"status": "interrupted", "reason": "over its time limit of 3 s"}, False),
        ({"status": "interrupted", "reason": "interrupted by SIGTERM"}, True),
        ({"status": "running"}, True),
        ({"status": "diverged"}, False),
        ({"status": "completed"}, False),
    ],
)
def test_killed_is_what_was_ended_from_outside(run, killed):
    assert was_killed(Run(Path(), **run)) is killed


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hydra.sweeper.n_trials=0", "n_trials=0: must be at least 1"),
        ("hydra.sweeper.n_trials=many", "n_trials=many: must be an integer"),
        ("hydra.sweeper.batch=0", "batch=0: must be at least 1"),
        ("hydra.sweeper.metric=loss", "metric=loss: must be a metric"),
        ("hydra.sweeper.direction=up", "direction=up: must be one of minimize, maximize"),
        ("hydra.sweeper.sampler=grid", "sampler=grid: must be one of tpe, random"),
        ("optimizer.lr=interval(low,high)", "optimizer.lr=interval(low,high): cannot be read"),
        ("optimizer.lr=interval(-1,1)", "optimizer.lr=-1.0: must be greater than 0"),
        ("optimizer.lr=interval(1,-1)", "optimizer.lr=interval(1,-1): must go from"),
        ("model.leek=interval(0.1,1)", "model.leek"),
        ("model.leak=interval(0.1,1.1)", "model.leak=1.1: must be at most 1"),
        ("gradient.k=range(1,4)", "gradient.k"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_one_line(tmp_path, monkeypatch, capsys, line, said):
    monkeypatch.chdir(tmp_path)
    searched = [] if line.startswith("optimizer") else ["optimizer.lr=0.1,0.2"]
    assert cli.main([*searched, line]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_without_optuna_the_way_out_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "optuna" else find(name, *a)
    )
    assert cli.main(["optimizer.lr=0.1,0.2"]) == 2
    said = "hydra/sweeper=search: needs the package optuna; run pip install 'bptt_lab[search]'"
    assert capsys.readouterr().err == f"bptt-search: {said}\n"


def test_nothing_is_imported_for_a_refusal():
    script = (
        "import sys; from bptt_lab.commands.search import cli; "
        "assert cli.main(['optimizer.lr=interval(2,1)']) == 2; "
        "assert not {'torch', 'optuna'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def sweep_dir(cwd):
    (folder,) = (cwd / "outputs").glob("*_sweep")
    return folder


def test_a_search_is_a_sweep_with_a_best_trial(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = [*TINY, *HERE, *SPACE, "hydra.sweeper.batch=2", "hydra.sweeper.metric=val/accuracy",
               "hydra.sweeper.direction=maximize"]  # fmt: skip
    assert cli.main([*command, "hydra.sweeper.n_trials=3"]) == 0
    out = capsys.readouterr().out
    folder = sweep_dir(tmp_path)
    trials = runs.read_sweep(folder)
    assert [run.status for run in trials] == ["completed"] * 3
    assert all(run.folder.is_dir() and run.folder.parent == folder for run in trials)
    assert [run.overrides for run in trials] == [tuple(run.manifest["overrides"]) for run in trials]
    reached = [run.metrics["val/accuracy"] for run in trials]
    winner = trials[reached.index(max(reached))]
    assert f"best trial   {trials.index(winner)}, val/accuracy {max(reached):.6g}" in out
    assert winner.folder.name in out.rpartition("best trial")[2]
    assert f"again        bptt-train {' '.join(TINY[:2])}" in out
    assert "3 of 3 jobs completed" in out
    assert re.findall(r"Launching (\d+) jobs", out) == ["2", "1"]

    # Continued for more trials, those that are there stay as they are.
    before = {run.folder: (run.folder / "status.json").stat().st_mtime_ns for run in trials}
    more = [*command, f"resume={folder.relative_to(tmp_path)}", "hydra.sweeper.n_trials=5"]
    assert cli.main([*more]) == 0
    later = runs.read_sweep(folder)
    assert [run.status for run in later] == ["completed"] * 5
    assert later[:3] == trials
    assert before == {f: (f / "status.json").stat().st_mtime_ns for f in before}
    assert len({run.overrides for run in later}) == 5

    # A search that is another one is refused, and so is a sweep that is none.
    capsys.readouterr()
    other = [
        *TINY,
        *HERE,
        *SPACE[:2],
        "optimizer.lr=interval(0.1,1)",
        f"resume={folder.relative_to(tmp_path)}",
    ]
    assert cli.main([*other, *command[-2:]]) == 2
    error = capsys.readouterr().err
    assert "optimizer.lr is 0.1 to 1.0, and the search began with 0.0001 to 1.0 (log)" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"metric": "test/loss"}, "hydra.sweeper.metric is test/loss"),
        ({"direction": "maximize"}, "hydra.sweeper.direction is maximize"),
        ({"settings": {"a": "1,2"}}, "seed is not given, and the search began with 3"),
        ({"settings": {"a": "1,2", "seed": "3", "b": "4"}}, "b is 4, and .* with not given"),
        ({"settings": {"a": "1,2", "seed": "4"}}, "seed is 4, and the search began with 3"),
    ],
)
def test_a_search_is_continued_as_it_began(tmp_path, changed, said):
    same = {"metric": "val/loss", "direction": "minimize", "settings": {"a": "1,2", "seed": "3"}}
    runs.write_json(tmp_path / runs.SWEEP, {"command": "", "jobs": [], record.SEARCH: same})
    record.refuse_changed(tmp_path, same)
    with pytest.raises(ConfigError, match=said):
        record.refuse_changed(tmp_path, {**same, **changed})


def test_a_sweep_that_is_no_search_is_not_continued_as_one(tmp_path):
    search = {"metric": "val/loss", "direction": "minimize", "settings": {}}
    runs.write_json(tmp_path / runs.SWEEP, {"jobs": []})
    record.refuse_changed(tmp_path, search)  # killed before it had begun
    runs.write_json(tmp_path / runs.SWEEP, {"jobs": [{"folder": "000", "overrides": []}]})
    with pytest.raises(ConfigError, match="no search"):
        record.refuse_changed(tmp_path, search)


def test_a_metric_that_no_run_reports_is_refused_after_the_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = [*TINY, *HERE, "optimizer.lr=0.1,0.2", "hydra.sweeper.metric=val/perplexity"]
    assert cli.main([*command, "hydra.sweeper.batch=1"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("bptt-search: hydra.sweeper.metric=val/perplexity: no run reports that")
    assert error.endswith("test/accuracy, test/loss, val/accuracy, val/loss")
    assert len(runs.read_sweep(sweep_dir(tmp_path))) == 1


UNRULY = Path(__file__).parent / "launchers"


def start(cwd, *arguments):
    """Start bptt-search in a folder."""
    return subprocess.Popen(
        [Path(sys.executable).with_name("bptt-search"), *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(UNRULY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def states(folder, *lines):
    """What Optuna is told of each trial."""
    drawn = space(*(lines or SPACE)).drawn
    return [draws.ended(run, drawn, "val/loss").state.name for run in runs.read_sweep(folder)]


WAYS = {
    "well": "COMPLETE", "raise": "FAIL", "kill": "FAIL", "exit_seven": "FAIL", "diverge": "PRUNED",
}  # fmt: skip
FAILING = (
    *TINY, "--config-dir", str(UNRULY / "conf"), "allow=[unruly]", "optimizer=unruly",
    f"optimizer.how=choice({','.join(WAYS)})", "hydra/launcher=process", "hydra.launcher.n_jobs=2",
    "hydra.sweeper.n_trials=8", "hydra.sweeper.batch=4", "hydra.sweeper.sampler=random",
    "hydra.sweeper.seed=7",
)  # fmt: skip


def ways(folder):
    return [run.overrides[-1].partition("=")[2] for run in runs.read_sweep(folder)]


@pytest.mark.slow
def test_what_fails_is_told_and_what_was_killed_runs_once_more(tmp_path):
    out, _ = (process := start(tmp_path, *FAILING)).communicate()
    assert process.returncode == 1, out
    drawn = ways(sweep_dir(tmp_path))
    assert len(drawn) == 8
    assert set(drawn) == set(WAYS)
    told = states(sweep_dir(tmp_path), f"optimizer.how={','.join(WAYS)}")
    assert told == [WAYS[way] for way in drawn]
    starts = [line for line in out.splitlines() if " starts " in line]
    assert len(starts) == 8 + sum(way in ("kill", "exit_seven") for way in drawn)
    assert "Traceback" not in out


@pytest.mark.slow
def test_fail_fast_ends_a_search_that_can_be_continued(tmp_path):
    out, _ = (process := start(tmp_path, *FAILING, "fail_fast=true")).communicate()
    assert process.returncode == 1, out
    folder = sweep_dir(tmp_path)
    assert len(ways(folder)) == 4
    assert any(map(was_killed, runs.read_sweep(folder)))
    resume = f"resume={folder.relative_to(tmp_path)}"
    out, _ = (process := start(tmp_path, *FAILING, resume)).communicate()
    assert process.returncode == 1, out
    told = states(folder, f"optimizer.how={','.join(WAYS)}")
    assert told.count("COMPLETE") == ways(folder).count("well")
    assert len(told) == 8


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_killed_again_and_again_is_the_search_undisturbed(tmp_path):
    command = [
        *TINY, "trainer.max_epochs=2", *SPACE, "hydra/launcher=process", "hydra.launcher.n_jobs=2",
        "hydra.sweeper.n_trials=14", "hydra.sweeper.batch=4", "checkpoint_seconds=0",
    ]  # fmt: skip
    command.remove("trainer.max_epochs=1")
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for folder in (undisturbed, disturbed):
        folder.mkdir()
    out, _ = (process := start(undisturbed, *command)).communicate()
    assert process.returncode == 0, out

    completed: dict[str, int] = {}
    kills, process = 0, start(disturbed, *command)
    while True:
        # Once some more trials have begun, at moments that differ from one time to the next.
        began, wanted = time.monotonic(), len(completed) + 1 + kills % 3
        while process.poll() is None and kills < 6:
            done = {
                path.parent.name
                for path in disturbed.glob("outputs/*/*/status.json")
                if runs.read_run(path.parent).status == "completed"
            }
            if len(done) >= wanted or time.monotonic() - began > 60:
                time.sleep(0.11 * kills)
                break
            time.sleep(0.02)
        if kills == 6 or process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        folder = sweep_dir(disturbed)
        for run in runs.read_sweep(folder):
            if run.status == "completed":
                modified = (run.folder / "summary.json").stat().st_mtime_ns
                assert completed.setdefault(run.folder.name, modified) == modified
        process = start(disturbed, *command, f"resume={folder.relative_to(disturbed)}")
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert kills >= 4

    one, other = (runs.read_sweep(sweep_dir(folder)) for folder in (undisturbed, disturbed))
    assert len(other) == 14
    assert [run.overrides for run in other] == [run.overrides for run in one]
    assert [run.parameters_sha256 for run in other] == [run.parameters_sha256 for run in one]
    assert len({run.overrides for run in other}) == 14
    for run in other:
        modified = (run.folder / "summary.json").stat().st_mtime_ns
        assert completed.get(run.folder.name, modified) == modified  # none was computed twice
    assert states(sweep_dir(disturbed)) == ["COMPLETE"] * 14
    assert json.loads((sweep_dir(disturbed) / runs.SWEEP).read_text())["search"]
