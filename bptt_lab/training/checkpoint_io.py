"""Checkpoints that survive a kill, a full disk and a flipped bit.

A checkpoint is written beside its place, made durable and then renamed, so that its place always
holds a whole one; Lightning's own are staged in $TMPDIR, and a move across file systems is not
atomic. The sha256 of every file is kept in checksums.json in the same folder, by sum and not by
name: whichever rename a kill comes between, each file can still be told whole or not.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from bptt_lab.core.messages import printable
from bptt_lab.runs import outcome, read_json, write_json
from bptt_lab.runs.outcome import CheckpointError

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
CHECKSUMS = "checksums.json"
_PARTS = ("state_dict", "optimizer_states", "loops", "global_step", "processes", "run")


class AtomicCheckpointIO(CheckpointIO):
    """What Lightning writes and reads checkpoints by."""

    def save_checkpoint(
        self, checkpoint: Mapping[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint whole or not at all; `last.ckpt` moves to `previous.ckpt` first."""
        write(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint as data, never as code, and only if it is whole."""
        return read(Path(path), map_location)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint."""
        Path(path).unlink(missing_ok=True)


def write(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint whole or not at all.

    Args:
        checkpoint: plain containers and tensors.
        path: its place; what `last.ckpt` held becomes `previous.ckpt`.

    Raises:
        CheckpointError: where it cannot be written; what was there before is as it was.
    """
    buffer = io.BytesIO()
    torch.save(dict(checkpoint), buffer)
    content = buffer.getvalue()
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _remember(path.parent, content, {"name": path.name, "step": checkpoint.get("global_step")})
        if path.name == LAST and path.exists():
            os.replace(path, path.with_name(PREVIOUS))
        os.replace(part, path)
        _make_durable(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        before = any((path.parent / name).exists() for name in (LAST, PREVIOUS))
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror or error}); "
            f"{'the checkpoint before it is whole' if before else 'there is none before it'}; "
            "make room, then continue with resume="
        ) from error


def read(path: Path, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        CheckpointError: for a file that is missing, not what was written, or more than data.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    if _sum(content) not in read_json(path.parent / CHECKSUMS):
        raise CheckpointError(f"{path}: is not what was written; its sha256 has changed")
    try:
        with warnings.catch_warnings(action="ignore"):  # of what is refused anyway
            return dict(torch.load(io.BytesIO(content), map_location, weights_only=True))
    except Exception as error:  # a file made to do harm can fail in any way
        raise CheckpointError(f"{path}: is no checkpoint of plain tensors and numbers") from error


def to_continue(folder: Path) -> Path | None:
    """Return the newest whole checkpoint; say which ones are broken, and take them out of the way.

    A broken one must not stay: at the next save it would replace the whole one before it.
    """
    broken = False
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            if not set(_PARTS) <= set(read(path)):
                raise CheckpointError(f"{path}: is no checkpoint of a run of ours")
        except CheckpointError as error:
            _tell(f"{error}; it is renamed to {name}.broken")
            os.replace(path, path.with_name(f"{name}.broken"))
            broken = True
        else:
            return path
    if broken:
        _tell("no whole checkpoint is left, so the run begins anew")
    return None


def _tell(message: str) -> None:
    print(f"{outcome.program}: {printable(message)}", file=sys.stderr)


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _remember(folder: Path, content: bytes, what: dict[str, object]) -> None:
    """Add a file's sum before the file gets its name; forget those of files long gone."""
    known = read_json(folder / CHECKSUMS)
    for name in (LAST, BEST):
        of_name = [key for key, entry in known.items() if entry.get("name") == name]
        for key in of_name[:-2]:  # it and, for the last, the one before
            del known[key]
    write_json(folder / CHECKSUMS, {**known, _sum(content): what}, durable=True)


def _make_durable(folder: Path) -> None:
    """Have the renames reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
