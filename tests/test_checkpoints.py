"""Checkpoints are whole or told from whole ones, whatever happens to the disk under them."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import pickle
import random
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch

from bptt_lab.core.validation import ConfigError
from bptt_lab.runs.outcome import CheckpointError
from bptt_lab.training import checkpoint_io, metrics_log


def content(step: int) -> dict:
    generator = torch.Generator().manual_seed(step)
    weights = torch.randn(40, 30, generator=generator)
    run = {"seconds": 1.5, "best_loss": math.inf, "metrics": {}, "metrics_bytes": 0, "id": "mine"}
    rest = {"loops": {"a": [1, 2.5, None]}, "optimizer_states": [], "processes": [], "run": run}
    return {"global_step": step, "state_dict": {"w": weights}, **rest}


def same(a: dict, b: dict) -> bool:
    return a["global_step"] == b["global_step"] and torch.equal(
        a["state_dict"]["w"], b["state_dict"]["w"]
    )


def to_continue(checkpoints: Path) -> Path | None:
    """The newest checkpoint that the run called mine may go on from."""
    return next(iter(checkpoint_io.to_continue(checkpoints.parent, "mine")), None)


@pytest.fixture
def last(tmp_path) -> Path:
    path = tmp_path / "checkpoints" / "last.ckpt"
    for step in (1, 2):
        checkpoint_io.write(content(step), path)
    return path


def test_the_newest_and_the_one_before_are_kept(last):
    for step in (3, 4, 5):
        checkpoint_io.write(content(step), last)
    assert same(checkpoint_io.read(last), content(5))
    assert same(checkpoint_io.read(last.with_name("previous.ckpt")), content(4))
    known = json.loads((last.parent / "checksums.json").read_text())
    assert len(known) <= 3  # no list that grows with the run
    assert hashlib.sha256(last.read_bytes()).hexdigest() in known


def damaged(whole: bytes, number: int) -> bytes:
    dice = random.Random(number)
    if number % 2:
        place, flip = dice.randrange(len(whole)), 1 << dice.randrange(8)
        return whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :]
    if number % 10 == 0:
        return whole + dice.randbytes(1 + number)
    return whole[: dice.randrange(len(whole))]


@pytest.mark.parametrize("number", range(100))
def test_damage_is_found_and_the_one_before_used(number, last, capsys):
    last.write_bytes(damaged(last.read_bytes(), number))
    with pytest.raises(CheckpointError, match=r"last\.ckpt: is not what was written"):
        checkpoint_io.read(last)
    start = to_continue(last.parent)
    assert start is not None and same(checkpoint_io.read(start), content(1))
    assert "last.ckpt: is not what was written" in capsys.readouterr().err
    # The broken one must not take the place of the whole one at the next save.
    checkpoint_io.write(content(3), last)
    assert same(checkpoint_io.read(start), content(1)) and same(
        checkpoint_io.read(last), content(3)
    )


def test_with_both_damaged_nothing_is_continued(last, capsys):
    for path in (last, last.with_name("previous.ckpt")):
        path.write_bytes(b"")
    assert to_continue(last.parent) is None
    assert capsys.readouterr().err.count("is not what was written") == 2
    kept = {"last.ckpt.broken", "previous.ckpt.broken", "checksums.json"}
    assert {path.name for path in last.parent.iterdir()} == kept


def test_a_broken_one_is_renamed_and_takes_nobodys_place(last):
    for number in range(3):
        checkpoint_io.write(content(number), last)
        last.write_bytes(f"broken {number}".encode())
        to_continue(last.parent)
    found = sorted(path for path in last.parent.iterdir() if ".broken" in path.name)
    assert [path.read_text() for path in found] == ["broken 0", "broken 1", "broken 2"]


@pytest.mark.parametrize("listed", [None, "", "{", "[]", "5", "{}", '{"a": 5}', '{"a": {}}'])
def test_a_lost_list_of_sums_is_no_changed_sum(listed, last, capsys):
    sums = last.parent / "checksums.json"
    sums.unlink()
    if listed is not None:
        sums.write_text(listed)
    assert to_continue(last.parent) == last and capsys.readouterr().err == ""
    # From here on it is known once more: a later damage is found, and the one before it used.
    checkpoint_io.write(content(3), last)
    last.write_bytes(damaged(last.read_bytes(), 3))
    start = to_continue(last.parent)
    assert start is not None and same(checkpoint_io.read(start), content(2))


@pytest.mark.parametrize("number", range(0, 100, 7))
def test_without_sums_damage_is_found_all_the_same(number, last):
    """A bit may flip in the padding, where it changes nothing."""
    (last.parent / "checksums.json").unlink()
    last.write_bytes(damaged(last.read_bytes(), number))
    start = to_continue(last.parent)
    assert start is not None
    assert same(checkpoint_io.read(start), content(2 if start == last else 1))


def test_a_checkpoint_of_another_run_is_refused(last):
    before = {path: path.read_bytes() for path in last.parent.iterdir()}
    with pytest.raises(ConfigError, match=r"last\.ckpt: is of another run; move it away, or start"):
        checkpoint_io.to_continue(last.parent.parent, "another")
    assert {path: path.read_bytes() for path in last.parent.iterdir()} == before


@pytest.mark.parametrize("lost", [*content(1), "seconds", "best_loss", "metrics", "metrics_bytes"])
@pytest.mark.parametrize("how", ["missing", "of another type"])
def test_one_whose_content_is_not_a_runs_is_passed_over(lost, how, last, capsys):
    bad = content(3)
    place = bad if lost in bad else bad["run"]
    place[lost] = "x"
    if how == "missing":
        del place[lost]
    checkpoint_io.write(bad, last)
    start = to_continue(last.parent)
    assert start is not None and same(checkpoint_io.read(start), content(2))
    assert f"is no checkpoint of a run of ours, by its {lost}; " in capsys.readouterr().err


def log_of(last: Path, *lines: str, step: int, **run: object) -> Path:
    """Write a log, and a checkpoint that was saved at its end."""
    path = last.parent.parent / "metrics.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    saved = content(step)
    saved["run"] |= {**metrics_log.mark(path), **run}
    checkpoint_io.write(saved, last)
    return path


@pytest.mark.parametrize(
    ("log", "step"),
    [
        ("a\nb\nc\n", 4),
        ("a\nb\n", 4),
        ("a\n", 3),
        ("a\nb", 3),
        ("a\nc\n", 3),
        ("", None),
        (None, None),
        ("b\nb\n", None),
    ],
)
def test_a_log_that_a_checkpoint_was_not_saved_with_takes_an_older_one(log, step, last, capsys):
    log_of(last, "a", step=3)
    path = log_of(last, "a", "b", step=4)
    path.unlink() if log is None else path.write_text(log)
    if step is None:
        before = {path: path.read_bytes() for path in last.parent.iterdir()}
        with pytest.raises(ConfigError, match=r"metrics\.jsonl: is .* when .*ckpt was saved; put"):
            to_continue(last.parent)
        assert {path: path.read_bytes() for path in last.parent.iterdir()} == before
        return
    start = to_continue(last.parent)
    assert start is not None and same(checkpoint_io.read(start), content(step))
    assert ("is renamed to last.ckpt.broken" in capsys.readouterr().err) == (step == 3)


@pytest.mark.parametrize(("best", "fits"), [(0.25, True), (0.125, False), (math.inf, True)])
def test_an_old_checkpoint_is_known_by_its_best_loss(best, fits, last):
    """It has neither the name of its run nor the sum of its log."""
    path = log_of(last, '{"step": 1, "val/loss": 0.25, "val/accuracy": 0.5}', step=3)
    saved = content(4)
    saved["run"] = {"seconds": 1.0, "best_loss": best, "metrics": {}, "metrics_bytes": 0}
    saved["run"]["metrics_bytes"] = path.stat().st_size
    checkpoint_io.write(saved, last)
    start = to_continue(last.parent)
    assert start is not None and same(checkpoint_io.read(start), content(4 if fits else 3))


class Steps:
    """Fail, or stop the world, at the n-th operation that reaches the disk."""

    def __init__(self, monkeypatch, fail_at: int, error: BaseException) -> None:
        self.left = fail_at
        for name in ("fsync", "replace"):
            monkeypatch.setattr(os, name, self.wrap(getattr(os, name), error))

    def wrap(self, call, error: BaseException):
        def wrapped(*args):
            self.left -= 1
            if self.left < 0:
                raise error
            return call(*args)

        return wrapped


@pytest.mark.parametrize("fail_at", range(6))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_save_that_fails_leaves_a_whole_checkpoint(fail_at, code, last, monkeypatch):
    with monkeypatch.context() as patch:
        Steps(patch, fail_at, OSError(code, os.strerror(code)))
        with pytest.raises(CheckpointError, match=r"last\.ckpt: cannot be written \(.*make room"):
            checkpoint_io.write(content(3), last)
    assert not list(last.parent.glob(".*.part"))
    start = to_continue(last.parent)
    assert start is not None
    assert any(same(checkpoint_io.read(start), content(step)) for step in (2, 3))


def test_a_first_checkpoint_that_cannot_be_written_names_none_before_it(last, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_io.os, "fsync", full)
    with pytest.raises(CheckpointError, match="the checkpoint before it is whole"):
        checkpoint_io.write(content(3), last)
    with pytest.raises(CheckpointError, match="there is none before it; make room"):
        checkpoint_io.write(content(3), last.parent / "elsewhere" / last.name)


@pytest.mark.parametrize("fail_at", range(7))
def test_a_kill_between_any_two_steps_leaves_a_whole_checkpoint(fail_at, last, monkeypatch):
    with monkeypatch.context() as patch:
        Steps(patch, fail_at, KeyboardInterrupt())
        if fail_at < 6:
            with pytest.raises(KeyboardInterrupt):
                checkpoint_io.write(content(3), last)
        else:
            checkpoint_io.write(content(3), last)
    start = to_continue(last.parent)
    assert start is not None
    newest = 3 if fail_at > 4 else 2
    assert same(checkpoint_io.read(start), content(newest))


def test_a_really_full_disk(tmp_path):
    """20 saves on a file system without room for a second file; the first stays whole."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a small file system here")
    try:
        last = disk / "checkpoints" / "last.ckpt"
        checkpoint_io.write(content(1), last)
        for step in range(2, 22):
            with pytest.raises(CheckpointError, match="No space left on device"):
                checkpoint_io.write(
                    {**content(step), "more": torch.zeros(100 * step, dtype=torch.float64)}, last
                )
            start = to_continue(last.parent)
            assert start == last and same(checkpoint_io.read(last), content(1))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


class Bomb:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("how", ["pickle", "torch", "zip", "nested"])
def test_a_checkpoint_that_would_run_code_runs_none(how, tmp_path):
    """Even one whose checksum was written beside it."""
    canary, path = tmp_path / "canary", tmp_path / "checkpoints" / "last.ckpt"
    path.parent.mkdir()
    bomb = {"state_dict": {"w": Bomb(canary)}}
    buffer = io.BytesIO()
    if how == "pickle":
        pickle.dump(bomb, buffer)
    elif how == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(bomb))
            archive.writestr("archive/version", "3")
    else:
        torch.save(bomb if how == "torch" else [[bomb]], buffer)
    path.write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    path.with_name("checksums.json").write_text(json.dumps({digest: {"name": "last.ckpt"}}))
    with pytest.raises(CheckpointError, match="is no checkpoint of plain tensors"):
        checkpoint_io.read(path)
    assert to_continue(path.parent) is None
    assert not canary.exists()


def test_a_whole_file_of_something_else_is_not_continued(tmp_path, capsys):
    checkpoint_io.write({"state_dict": {}}, tmp_path / "checkpoints" / "last.ckpt")
    assert to_continue(tmp_path / "checkpoints") is None
    assert "is no checkpoint of a run of ours" in capsys.readouterr().err
