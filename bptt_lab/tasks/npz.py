"""Files of named arrays, as numpy.savez writes them: read without pickle, written by content alone.

A header names the size of an array. It is compared with what the file says and with the limits
before anything of that size is allocated, so a small file cannot ask for much memory.
"""

import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bptt_lab.core.validation import ConfigError
from bptt_lab.tasks.files import MOST, check_file, check_size, quote, refuse

Arrays = Mapping[str, NDArray[Any]]
MOST_BYTES = 8 * MOST
HOW = "write it by numpy.savez(FILE, inputs=..., targets=...)"
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError),
    *(RuntimeError, ValueError, TypeError, LookupError),  # encrypted; a header that is none
    *(SyntaxError, TokenError, MemoryError),
)


def read(path: str) -> dict[str, NDArray[Any]]:
    """Read every array of a .npz file, compressed or not.

    Raises:
        ConfigError: where the file is missing, damaged, too large, or holds Python objects.
    """
    file = Path(path).expanduser()
    check_file(file)
    if not zipfile.is_zipfile(file):
        problem = f"must be a .npz file of arrays, but begins with {_beginning(file)}"
        refuse(path, f"{problem}; {HOW}")
    try:
        with zipfile.ZipFile(file) as archive:
            members = {}
            numbers = length = 0
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name == member.filename:
                    problem = f"must hold arrays alone, but holds {quote(name)}"
                    refuse(path, f"{problem}, which is no .npy; {HOW}")
                if name in members:
                    refuse(path, f"holds {quote(name)} twice; write the file again")
                members[name] = member
                numbers += _numbers(path, name, archive, member)
                length += member.file_size
                check_size(path, "it", numbers, "give fewer or shorter sequences")
            if length > MOST_BYTES:
                limit = f"{MOST_BYTES / 2**30:.3g} GiB"
                refuse(path, f"must hold at most {limit}, but holds more; give shorter text")
            arrays = {}
            for name, member in members.items():
                with archive.open(member) as stream:
                    arrays[name] = npy.read_array(stream, allow_pickle=False)
            return arrays
    except ConfigError:
        raise
    except _UNREADABLE as error:
        problem = quote(str(error) or type(error).__name__)
        refuse(path, f"must be a .npz file that is whole, but is not ({problem}); write it again")


def _beginning(file: Path) -> str:
    with file.open("rb") as stream:
        head = stream.read(6)
    if head == b"\x93NUMPY":
        return "one array alone, as numpy.save writes it"
    return "a pickle, which could run anything" if head[:1] == b"\x80" else f"0x{head.hex()}"


def _numbers(path: str, name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """How many numbers an array has, by its header; refused where the file's size is another."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        refuse(path, f"{quote(name)} is compressed in another way than by numpy; {HOW}")
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        if version > (2, 0):  # only for columns whose names are not Latin
            refuse(path, f"{quote(name)} holds columns of several types; {HOW}")
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = header(stream)
        start = stream.tell()
    if dtype.hasobject:
        problem = f"{quote(name)} holds Python objects, which could run anything (a pickle)"
        refuse(path, f"{problem}; give numbers or text of one type, sequences padded to one length")
    numbers = math.prod(shape)
    if min(shape, default=1) < 0 or member.file_size - start != numbers * dtype.itemsize:
        size = f"{' x '.join(map(str, shape))} of {dtype}"
        refuse(path, f"{quote(name)} must hold {size}, as its header says; write the file again")
    return numbers


def save(path: str | Path, arrays: Arrays) -> None:
    """Write arrays so that the bytes of the file depend on names, types, shapes and values alone.

    The file is there as a whole or not at all.
    """
    file = Path(path)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            for name, array in sorted(arrays.items()):
                member = zipfile.ZipInfo(f"{name}.npy")  # of 1980
                with archive.open(member, "w", force_zip64=True) as stream:
                    npy.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
