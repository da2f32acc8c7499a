"""Data files by path: one line says what is wrong with one, and no size in it is believed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bptt_lab.core.validation import ConfigError, ReadableFile

MOST = 2**28  # numbers of one split, padding included: 1 GiB of them


def refuse(path: str | Path, problem: str) -> NoReturn:
    """Raise the ConfigError of a file or folder."""
    raise ConfigError(" ".join(f"path={path}: {problem}".split()))


def quote(text: str) -> str:
    """Write what a file holds for a message, cut short and with nothing a terminal would obey."""
    return ascii(text if len(text) <= 40 else f"{text[:37]}...")


def check_file(file: Path) -> None:
    """Refuse what is not a readable file with something in it."""
    problem = ReadableFile().unmet(str(file), {})
    if problem:
        refuse(file, problem)


def list_folder(path: str) -> list[Path] | None:
    """Return the entries of a folder by name, or None where `path` is a file.

    Raises:
        ConfigError: where it is neither, or cannot be read.
    """
    place = os.path.expanduser(path)
    if not path:
        refuse("''", "must name a folder; give the path of one")
    if os.path.isdir(place):
        try:
            return sorted(Path(place).iterdir())
        except OSError:
            refuse(path, "must be readable, but you may not read it; change its permissions")
    if not os.path.lexists(place):
        refuse(path, "must be an existing folder or file, but there is none; give another path")
    check_file(Path(place))
    return None


def check_size(path: str | Path, what: str, numbers: int) -> None:
    """Refuse a split of more than MOST numbers, before it is allocated."""
    if numbers > MOST:
        problem = f"{what} would need {numbers * 4 / 2**30:.3g} GiB of memory, of which"
        refuse(path, f"{problem} {MOST * 4 / 2**30:.3g} are allowed; cut it into shorter pieces")


def pad(sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Put sequences of unequal length side by side, zeros after each: (T, M, ...), mask (T, M)."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    padded = pad_sequence(sequences)
    return padded, torch.arange(len(padded))[:, None] < lengths
