"""MNIST, and sets in its format: handwritten digits by pixels or rows, from IDX files by path.

An IDX file holds a magic number, the sizes, then the values; big-endian, maybe gzipped. Its sizes
are compared with the file's before anything of that size is allocated.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch import Tensor

from bptt_lab.core.random import generator
from bptt_lab.core.validation import ReadablePath, checked
from bptt_lab.tasks.base import Sequences, Split, at_last_step
from bptt_lab.tasks.codec import Codec
from bptt_lab.tasks.files import check_file, check_size, list_folder, refuse, usable
from bptt_lab.tasks.inputs import Inputs, Settings, numbered
from bptt_lab.tasks.kinds import Classification

NUM_CLASSES = 10
PARTS = ("train", "t10k")
GZIP = b"\x1f\x8b"
DEFLATE = 1032  # a byte of gzip holds no more than so many
BYTES = 0x08  # the type of value that the third byte of the magic number names
AGAIN = "get the file again"


class Pair(NamedTuple):
    """Images (M, rows, columns) in bytes, and their digits (M)."""

    images: Tensor
    digits: Tensor


def read_idx(file: Path, num_dimensions: int) -> Tensor:
    """Read an array of bytes: 3 dimensions for images, 1 for labels; gzipped or not."""
    check_file(file)
    with file.open("rb") as raw:
        gzipped = raw.read(2) == GZIP
        raw.seek(0)
        most = file.stat().st_size * (DEFLATE if gzipped else 1)
        stream = gzip.GzipFile(fileobj=raw) if gzipped else raw
        try:
            header = stream.read(4 + 4 * num_dimensions)
            sizes = _sizes(file, header, num_dimensions)
            total, words = math.prod(sizes), " x ".join(map(str, sizes))
            if not 0 < total <= most:
                refuse(file, f"must hold {words} values, as its header says, but cannot; {AGAIN}")
            check_size(file, f"its {words} values", total, "give fewer or smaller images")
            values = bytearray(stream.read(total + 1))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            refuse(file, f"must be whole, but its gzip data are damaged ({error}); {AGAIN}")
    if len(values) != total:
        found = len(values) if len(values) < total else "more"
        problem = f"must hold {words} = {total} values, as its header says, but holds {found}"
        refuse(file, f"{problem}; {AGAIN}")
    return torch.frombuffer(values, dtype=torch.uint8).view(sizes)


def _sizes(file: Path, header: bytes, num_dimensions: int) -> tuple[int, ...]:
    magic = bytes((0, 0, BYTES, num_dimensions))
    if header[:4] != magic:
        problem = f"must be IDX and begin with the bytes {magic.hex(' ')}, but begins with"
        refuse(file, f"{problem} {header[:4].hex(' ')}; give another file")
    if len(header) < 4 + 4 * num_dimensions:
        refuse(file, f"must be whole, but ends in its header, at byte {len(header)}; {AGAIN}")
    return struct.unpack(f">{num_dimensions}I", header[4:])


def read_pair(file: Path) -> Pair:
    """Read an images file and the labels file beside it, named alike."""
    if "images" not in file.name:
        problem = "must name a file of images, as t10k-images-idx3-ubyte.gz, so that its labels"
        refuse(file, f"{problem} can be found beside it; rename both")
    name = file.name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")
    folder = file.parent.parent if file.parent.name == file.name else file.parent
    labels = _either(folder, [name, name.replace("-idx", ".idx"), name.replace(".idx", "-idx")])
    if labels is None:
        refuse(file, f"must have its labels beside it, as {name} or {name}.gz; put them there")
    images, digits = read_idx(file, 3), read_idx(labels, 1).long()
    if len(images) != len(digits):
        problem = f"must hold a label for each of the {len(images)} images in {file.name}, but"
        refuse(labels, f"{problem} holds {len(digits)}; give files that belong together")
    if (largest := int(digits.max())) >= NUM_CLASSES:
        refuse(labels, f"must hold digits of 0 to 9, but holds {largest}; give another file")
    return Pair(images, digits)


def read_pairs(path: str) -> list[Pair]:
    """Read the training pair and the test pair out of a folder, or the only one there is."""
    if list_folder(path) is None:
        return [read_pair(Path(path).expanduser())]
    folder, usual = Path(path).expanduser(), ("{}-images-idx3-ubyte", "{}-images.idx3-ubyte")
    files = [_either(folder, [name.format(part) for name in usual]) for part in PARTS]
    pairs = [read_pair(file) for file in files if file is not None]
    if not pairs:
        names = " or ".join(usual[0].format(part) for part in PARTS)
        refuse(path, f"must hold {names}, gzipped or not, with its labels; give another folder")
    shapes = {pair.images.shape[1:] for pair in pairs}
    if len(shapes) > 1:
        words = " and ".join(" x ".join(map(str, shape)) for shape in sorted(shapes))
        problem = f"must hold images of one size, but holds some of {words}"
        refuse(path, f"{problem}; give another folder")
    return pairs


def pixel_order(images: Tensor, permuted: bool) -> Tensor:
    """The order in which the pixels of images (M, rows, columns) are read."""
    count = images[0].numel()
    if not permuted:
        return torch.arange(count)
    return torch.randperm(count, generator=generator(0, "mnist pixels"))


def _either(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of the files that can be read, plain, gzipped or in a folder of the same name."""
    files = [folder / f"{name}{end}" for name in names for end in ("", ".gz", f"/{name}")]
    return next(iter(usable([file for file in files if file.exists()])), None)


class Mnist(Classification):
    """Name the digit after the last step of an image, read from IDX files.

    A tenth of the training pair is for validation, and the test pair is the test split. Where
    only one pair is at hand, such as the 10,000 images of the test pair, a tenth of it is for
    validation and another for test.

    Reference: LeCun, Bottou, Bengio and Haffner (1998), "Gradient-based learning applied to
    document recognition"; by pixels and permuted: Le, Jaitly and Hinton (2015), "A simple way to
    initialize recurrent networks of rectified linear units".

    Args:
        path: a folder of files with their usual names, gzipped or not; or an images file, with its
            labels beside it.
        layout: "rows" (28 steps of 28 pixels) or "pixels" (784 steps of one).
        permuted: put the pixels of every image into one random order, the same with every seed.
        settings: as SequenceDataModule has them; images are the sequences.

    Raises:
        ConfigError: where a file is missing, damaged or does not belong to the others.
    """

    output_size = NUM_CLASSES
    loss = "cross_entropy"

    @checked
    def __init__(
        self,
        *,
        path: Annotated[str, ReadablePath()] = "",
        layout: Literal["rows", "pixels"] = "rows",
        permuted: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        pairs = read_pairs(path)
        fewest = min(len(pair.digits) for pair in pairs)
        if fewest < 10:
            refuse(path, f"must hold at least 10 images, but holds {fewest}; add some")
        self.pairs = pairs
        self.input_size = pairs[0].images.shape[2] if layout == "rows" else 1
        self.order = pixel_order(pairs[0].images, permuted)

    def part(self, split: Split) -> Pair:
        """Return the images and digits of a split."""
        if split == "test" and len(self.pairs) == 2:
            return self.pairs[1]
        images, digits = self.pairs[0]
        tenth, held_out = len(digits) // 10, 3 - len(self.pairs)
        begin, end = {
            "val": (0, tenth),
            "test": (tenth, 2 * tenth),
            "train": (held_out * tenth, len(digits)),
        }[split]
        order = torch.randperm(len(digits), generator=generator(self.seed, "split"))
        return Pair(images[order[begin:end]], digits[order[begin:end]])

    def sequences(self, split: Split, epoch: int) -> Sequences:
        """Return the images of a split in bytes, the same in every epoch."""
        images, digits = self.part(split)
        steps = images.flatten(1)[:, self.order].view(len(digits), -1, self.input_size)
        return at_last_step(steps.transpose(0, 1).contiguous(), digits)

    def encode(self, input: Tensor) -> Tensor:
        """From 0 to 1."""
        return input.float() / 255

    def codec(self) -> Codec:
        """Return a codec of pixels from 0 to 255."""
        known = self.input_size, self.output_size, self.loss
        return Codec(*known, input_std=(255.0,), at_end=True)

    @classmethod
    def read_inputs(cls, path: str, settings: Settings) -> Inputs:
        """Read the images of an IDX file, gzipped or not."""
        images = read_idx(Path(path).expanduser(), 3)
        pixels = images.flatten(1)[:, pixel_order(images, settings.get("permuted", False))]
        size = 1 if settings.get("layout") == "pixels" else images.shape[2]
        return Inputs(numbered([*pixels.view(len(images), -1, size)]))

    def references(self) -> Mapping[str, Mapping[str, float]]:
        """Always the commonest digit, by the training split's frequencies."""
        counts = torch.bincount(self.part("train").digits, minlength=NUM_CLASSES) + 1
        digits = self.part("test").digits
        guess = (counts / counts.sum()).log().expand(1, len(digits), -1)
        return {"majority": self.measured(guess, digits[None])}
