from __future__ import annotations

import pytest
from runs import QUICK, config, job

from bptt_lab import runs
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import sweep
from bptt_lab.runs.outcome import (
    CheckpointError,
    Diverged,
    Interrupted,
    conclude,
    conclude_process,
    exit_reason,
    mark,
    report,
)
from bptt_lab.training.job import attempt

LIMIT = "over its time limit of 3 s"


@pytest.mark.parametrize(
    ("own", "asked", "verdict"),
    # `asked` may say, after a bar, what the process ended by
    [
        (None, "", ("failed", "gone")),  # it never said a word
        ("running", "", ("failed", "gone")),
        ("running", "another failed", ("interrupted", "another failed")),
        ("running", f"{LIMIT}|killed by SIGKILL", ("failed", f"{LIMIT}, and would not stop")),
        ("running", f"{LIMIT}|killed by SIGTERM", ("interrupted", LIMIT)),
        (None, f"{LIMIT}|killed by SIGTERM", ("interrupted", LIMIT)),
        ("interrupted", LIMIT, ("interrupted", LIMIT)),
        ("interrupted", "", ("interrupted", "its own")),
        ("completed", LIMIT, ("completed", "its own")),
        ("failed", "another failed", ("failed", "its own")),
        ("diverged", "", ("diverged", "its own")),
    ],
)
def test_a_run_has_the_last_word_unless_it_left_none(tmp_path, own, asked, verdict):
    before = mark(tmp_path)
    if own is not None:
        runs.write_status(tmp_path, own, "its own")
    if own == "completed":
        runs.write_json(tmp_path / runs.SUMMARY, {"metrics": {"test/loss": 1.0}})
    asked, _, ended = asked.partition("|")
    conclude_process(tmp_path, before, ended or "gone", asked)
    run = runs.read_run(tmp_path)
    assert (run.status, run.reason) == verdict


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ValueError("no"), "failed", 1),
        (Diverged("the loss is nan"), "diverged", 3),
        (Interrupted(15), "interrupted", 143),
    ],
)
def test_the_first_process_to_end_says_how_the_run_ended(tmp_path, error, status, code):
    runs.write_status(tmp_path, "running")
    assert conclude(tmp_path, error) == code
    assert runs.read_run(tmp_path).status == status
    conclude(tmp_path, RuntimeError("the other process is gone"))
    assert runs.read_run(tmp_path).status == status
    assert "the other process" not in runs.read_run(tmp_path).reason


@pytest.mark.parametrize(
    ("error", "raised"), [(ValueError("no"), True), (CheckpointError("x: no room"), False)]
)
def test_a_full_disk_is_no_error_of_the_runs_own(tmp_path, error, raised):
    """So a sweep that is continued goes on from the checkpoint, and does not start the run anew."""
    runs.write_status(tmp_path, "running")
    conclude(tmp_path, error)
    run = runs.read_run(tmp_path)
    assert (run.status, run.raised) == ("failed", raised)


def test_what_an_earlier_attempt_said_does_not_count(tmp_path):
    runs.write_status(tmp_path, "interrupted", "the first time")
    assert conclude_process(tmp_path, mark(tmp_path), "gone").reason == "gone"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, "its process ended with exit code 0 before the run did"),
        (7, "its process ended with exit code 7 before the run did"),
        (-9, "killed by SIGKILL, perhaps for want of memory"),
        (-11, "killed by SIGSEGV"),
        (-99, "killed by signal 99"),
    ],
)
def test_how_a_process_ended_is_put_in_words(code, said):
    assert exit_reason(code) == said


def test_damaged_papers_do_not_keep_an_end_from_being_told(tmp_path):
    for damaged, content in ((runs.SUMMARY, "["), (runs.STATUS, "{")):
        runs.write_status(tmp_path, "running")
        (tmp_path / damaged).write_text(content)
        assert runs.read_run(tmp_path).status == "unreadable"
        assert conclude(tmp_path, Diverged("the loss is nan")) == 3
        assert runs.read_status(tmp_path) == "diverged"
        runs.write_status(tmp_path, "running")
        (tmp_path / damaged).write_text(content)
        conclude_process(tmp_path, (0, 0), "gone")
        assert runs.read_status(tmp_path) == "failed"


def test_a_run_with_a_damaged_status_is_not_begun_anew(tmp_path, capsys):
    (tmp_path / runs.STATUS).write_text("")
    (tmp_path / runs.METRICS).write_text("{}")
    assert attempt(config(*QUICK), tmp_path, job()) == 2
    assert "holds a run already (unreadable)" in capsys.readouterr().err
    assert (tmp_path / runs.METRICS).read_text() == "{}"


@pytest.mark.parametrize("error", [ConfigError("a\x1b[2Jb"), ValueError("a\x1b[2Jb")])
def test_a_reason_cannot_command_a_terminal(error, capsys):
    report(error)
    err = capsys.readouterr().err
    assert r"a\x1b[2Jb" in err and "\x1b" not in err


def test_no_reason_or_path_of_a_sweep_commands_a_terminal(tmp_path, capsys):
    evil = "\x1b]0;owned\x07\n\ud800"
    folder = tmp_path / "s\x1b[2J"
    sweep.announce(folder, "", ["000_\x1b[31m", "001"], [["a=\x1b[31m"], [f"a={evil[:-1]}"]])
    for name, status in (("000_\x1b[31m", "failed"), ("001", "interrupted")):
        (folder / name).mkdir()
        runs.write_status(folder / name, status, evil[:-1], raised=True)
    assert sweep.print_table(folder) == 2
    told = capsys.readouterr().out
    assert r"\x1b]0;owned\x07" in told
    assert all(letter.isprintable() or letter == "\n" for letter in told)
    print(runs.shown(tmp_path / evil))
    assert capsys.readouterr().out.endswith("/\\x1b]0;owned\\x07\\n\\ud800\n")
