from __future__ import annotations

import pytest

from bptt_lab import runs
from bptt_lab.runs.outcome import (
    CheckpointError,
    Diverged,
    Interrupted,
    conclude,
    conclude_process,
    exit_reason,
    mark,
)

LIMIT = "over its time limit of 3 s"


@pytest.mark.parametrize(
    ("own", "asked", "verdict"),
    [
        (None, "", ("failed", "gone")),  # it never said a word
        ("running", "", ("failed", "gone")),
        ("running", "another failed", ("interrupted", "another failed")),
        ("running", LIMIT, ("failed", f"{LIMIT}, and would not stop")),
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
    conclude_process(tmp_path, before, "gone", asked)
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
