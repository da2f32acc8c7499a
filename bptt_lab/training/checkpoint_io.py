"""Checkpoints that survive a kill, a full disk and a flipped bit.

A checkpoint is written beside its place, made durable and then renamed, so that its place always
holds a whole one; Lightning's own are staged in $TMPDIR, and a move across file systems is not
atomic. The sha256 of every file is kept in checksums.json in the same folder, by sum and not by
name: whichever rename a kill comes between, each file can still be told whole or not. Where that
list is lost, a file's own CRC-32 sums tell.
"""

import hashlib
import io
import itertools
import os
import warnings
import zipfile
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor

from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import METRICS, files, outcome, read_json, write_json
from bptt_lab.runs.outcome import CheckpointError
from bptt_lab.training import metrics_log

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
CHECKSUMS = "checksums.json"
_PARTS = {"state_dict": dict, "optimizer_states": list, "loops": dict, "global_step": int,
          "processes": list, "run": dict}  # fmt: skip
_OF_RUN = {"seconds": float, "best_loss": float, "metrics": dict, "metrics_bytes": int}


class AtomicCheckpointIO(CheckpointIO):
    """What Lightning writes and reads checkpoints by."""

    def save_checkpoint(
        self, checkpoint: Mapping[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint as `write` does."""
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
    """Write a checkpoint whole or not at all; what `last.ckpt` held becomes `previous.ckpt`.

    Raises:
        CheckpointError: where it cannot be written; what was there before is as it was.
    """
    buffer = io.BytesIO()
    torch.save(compact(dict(checkpoint)), buffer)
    content = buffer.getvalue()
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.writing(part, "anew") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        what = {"name": path.name, "step": checkpoint.get("global_step")}
        _remember(path.parent, hashlib.sha256(content).hexdigest(), what)
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


def compact(value: Any) -> Any:
    """Copy the tensors that are a part of a larger one, which would be saved as a whole."""
    if isinstance(value, Tensor):
        whole = value.untyped_storage().nbytes() == value.nbytes
        return value if whole else value.detach().clone()
    if isinstance(value, dict):
        return {key: compact(item) for key, item in value.items()}
    return type(value)(map(compact, value)) if type(value) in (list, tuple) else value


def read(path: Path, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        CheckpointError: for a file that is missing, not what was written, or more than data.
    """
    try:
        file = files.reading(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    with file:
        known = _known(path.parent)
        listed = any(entry.get("name") == _listed_as(path) for entry in known.values())
        if _sum(file) not in known and (listed or not _agrees_with_itself(file)):
            raise CheckpointError(f"{path}: is not what was written; its sha256 has changed")
        try:
            if not _takes_its_own_room(file):
                raise ValueError("it would take more room than it has")
            file.seek(0)
            with warnings.catch_warnings(action="ignore"):  # of what is refused anyway
                return dict(torch.load(file, map_location, weights_only=True))
        except Exception as error:  # a file made to do harm can fail in any way
            raise CheckpointError(
                f"{path}: is no checkpoint of plain tensors and numbers"
            ) from error


def to_continue(folder: Path, run: object = None) -> list[Path]:
    """Find the checkpoints that a run may go on from.

    A broken one is renamed: at the next save it would replace the whole one before it.

    Args:
        folder: of the run.
        run: its `id`; old checkpoints have none.

    Returns:
        Those that are whole and fit metrics.jsonl, the newest first.

    Raises:
        ConfigError: for a checkpoint of another run, one that may not be read, and where
            metrics.jsonl fits none.
    """
    found, unfit = [], {}
    places = (folder / "checkpoints" / name for name in (LAST, PREVIOUS))
    for path in filter(os.path.lexists, places):
        try:
            files.reading(path).close()
            saved = read(path, "cpu")
            _refuse_other_forms(path, saved, _PARTS)
            _refuse_other_forms(path, saved["run"], _OF_RUN)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
        except CheckpointError as error:
            put_away(path, str(error))
            continue
        if saved["run"].get("id", run) != run:
            raise ConfigError(f"{path}: is of another run; move it away, or start a new run")
        if problem := metrics_log.unfit(folder / METRICS, saved["run"]):
            unfit[path] = problem
        else:
            found.append(path)
    for path in (*reversed(found), *unfit):  # their sums may have been lost
        with files.reading(path) as file:
            checksum = _sum(file)
        if checksum not in _known(path.parent):
            _remember(path.parent, checksum, {"name": _listed_as(path)})
    for path, problem in unfit.items():
        if not found:
            way_out = f"put it back, or move {path.parent} away to start anew"
            raise ConfigError(f"{folder / METRICS}: {problem} {path.name} was saved; {way_out}")
        if path.name == LAST:
            put_away(path, f"{folder / METRICS}: {problem} {path.name} was saved")
    return found


def _refuse_other_forms(path: Path, found: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    for name, kind in kinds.items():
        if not isinstance(found.get(name), kind):
            raise CheckpointError(f"{path}: is no checkpoint of a run of ours, by its {name}")


def put_away(path: Path, problem: str) -> None:
    """Say what is wrong with a checkpoint, and rename it."""
    names = (f"{path.name}.broken{number or ''}" for number in itertools.count())
    name = next(name for name in names if not os.path.lexists(path.with_name(name)))
    outcome.tell(f"{problem}; {path.name} is renamed to {name}")
    path.rename(path.with_name(name))


def _sum(file: BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _agrees_with_itself(file: BufferedReader) -> bool:
    """Whether a file whose sum is lost agrees with the CRC-32 that it has of each of its parts."""
    try:
        with zipfile.ZipFile(file) as archive:
            stored = all(part.compress_type == zipfile.ZIP_STORED for part in archive.infolist())
            return stored and archive.testzip() is None
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OSError, RuntimeError):
        return False


def _takes_its_own_room(file: BufferedReader) -> bool:
    """Whether a file is an archive whose parts, unpacked, take no more room than it has."""
    with zipfile.ZipFile(file) as archive:
        return sum(part.file_size for part in archive.infolist()) <= os.fstat(file.fileno()).st_size


def _listed_as(path: Path) -> str:
    """The name that a checkpoint had when it was written."""
    return LAST if path.name == PREVIOUS else path.name


def _known(folder: Path) -> dict[str, dict[str, object]]:
    listed = read_json(folder / CHECKSUMS)
    return {key: entry for key, entry in listed.items() if isinstance(entry, dict)}


def _remember(folder: Path, checksum: str, what: dict[str, object]) -> None:
    """Add a file's sum before the file gets its name; forget those of files long gone."""
    known = _known(folder)
    for name in (LAST, BEST):
        of_name = [key for key, entry in known.items() if entry.get("name") == name]
        for key in of_name[:-2]:  # it and, for the last, the one before
            del known[key]
    write_json(folder / CHECKSUMS, {**known, checksum: what}, durable=True)


def _make_durable(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
