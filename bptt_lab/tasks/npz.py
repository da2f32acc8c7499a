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
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bptt_lab.tasks.files import MOST, check_file, check_size, quote, refuse

Arrays = Mapping[str, NDArray[Any]]
MOST_BYTES = 8 * MOST  # of one array: of text it may be
HOW = "write it by numpy.savez(FILE, inputs=..., targets=...)"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can say
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError),
    *(RuntimeError, ValueError),  # encrypted; a header that is none
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
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name == member.filename:
                    problem = f"must hold arrays alone, but holds {quote(name)}"
                    refuse(path, f"{problem}, which is no .npy; {HOW}")
                if name in arrays:
                    refuse(path, f"holds {quote(name)} twice; write the file again")
                _check_header(path, name, archive, member)
                with archive.open(member) as stream:
                    arrays[name] = npy.read_array(stream, allow_pickle=False)
    except _UNREADABLE as error:
        if type(error).__name__ == "ConfigError":
            raise
        refuse(path, f"must be a .npz file that is whole, but is not ({error}); write it again")
    return arrays


def _beginning(file: Path) -> str:
    with file.open("rb") as stream:
        head = stream.read(6)
    if head == b"\x93NUMPY":
        return "one array alone, as numpy.save writes it"
    return "a pickle, which could run anything" if head[:1] == b"\x80" else f"0x{head.hex()}"


def _check_header(path: str, name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Refuse an array by its header: objects, and a size above the limits or unlike the file's."""
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
    check_size(path, quote(name), numbers, "give fewer or shorter sequences")
    if numbers * dtype.itemsize > MOST_BYTES:
        refuse(path, f"{quote(name)} holds over {MOST_BYTES / 2**30:.3g} GiB; give shorter names")


def save(path: str | Path, arrays: Arrays) -> None:
    """Write arrays so that the bytes of the file depend on names, types, shapes and values alone.

    The file is there as a whole or not at all.
    """
    file = Path(path)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            for name, array in sorted(arrays.items()):
                member = zipfile.ZipInfo(f"{name}.npy", EPOCH)
                with archive.open(member, "w", force_zip64=True) as stream:
                    npy.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
