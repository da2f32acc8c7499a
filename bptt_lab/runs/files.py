"""How a run folder's files are opened: regular files only, and no link is followed.

A folder may come from anyone, and a link in it may lead anywhere; a FIFO blocks whoever opens it.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Literal

from bptt_lab.core.validation import ConfigError

LARGEST_PAPER = 64 * 2**20  # bytes of a JSON file
_OF_FILES = (".json", ".jsonl", ".ckpt", ".part", ".txt", ".lock", ".csv", ".html", ".yaml")


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

    Args:
        path: the file.
        how: `anew` makes a new one, and what had the name before loses it; `append` adds to the
            end; `over` writes over what a file holds, in the room that it has.

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


def _opened(path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return descriptor


def refuse_strange(folder: Path) -> None:
    """Refuse a run or sweep folder with a link in it, or with what is no file where one belongs.

    Raises:
        ConfigError: naming it.
    """
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                problem = "is a link, which is not followed"
            elif stat.S_ISDIR(mode) and path.suffix in _OF_FILES:
                problem = "is a folder, where a file belongs"
            elif name == "checkpoints" and not stat.S_ISDIR(mode):
                problem = "is no folder"
            elif not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                problem = "is no regular file"
            else:
                continue
            raise ConfigError(f"{path}: {problem}; move it away")
