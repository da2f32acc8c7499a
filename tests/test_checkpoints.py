"""Checkpoints are whole or told from whole ones, whatever happens to the disk under them."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import random
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch

from bptt_lab.runs.outcome import CheckpointError
from bptt_lab.training import checkpoint_io


def content(step: int) -> dict:
    generator = torch.Generator().manual_seed(step)
    weights = torch.randn(40, 30, generator=generator)
    rest = {"loops": {"a": [1, 2.5, None]}, "optimizer_states": [], "processes": [], "run": {}}
    return {"global_step": step, "state_dict": {"w": weights}, **rest}


def same(a: dict, b: dict) -> bool:
    return a["global_step"] == b["global_step"] and torch.equal(
        a["state_dict"]["w"], b["state_dict"]["w"]
    )


@pytest.fixture
def last(tmp_path) -> Path:
    path = tmp_path / "last.ckpt"
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
    start = checkpoint_io.to_continue(last.parent)
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
    assert checkpoint_io.to_continue(last.parent) is None
    err = capsys.readouterr().err
    assert err.count("is not what was written") == 2 and "begins anew" in err


def test_lost_checksums_are_damage_too(last):
    (last.parent / "checksums.json").unlink()
    assert checkpoint_io.to_continue(last.parent) is None


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
    start = checkpoint_io.to_continue(last.parent)
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
    start = checkpoint_io.to_continue(last.parent)
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
            start = checkpoint_io.to_continue(last.parent)
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
    canary, path = tmp_path / "canary", tmp_path / "last.ckpt"
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
    (tmp_path / "checksums.json").write_text(json.dumps({digest: {"name": "last.ckpt"}}))
    with pytest.raises(CheckpointError, match="is no checkpoint of plain tensors"):
        checkpoint_io.read(path)
    assert checkpoint_io.to_continue(tmp_path) is None
    assert not canary.exists()


def test_a_whole_file_of_something_else_is_not_continued(tmp_path, capsys):
    checkpoint_io.write({"state_dict": {}}, tmp_path / "last.ckpt")
    assert checkpoint_io.to_continue(tmp_path) is None
    assert "is no checkpoint of a run of ours" in capsys.readouterr().err
