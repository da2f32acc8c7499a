"""Small files in the form of real data sets, for the tasks that read one by path."""

import csv
import gzip
import json
import math
import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

PROSE = "The quick brown fox jumps over the lazy dog.\n" * 100
LEXICON = {"I": "PRON", "see": "VERB", "flights": "NOUN", "to": "ADP", "Boston": "PROPN"}


def idx(sizes: tuple[int, ...], values: bytes, kind: int = 8) -> bytes:
    return struct.pack(f">BBBB{len(sizes)}I", 0, 0, kind, len(sizes), *sizes) + values


def write_pair(folder: Path, part: str, count: int, *, zipped: bool = True, side: int = 5) -> Path:
    """Image m is full of m + 1, and shows the digit m % 10."""
    pack, end = (gzip.compress, ".gz") if zipped else (bytes, "")
    images = b"".join(bytes([m % 255 + 1]) * side**2 for m in range(count))
    file = folder / f"{part}-images-idx3-ubyte{end}"
    file.write_bytes(pack(idx((count, side, side), images)))
    labels = folder / f"{part}-labels-idx1-ubyte{end}"
    labels.write_bytes(pack(idx((count,), bytes(m % 10 for m in range(count)))))
    return file


def write_mnist(folder: Path) -> Path:
    write_pair(folder, "t10k", 60)
    return folder


def write_music(folder: Path) -> Path:
    draws = random.Random(0)
    piece = lambda: [  # noqa: E731
        sorted(draws.sample(range(21, 109), draws.randint(0, 4)))
        for _ in range(draws.randint(2, 9))
    ]
    file = folder / "rolls.json"
    data = {key: [piece() for _ in range(size)] for key, size in
            {"train": 12, "valid": 5, "test": 6}.items()}  # fmt: skip
    file.write_text(json.dumps(data))
    return file


def conllu(sentences: list[list[tuple[str, str]]]) -> str:
    lines = []
    for number, sentence in enumerate(sentences):
        lines.append(f"# sent_id = {number}")
        for place, (word, tag) in enumerate(sentence, start=1):
            lines.append(f"{place}\t{word}\t_\t{tag}\t_\t_\t0\troot\t_\t_")
        lines.append("")
    return "\n".join([*lines, ""])


def write_tagging(folder: Path) -> Path:
    draws = random.Random(1)
    for part, size in {"train": 30, "dev": 8, "test": 9}.items():
        sentences = [
            draws.choices(list(LEXICON.items()), k=draws.randint(1, 7)) for _ in range(size)
        ]
        sentences.append([(f"only_{part}", "X"), ("I", "NOUN")])
        (folder / f"en_small-ud-{part}.conllu").write_text(conllu(sentences))
    return folder


def write_series(folder: Path) -> Path:
    file = folder / "series.csv"
    draws = random.Random(2)
    with file.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["value"])
        rows.writerows([math.sin(t / 3) + 0.2 * draws.gauss(0, 1)] for t in range(400))
    return file


def write_text(folder: Path) -> Path:
    file = folder / "text.txt"
    file.write_text(PROSE)
    return file


def write_arrays(folder: Path) -> Path:
    """40 sequences of 2 to 12 steps, of which the class is whether their mean is above 0."""
    draws, file = np.random.default_rng(3), folder / "arrays.npz"
    lengths = draws.integers(2, 13, 40)
    inputs = draws.standard_normal((40, 12, 2))
    above = np.array([x[:n].mean() > 0 for x, n in zip(inputs, lengths, strict=True)])
    np.savez(file, inputs=inputs, lengths=lengths, targets=np.where(above, "above", "below"))
    return file


SAMPLES: dict[str, Callable[[Path], Path]] = {
    "arrays": write_arrays,
    "mnist": write_mnist,
    "music": write_music,
    "series": write_series,
    "tagging": write_tagging,
    "text": write_text,
}
