"""Data files by path: one line says what is wrong with one, and no size in it is believed."""

import os
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bptt_lab.core.validation import ConfigError, ReadableFile, ReadablePath

MOST = 2**28  # numbers of one split, padding included: 1 GiB of them
MOST_TEXT = 2**27  # bytes of a file of text, of which Python makes several times as many
# How files begin that are often given in place of a text in UTF-8.
MARKS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\x1f\x8b": "gzip; unpack it",
    b"\x80": "a pickle, which could run anything and is never opened",
    b"PK\3\4": "zip; unpack it",
}


def refuse(path: str | Path, problem: str) -> NoReturn:
    """Raise the ConfigError of a file or folder."""
    raise ConfigError(" ".join(f"path={path}: {problem}".split()))


def quote(text: str) -> str:
    """Write what a file holds for a message, cut short and with nothing a terminal would obey."""
    return ascii(text if len(text) <= 40 else f"{text[:37]}...")


def check_file(file: Path) -> None:
    """Refuse what is not a readable file with something in it."""
    if problem := ReadableFile().unmet(str(file), {}):
        refuse(file, problem)


def read_text(path: str | Path, most: int = MOST_TEXT) -> str:
    """Read a file in UTF-8, without byte order marks; refuse any other, and a larger one."""
    file = Path(path).expanduser()
    check_file(file)
    if file.stat().st_size > most:
        problem = f"must have at most {most / 2**20:.0f} MiB, but has"
        refuse(path, f"{problem} {file.stat().st_size / 2**20:.0f}; cut it")
    data = file.read_bytes()
    try:
        text = data.decode("utf-8")
        problem = f"character {text.index(chr(0))} is 0, as in UTF-16" if "\0" in text else ""
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is 0x{data[error.start]:02x}"
    if problem:
        mark = next((words for mark, words in MARKS.items() if data.startswith(mark)), "")
        hint = f" (it begins as {mark})" if mark else ""
        way_out = "convert the file or give another one"
        refuse(path, f"must be a text in UTF-8, but {problem}{hint}; {way_out}")
    return text.replace("\ufeff", "")


def usable(files: Sequence[Path]) -> list[Path]:
    """The files that can be read and hold something; all of them where none does."""
    return [file for file in files if not ReadableFile().unmet(str(file), {})] or list(files)


def list_folder(path: str) -> list[Path] | None:
    """Return the entries of a folder by name, or None where `path` is a file.

    What begins with a dot is left out: hidden, or the shadow that macOS writes of a file.
    """
    if problem := ReadablePath().unmet(path, {}):
        refuse(path or "''", problem)
    place = Path(os.path.expanduser(path))
    if not place.is_dir():
        return None
    return sorted(entry for entry in place.iterdir() if not entry.name.startswith("."))


def check_size(
    path: str | Path, what: str, numbers: int, way_out: str = "cut it into shorter pieces"
) -> None:
    """Refuse what needs more than MOST numbers, before they are allocated."""
    if numbers > MOST:
        problem = f"{what} would need {numbers * 4 / 2**30:.3g} GiB of memory, of which"
        refuse(path, f"{problem} {MOST * 4 / 2**30:.3g} are allowed; {way_out}")


def split_ends(
    path: str, length: int, splits: Sequence[float], what: str = "rows"
) -> tuple[int, int, int]:
    """Return where training, validation and test end, in shares or numbers of so many of them."""
    by_number = all(isinstance(part, int) for part in splits)
    sums = accumulate(splits)
    train, val, test = (int(part if by_number else part * length + 1e-6) for part in sums)
    if not 0 < train < val < test <= length:
        problem = f"must hold enough {what} for dataset.splits={list(splits)}, but holds {length}"
        refuse(path, f"{problem}; give more of them or other splits, as dataset.splits=[30,5,5]")
    return train, val, test


def pad(sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Put sequences of unequal length side by side, zeros after each: (T, M, ...), mask (T, M)."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    padded = pad_sequence(sequences)
    return padded, torch.arange(len(padded))[:, None] < lengths
