"""How a run folder's files are opened: regular files only, and no link is followed.

A folder may come from anyone, and a link in it may lead anywhere; a FIFO blocks whoever opens it.
"""

import errno
import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Literal

from bptt_lab.core.validation import ConfigError

LARGEST_PAPER = 64 * 2**20  # bytes of a JSON file
_FILES = (
    *("status.json", "manifest.json", "summary.json", "metrics.jsonl", "log.txt", ".lock"),
    *("hparams.yaml", "sweep.json", "multirun.yaml", "search.journal", "results.csv"),
)
_OF_FILES = ("checkpoints", ".hydra")  # which hold no folders
_OF_OTHERS = "loggers"  # where other libraries write, who follow every link
_FOLDERS = (*_OF_FILES, _OF_OTHERS, "report", "_summary")


def reading(path: Path, largest: float = math.inf) -> BufferedReader:
    """Open a file for reading.

    Raises:
        OSError: for a link, for what is no regular file, for one of more than `largest` bytes.
    """
    file = os.fdopen(_opened(path, os.O_RDONLY), "rb")
    if os.fstat(file.fileno()).st_size > largest:
        file.close()
        raise OSError(errno.EFBIG, f"is larger than {largest} bytes", str(path))
    return file


def writing(path: Path, how: Literal["anew", "append", "over"]) -> BinaryIO:
    """Open a file for writing.

    `anew` makes a new one, and what had the name before loses it; `append` adds to the end; `over`
    writes over what a file holds, in the room that it has.

    Raises:
        OSError: for a link, and for what is no regular file.
    """
    if how == "anew":
        path.unlink(missing_ok=True)
    flags = {
        "anew": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
        "append": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
        "over": os.O_RDWR,
    }
    return os.fdopen(_opened(path, flags[how]), "r+b" if how == "over" else "ab")


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` at the end: whole, or not at all.

    A `durable` one is on the disk, and not only on its way, before it gets its name.

    Raises:
        OSError: for what is no regular file, such as /dev/null, which would be gone.
    """
    if (problem := no_file(path)) and not path.is_symlink():
        raise OSError(errno.EINVAL, problem, str(path))
    part = path.with_name(f".{path.name}.part")
    try:
        with writing(part, "anew") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(part)):
            error.filename, error.filename2 = str(path), None  # a name that its user knows
        raise


def _opened(path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return descriptor


def refuse_strange(folder: Path, *more: Path) -> None:
    """Refuse a run or sweep folder, or more files, where we or Hydra would follow a link."""
    files = [*(folder / name for name in _FILES), *folder.glob("*.log"), *more]
    ours = [(path, stat.S_ISREG) for path in files]
    for place in (folder / name for name in _FOLDERS):
        ours.append((place, stat.S_ISDIR))
        if place.name in _OF_FILES and place.is_dir() and not place.is_symlink():
            ours += [(path, stat.S_ISREG) for path in sorted(place.iterdir())]
    for path, belongs in ours:
        if problem := _strange(path, belongs):
            raise ConfigError(f"{path}: {problem}; move it away")
    others = folder / _OF_OTHERS
    inside = os.path.realpath(others)
    for path in sorted(others.rglob("*")):
        kind, *below = path.relative_to(others).parts
        if kind == "wandb" and len(below) > 1:
            continue  # an attempt before, where wandb has links to its log, and writes no more
        if path.is_symlink() and not os.path.realpath(path).startswith(f"{inside}{os.sep}"):
            raise ConfigError(f"{path}: is a link that leads out of its folder; move it away")
        if not (path.is_symlink() or path.is_file() or path.is_dir()):
            raise ConfigError(f"{path}: is no regular file; move it away")


def no_folder(path: Path) -> str:
    """Say what is wrong with what has a folder's name; empty where that is one, or nothing."""
    return _strange(path, stat.S_ISDIR)


def no_file(path: Path) -> str:
    """Say what is wrong with what has a file's name; empty where that is one, or nothing."""
    return _strange(path, stat.S_ISREG)


def _strange(path: Path, belongs: Callable[[int], bool]) -> str:
    if not os.path.lexists(path) or belongs(path.lstat().st_mode):
        return ""
    kind = "folder" if belongs is stat.S_ISDIR else "regular file"
    return "is a link, which is not followed" if path.is_symlink() else f"is no {kind}"
