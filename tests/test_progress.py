"""What is seen of a run and of a sweep while they go on, on a terminal and in a pipe."""

from __future__ import annotations

import io
import re
import sys

from runs import QUICK, config, job, quick_run, resumed

from bptt_lab import runs
from bptt_lab.runs import streams
from bptt_lab.training import job as jobs
from bptt_lab.training.launchers import standing
from bptt_lab.training.launchers.standing import Standing
from bptt_lab.training.launchers.worker import SweepJob
from bptt_lab.training.train import perform

RUN = ("dataset.layout=rows", "trainer.max_epochs=2", "trainer.log_every_n_steps=1")
BARRED = (*RUN, "trainer.enable_progress_bar=true")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    return sys.stderr


def test_a_run_in_a_pipe_is_a_line_now_and_then(tmp_path, capsys):
    summary = quick_run(tmp_path, *BARRED)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert len(lines) == 10 and "\r" not in out + err
    assert re.fullmatch(
        r"epoch 1 of 2, 11 %, \d\d:\d\d gone, \d\d:\d\d left, train/loss \d\.\d{4}", lines[0]
    )
    val = next(line["val/loss"] for line in runs.read_metrics(tmp_path) if "val/loss" in line)
    assert lines[5].startswith("epoch 2 of 2, 61 %") and lines[5].endswith(f"val/loss {val:.4f}")
    assert lines[-1].startswith("epoch 2 of 2, 100 %")
    assert summary["steps"] == 82


def test_a_run_on_a_terminal_is_one_bar(tmp_path, monkeypatch, capsys):
    screen = terminal(monkeypatch)
    quick_run(tmp_path, *BARRED)
    shown = screen.getvalue().split("\r\x1b[K")
    assert "\n" not in screen.getvalue()
    assert shown[0] == "" and shown[-1] == ""  # wiped out in the end
    assert shown[-2].startswith("epoch 2 of 2 100 %|##")
    assert all(len(line) <= 79 for line in shown)
    assert capsys.readouterr().out.startswith("\n: 2 epochs, 82 steps")


def test_a_bar_changes_no_number(tmp_path):
    first, second = (quick_run(tmp_path / name, *how) for name, how in
                     (("with", BARRED), ("without", RUN)))  # fmt: skip
    assert first["parameters_sha256"] == second["parameters_sha256"]
    with_bar, without = (tmp_path / name / "metrics.jsonl" for name in ("with", "without"))
    assert with_bar.read_bytes() == without.read_bytes()


def test_a_continued_run_goes_on_where_it_was(tmp_path, capsys):
    quick_run(tmp_path, *BARRED)
    capsys.readouterr()
    longer = config(*QUICK, *BARRED, "trainer.max_epochs=3")
    perform(resumed(longer, tmp_path, force=True), tmp_path, job())
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("epoch 3 of 3, 71 %") and len(lines) == 4


def test_a_run_says_that_it_loads_torch_before_it_does(tmp_path, monkeypatch, capsys):
    said = []

    def perform(*args):
        said.append(capsys.readouterr().err)

    monkeypatch.setattr("bptt_lab.training.train.perform", perform)
    assert jobs.attempt(config(*RUN), tmp_path / "loaded", job()) == 0
    monkeypatch.delitem(sys.modules, "torch")
    assert jobs.attempt(config(*RUN), tmp_path / "not", job()) == 0
    assert said == ["", "loading torch ...\n"]


def test_a_sweep_counts_its_jobs():
    stands = Standing(total=4, done=0, failed=0)
    assert stands.words(2) == "0 of 4 done, 2 running, 0 failed"
    stands.starts()
    stands.ended(completed=True)
    assert re.fullmatch(r"1 of 4 done, 1 running, 0 failed, \d\d:\d\d left", stands.words(1))
    for _ in range(3):
        stands.ended(completed=False)
    assert stands.words(0) == "4 of 4 done, 0 running, 3 failed"


def test_a_long_job_gives_a_sign_of_life(tmp_path, monkeypatch, capsys):
    work = SweepJob(3, (), tmp_path)
    stands = Standing(total=4, done=0, failed=0)
    stands.tell(lambda: [work])
    assert capsys.readouterr().out == ""  # not yet
    monkeypatch.setattr(standing, "SILENT", -1)
    stands.tell(lambda: [work])
    (tmp_path / "log.txt").write_text("x" * 1000 + "\nepoch 2 of 9\x1b[2J\n")
    stands.tell(lambda: [work])
    counts = "0 of 4 done, 1 running, 0 failed"
    assert capsys.readouterr() == (f"{counts}\n{counts}; job 3: epoch 2 of 9\\x1b[2J\n", "")
    monkeypatch.setattr(standing, "REDRAWN", -1)
    screen = terminal(monkeypatch)
    stands.tell(lambda: [work])
    assert screen.getvalue() == f"\r\x1b[K{counts}; job 3: epoch 2 of 9\\x1b[2J"
    assert capsys.readouterr().out == ""


def test_a_live_line_is_no_longer_than_the_terminal_is_wide(monkeypatch):
    screen = terminal(monkeypatch)
    streams.progress("x" * 200)
    assert screen.getvalue() == "\r\x1b[K" + "x" * 79
