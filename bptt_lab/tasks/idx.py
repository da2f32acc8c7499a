"""IDX, the format of MNIST: a magic number, the sizes, then the values; big-endian, maybe gzipped.

A header's sizes are compared with the file's before anything of that size is allocated.
"""

import gzip
import math
import struct
import zlib
from io import BufferedReader
from pathlib import Path

import torch
from torch import Tensor

from bptt_lab.tasks.files import check_file, check_size, refuse

Stream = BufferedReader | gzip.GzipFile
GZIP = b"\x1f\x8b"
DEFLATE = 1032  # a byte of gzip holds no more than so many
BYTES = 0x08  # the type of value that the third byte of the magic number names
PIECE = 2**20
AGAIN = "get the file again"


def read_idx(file: Path, num_dimensions: int) -> Tensor:
    """Read an array of bytes.

    Args:
        file: gzipped or not, whatever its name.
        num_dimensions: 3 for images, 1 for labels.

    Raises:
        ConfigError: where it is anything else, shorter or longer than its header says.
    """
    check_file(file)
    try:
        with file.open("rb") as raw:
            gzipped = raw.read(2) == GZIP
            raw.seek(0)
            most = file.stat().st_size * (DEFLATE if gzipped else 1)
            return _read(file, gzip.open(raw) if gzipped else raw, num_dimensions, most)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        refuse(file, f"must be whole, but its gzip data are damaged ({error}); {AGAIN}")


def _read(file: Path, stream: Stream, num_dimensions: int, most: int) -> Tensor:
    header = stream.read(4 + 4 * num_dimensions)
    magic = bytes((0, 0, BYTES, num_dimensions))
    if header[:4] != magic:
        problem = f"must be IDX and begin with the bytes {magic.hex(' ')}, but begins with"
        refuse(file, f"{problem} {header[:4].hex(' ')}; give another file")
    if len(header) < 4 + 4 * num_dimensions:
        refuse(file, f"must be whole, but ends in its header, at byte {len(header)}; {AGAIN}")
    sizes = struct.unpack(f">{num_dimensions}I", header[4:])
    total, words = math.prod(sizes), " x ".join(map(str, sizes))
    if not 0 < total <= most:
        refuse(file, f"must hold {words} values, as its header says, but cannot; {AGAIN}")
    check_size(file, f"its {words} values", total, "give fewer or smaller images")
    values = bytearray()
    while piece := stream.read(min(PIECE, total - len(values))):
        values += piece
    if len(values) < total or stream.read(1):
        found = len(values) if len(values) < total else "more"
        problem = f"must hold {words} = {total} values, as its header says, but holds {found}"
        refuse(file, f"{problem}; {AGAIN}")
    return torch.frombuffer(values, dtype=torch.uint8).view(sizes)
