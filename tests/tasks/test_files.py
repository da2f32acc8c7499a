"""A hundred files as people have them: each is read right, or refused in one line."""

import csv
import gzip
import io
import json
import math
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import pytest

from bptt_lab.core.validation import ConfigError
from bptt_lab.tasks import mnist1d
from bptt_lab.tasks.columns import read_columns
from bptt_lab.tasks.mnist import read_pairs
from bptt_lab.tasks.music import read_rolls
from bptt_lab.tasks.tagging import Tagging, read_conllu
from bptt_lab.tasks.text import Text, to_text
from tasks.damage import little_memory, refused
from tasks.samples import conllu, idx

KEYS = ("train", "valid", "test")
COUNTS = [5, 11, 16, 23, 36, 58, 29, 20, 10, 8, 3, 0]  # sunspots
FLOATS = [5.25, 0.5, -1.75, 12.125]
LARGE = [1234.5, 12.25, 1234567.0]


class Csv(NamedTuple):
    """A file, the column asked for, and its values or why it is refused."""

    content: str | bytes
    column: str | int | None
    wanted: list[float] | str


def lines(*rows: object, end: str = "\n") -> str:
    return end.join(map(str, rows)) + end


def comma(value: float) -> str:
    return f"{value}".replace(".", ",")


def table(separator: str, header: str, values: list, write: Callable = str) -> str:
    rows = (f"2020-01-{n:02}{separator}{write(v)}" for n, v in enumerate(values, start=1))
    return lines(*([header] if header else []), *rows)


def quoted(header: list[str], rows: list[list], **how) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n", **how).writerows([header, *rows])
    return stream.getvalue()


CSV = {
    # Headers that are numbers, and numbers that are no headers.
    "pandas Series without a name or an index": Csv(lines(0, *FLOATS), None, "a value or a name"),
    "the same by its name": Csv(lines(0, *FLOATS), "0", FLOATS),
    "pandas Series without a name": Csv(
        lines(",0", *(f"{n},{v}" for n, v in enumerate(FLOATS))), 2, FLOATS
    ),
    "pandas Series with dates and no name": Csv(table(",", ",0", FLOATS), 2, FLOATS),
    "pandas index with a name": Csv(table(",", "date,0", FLOATS), 2, FLOATS),
    "pandas frame without names": Csv(lines("0,1", "2.5,3", "4.5,5"), 2, "a value or a name"),
    "pandas index as the column": Csv(
        lines(",x", "0,1.5", "1,2.5"), 1, "line 1 has no value in column 1"
    ),
    "a header of years": Csv(lines("2020,2021", "1.5,2.5", "3.5,4.5"), 1, "a value or a name"),
    "a header of years by name": Csv(lines("2020,2021", "1,2", "3,4"), "2021", [2, 4]),
    "a year beside a word": Csv(
        lines("month,2020", *(f"{n},{v}" for n, v in enumerate(COUNTS))), 2, COUNTS
    ),
    "a year above counts": Csv(lines(2021, *COUNTS), None, "a value or a name"),
    "a station above measurements": Csv(lines(10384, *FLOATS), 1, "a value or a name"),
    "counts without a header": Csv(lines(*COUNTS), None, COUNTS),
    "measurements without a header": Csv(lines(*FLOATS), None, FLOATS),
    "a whole number among measurements": Csv(lines(5, 5.5, 6, 7.25), None, [5, 5.5, 6, 7.25]),
    "dates without a header": Csv(table(",", "", FLOATS), 2, FLOATS),
    "a header that begins with a digit": Csv(lines("2nd", *COUNTS), None, COUNTS),
    "a header in quotes": Csv(lines('"x"', *COUNTS), "x", COUNTS),
    # Decimal commas.
    "decimal commas after semicolons": Csv(table(";", "date;x", FLOATS, comma), "x", FLOATS),
    "decimal commas after tabs": Csv(table("\t", "date\tx", FLOATS, comma), 2, FLOATS),
    "decimal commas after bars": Csv(table("|", "date|x", FLOATS, comma), 2, FLOATS),
    "decimal commas without a header": Csv(table(";", "", FLOATS, comma), 2, FLOATS),
    "one column of decimal commas": Csv(lines("x", *map(comma, FLOATS)), None, FLOATS),
    "one column of decimal commas, no header": Csv(lines(*map(comma, FLOATS)), 1, "decimal comma"),
    "quoted decimal commas": Csv(
        quoted(["t", "x"], [[n, comma(v)] for n, v in enumerate(FLOATS)]), "x", FLOATS
    ),
    "decimal commas between commas": Csv(
        table(",", "date,x", FLOATS, comma), 2, "line 2 must have 2 columns"
    ),
    "the same without a header": Csv(table(",", "", FLOATS, comma), 2, "decimal comma"),
    "decimal commas and exponents": Csv(lines("x", "1,5e3", "-2,5E-1"), None, [1500, -0.25]),
    "two decimal marks": Csv(
        lines("a;b", "1;1,5", "2;2.5"), 2, "line 3 writes its number in another way"
    ),
    "three digits after a comma": Csv(
        lines("a;b", "1;1,234", "2;2,345"), 2, "may be 1.234 or 1234"
    ),
    "three digits settled by a fourth": Csv(lines("x", "1,234", "2,3456"), 1, [1.234, 2.3456]),
    "three digits settled by a zero": Csv(lines("x", "1,234", "0,345"), 1, [1.234, 0.345]),
    "three digits after a point": Csv(lines("x", "1.234", "2.345"), 1, [1.234, 2.345]),
    "the same after semicolons": Csv(
        lines("a;b", "1;1.500", "2;2.341"), 2, "1.5 or 1500; if it is the smaller add a 0"
    ),
    "the same with a 0 more": Csv(lines("a;b", "1;1.5000", "2;2.341"), 2, [1.5, 2.341]),
    "three digits with a 0 more": Csv(lines("x", "1,2340", "2,345"), 1, [1.234, 2.345]),
    "points after semicolons": Csv(lines("a;b", "1;1.5", "2;2.345"), 2, [1.5, 2.345]),
    # Thousands.
    "thousands between commas": Csv(
        quoted(["t", "x"], [[n, f"{v:,.2f}"] for n, v in enumerate(LARGE)]), "x", LARGE
    ),
    "thousands between points": Csv(lines("a;b", "1;1.234,5", "2;12,25"), 2, [1234.5, 12.25]),
    "only thousands": Csv(lines("a;b", "1;1.234", "2;12.345.678"), 2, [1234, 12345678]),
    "thousands between spaces": Csv(lines("x", "1 234", "2 345"), 1, "line 2 must have a finite"),
    "thousands between apostrophes": Csv(lines("x", "1'234"), 1, "line 2 must have a finite"),
    # Separators, quotes and line ends.
    "semicolons": Csv(table(";", "date;x", FLOATS), "x", FLOATS),
    "tabs": Csv(table("\t", "date\tx", FLOATS), "x", FLOATS),
    "bars": Csv(table("|", "date|x", FLOATS), "x", FLOATS),
    "a comma within a header": Csv(table(";", "date;x, in kg", FLOATS), 2, FLOATS),
    "spaces between columns": Csv(lines("1 2", "3 4"), 1, "put commas in place of"),
    "the same with a header": Csv(lines("a b", "0 1001.9", "1  7"), "b", "put commas in place of"),
    "a line of Excel's": Csv(lines("sep=;", "a;x", "1;2,5"), "x", [2.5]),
    "a title above": Csv(lines("Sunspots", "", "month,x", "1,5"), "x", "cut the lines above the h"),
    "a title with a comma": Csv(lines("Sun, spots", "m,x,y", "1,5,6"), 2, "cut lines above the h"),
    "a comment for a header": Csv(lines("#a,b", "1.5,2.5", "2,3"), "b", "or take off its mark #"),
    "a semicolon within quotes": Csv(lines("a,b", '"x;y",1.5', '"z;w",2.5'), "b", [1.5, 2.5]),
    "all in quotes": Csv(
        quoted(["t", "x"], [[n, v] for n, v in enumerate(FLOATS)], quoting=csv.QUOTE_ALL),
        "x",
        FLOATS,
    ),
    "whole numbers in quotes": Csv(quoted(["x"], [[v] for v in COUNTS], quoting=1), None, COUNTS),
    "Windows line ends": Csv(lines("x", *FLOATS, end="\r\n"), "x", FLOATS),
    "old Macintosh line ends": Csv(lines("x", *FLOATS, end="\r"), "x", FLOATS),
    "a mark of UTF-8": Csv("\ufeff" + lines("x", *FLOATS), "x", FLOATS),
    "a mark of UTF-8 and no header": Csv("\ufeff" + lines(*FLOATS), None, FLOATS),
    "UTF-16": Csv(lines("x", *FLOATS).encode("utf-16"), "x", "begins as UTF-16"),
    "UTF-16, big end first": Csv(
        b"\xfe\xff" + lines("x", 1).encode("utf-16-be"), "x", "begins as UTF-16"
    ),
    "UTF-16 without a mark": Csv(lines("x", 1).encode("utf-16-le"), "x", "is 0, as in UTF-16"),
    "latin-1": Csv("größe\n1\n".encode("latin-1"), 1, "must be a text in UTF-8"),
    "a workbook": Csv(b"PK\3\4\x14\0\6\0\x08\0\xff\xff", 1, "begins as zip; unpack it"),
    "gzip": Csv(gzip.compress(b"x\n1\n"), 1, "begins as gzip; unpack it"),
    # Comments, and values that are missing.
    "comments": Csv(lines("# by hand", "# in kg", "x", *FLOATS), "x", FLOATS),
    "comments without a header": Csv(lines("# t, x", "1.5,2.5", "2.5,3"), 2, [2.5, 3]),
    "a comment between": Csv(lines("x", 1, "# later", 2), "x", "line 3 must have a finite number"),
    "an empty value": Csv(lines("a,x", "1,2", "2,", "3,4"), "x", "line 3 has no value"),
    "NA": Csv(lines("x", 1, "NA", 3), "x", "line 3 must have a finite number"),
    "NaN": Csv(lines("x", 1.5, "NaN", 3.5), "x", "line 3 must have a finite number"),
    "a question mark": Csv(lines("x", 1, "?", 3), "x", "line 3 must have a finite number"),
    "an empty line": Csv(lines("x", 1, "", 3), "x", "line 3"),
    "blanks at the end": Csv(lines("x", 1, 2, "", "  "), "x", [1, 2]),
    "empty lines at the end": Csv(lines("x", 1, 2, "", "", ""), "x", [1, 2]),
    "a sum below": Csv(lines("m,x", "1,5", "2,6", "sum"), "x", "line 4 must have 2 columns"),
    "a unit below the header": Csv(lines("x", "m/s", 1), "x", "line 2 must have a finite number"),
    "per cent": Csv(lines("x", "5%", "6%"), "x", "line 2 must have a finite number"),
    "money": Csv(lines("x", "$5", "$6"), "x", "line 2 must have a finite number"),
    "a plus": Csv(lines("x", "+1.5", "-2"), "x", [1.5, -2]),
    "spaces around": Csv(lines("a, x", "1, 2.5", "2, 3.5"), 2, [2.5, 3.5]),
}


@pytest.mark.parametrize("name", CSV)
def test_columns(tmp_path, name):
    content, column, wanted = CSV[name]
    file = tmp_path / "data.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    if isinstance(wanted, str):
        refused(lambda: read_columns(str(file), [column])[0], file, wanted)
    else:
        assert read_columns(str(file), [column])[0].tolist() == wanted


NOISE = [math.sin(n * n) for n in range(200)]
NAMES = {
    "years with a point": ("2019.0,2020.0", 0, 1),
    "quantiles": ("0.05,0.5,0.95", 0, 1),
    "seven quantiles": ("0.01,0.05,0.25,0.5,0.75,0.95,0.98", 0, 1),
    "powers": ("0.01,0.1,1", 0, 1),
    "signs": ("-1,0,1", 0, 1),
    "far away": ("400.5", 0.1, 0.02),
    "below": ("-5", 100, 10),
    "with a plus": ("+1", 100, 10),
    "a month": ("2020.01", 100, 10),
    "an exponent": ("1e3", 0, 1),
}


@pytest.mark.parametrize("name", NAMES)
def test_numbers_that_may_be_names(tmp_path, name):
    header, mean, size = NAMES[name]
    count, file = header.count(",") + 1, tmp_path / "data.csv"
    shifted = [[mean + size * x for x in NOISE[n:] + NOISE[:n]] for n in range(count)]
    file.write_text(lines(header, *(",".join(map(str, row)) for row in zip(*shifted, strict=True))))
    for place, text in enumerate(header.split(",")):
        refused(lambda place=place: read_columns(str(file), [place + 1]), file, "a value or a name")
        assert read_columns(str(file), [text])[0].tolist() == shifted[place]


ORDINARY = {
    "noise": NOISE,
    "a walk": [100 + x for x in accumulate(NOISE)],
    "a trend": [n / 2 + x for n, x in enumerate(NOISE)],
    "a rise": [1.1**n for n in range(200)],
    "a decay": [1000 * 0.5**n for n in range(200)],
    "a fast decay": [5 * 0.3**n for n in range(60)],
    "a loss": [0.1 + 2.3 / (1 + n) for n in range(200)],
    "a wave from 0": [math.sin(n / 5) for n in range(200)],
    "a wave from 1": [math.cos(n / 5) for n in range(200)],
    "a step": [float(n > 50) for n in range(200)],
    "an outlier": [2.5, *NOISE],
    "years": [1900.5 + n for n in range(120)],
    "skewed": [math.exp(2 * x) for x in NOISE],
    "heavy tails": [math.tan(n) for n in range(1, 200)],
    "sorted": sorted(NOISE),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_series_without_a_header(tmp_path, name):
    values, file = ORDINARY[name], tmp_path / "data.csv"
    for begin, column in (("{1}", None), ("{0},{1}", 2), ("{2},{1},{1}", 3)):
        rows = (begin.format(n, x, n / 10) for n, x in enumerate(values))
        file.write_text(lines(*rows))
        assert read_columns(str(file), [column])[0].tolist() == values


SENTENCE = "What a piece of work is a man! " * 10
MANY = "".join(map(chr, range(0x4E00, 0x4E00 + 20_000)))
RIGHT_TEXTS = {
    "plain": (SENTENCE.encode(), SENTENCE),
    "a mark of UTF-8": (SENTENCE.encode("utf-8-sig"), SENTENCE),
    "two files behind one another": (SENTENCE.encode("utf-8-sig") * 2, SENTENCE * 2),
    "Windows line ends": (b"a\r\nb" * 99, "a\r\nb" * 99),
    "Chinese": (MANY[:9000].encode(), MANY[:9000]),
}
WRONG_TEXTS = {
    "UTF-16": (SENTENCE.encode("utf-16"), "begins as UTF-16"),
    "UTF-16 without a mark": (SENTENCE.encode("utf-16-le"), "is 0, as in UTF-16"),
    "Windows-1252": ("“quoted”".encode("cp1252") * 99, "must be a text in UTF-8, but byte 0"),
    "a PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" * 9, "must be a text in UTF-8"),
    "gzip": (gzip.compress(SENTENCE.encode()), "begins as gzip"),
    "short": (b"too short", "must hold at least 100 characters"),
    "20,000 characters": (MANY.encode(), "at most 16384 different characters, but holds 20000"),
}


@pytest.mark.parametrize("name", RIGHT_TEXTS)
def test_texts(tmp_path, name):
    content, wanted = RIGHT_TEXTS[name]
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    with little_memory():
        task = Text(path=str(file), batch_size=4)
        assert task.references()["bigram"]["accuracy"] >= 0
    assert to_text(task.tokens, task.vocabulary) == wanted


@pytest.mark.parametrize("name", WRONG_TEXTS)
def test_texts_that_are_none(tmp_path, name):
    content, wanted = WRONG_TEXTS[name]
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    refused(lambda: Text(path=str(file), batch_size=4), file, wanted)


def rolls(note: object = 60, **more: object) -> str:
    piece = [[note, 64], [62], []]
    return json.dumps({"train": [piece], "valid": [piece], "test": [piece], **more})


MUSIC = {
    "whole numbers": (rolls(), None),
    "numbers with a point": (rolls(60.0), None),
    "a mark of UTF-8": (rolls().encode("utf-8-sig"), None),
    "more keys": (rolls(source="by hand"), None),
    "half a note": (rolls(60.5), "but holds '60.5'"),
    "a rest as -1": (rolls(-1), "but holds '-1'"),
    "NaN": (rolls(float("nan")), "but holds 'NaN'"),
    "infinite": (rolls(float("inf")), "but holds 'Infinity'"),
    "a name": (rolls("C4"), "must hold MIDI numbers"),
    "a pickle": (b"\x80\x03}q\0X\x05\0\0\0trainq\x01]q\x02.", "begins as a pickle"),
    "a pickle in ASCII": ("(dp0\nS'train'\np1\n(lp2\ns.", "must be JSON"),
    "an archive of numpy": (b"PK\3\4\x14\0\0\0\x08\0\xff", "begins as zip"),
    "UTF-16": (rolls().encode("utf-16"), "begins as UTF-16"),
    "keys of another set": (json.dumps({"train": [], "validation": [], "test": []}), "the keys"),
    "a roll of 88 keys": (json.dumps({k: [[[0] * 88] * 3] for k in KEYS}), "but holds '0'"),
    "a list of notes": (json.dumps({k: [60, 62] for k in KEYS}), "must be a list of two moments"),
    "lines of JSON": (lines(rolls(), rolls()), "is not (Extra data: line 2 column 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUSIC)
def test_music(tmp_path, name):
    content, complaint = MUSIC[name]
    file = tmp_path / "rolls.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    if complaint:
        refused(lambda: read_rolls(str(file)), file, complaint)
    else:
        found = read_rolls(str(file))["test"]
        assert (found.input.nonzero()[:, 2] + 21).tolist() == [60, 64, 62]
        assert (found.target.nonzero()[:, 2] + 21).tolist() == [62]


PICTURES, DIGITS = idx((10, 2, 2), bytes(range(40))), idx((10,), bytes(range(10)))
IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
SHADOW = b"\0\5\x16\7\0\2\0\0Mac OS X        "  # what macOS writes beside a file
BOMB = gzip.compress(idx((10, 10_000, 10_000), bytes(range(256)) * 4000), 0)
GOOD = {IMAGES: PICTURES, LABELS: DIGITS}
ZIPPED = {f"{name}.gz": gzip.compress(content) for name, content in GOOD.items()}
# Files by name, None for a folder; what is given, and the complaint, if any, with its file.
IDX: dict[str, tuple[dict[str, bytes | None], str, str | None, str]] = {
    "plain": (GOOD, "", None, ""),
    "zipped": (ZIPPED, "", None, ""),
    "both": ({**GOOD, **ZIPPED}, "", None, ""),
    "an images file": (ZIPPED, f"{IMAGES}.gz", None, ""),
    "zipped under a plain name": (dict(zip(GOOD, ZIPPED.values(), strict=True)), "", None, ""),
    "names with a dot": (
        {name.replace("-idx", ".idx"): content for name, content in GOOD.items()}, "", None, "",
    ),
    "a folder hides the zipped": ({**ZIPPED, IMAGES: None, LABELS: None}, "", None, ""),
    "a folder hides the one with a dot": (
        {IMAGES: None, "t10k-images.idx3-ubyte": PICTURES, "t10k-labels.idx1-ubyte": DIGITS},
        "", None, "",
    ),
    "an empty file hides the zipped": ({**ZIPPED, IMAGES: b"", LABELS: b""}, "", None, ""),
    "an empty archive beside the plain": ({**GOOD, f"{IMAGES}.gz": b""}, "", None, ""),
    "labels in an empty file": ({**GOOD, **ZIPPED, LABELS: b""}, IMAGES, None, ""),
    "shadows of macOS": (
        {**GOOD, f"._{IMAGES}": SHADOW, f"._{LABELS}": SHADOW, "._train-images-idx3-ubyte": SHADOW},
        "", None, "",
    ),
    "only shadows": ({f"._{IMAGES}": SHADOW, f"._{LABELS}": SHADOW}, "", "", "must hold train-im"),
    "a shadow by name": (
        {f"._{IMAGES}": SHADOW, f"._{LABELS}": SHADOW}, f"._{IMAGES}", f"._{IMAGES}", "must be IDX",
    ),
    "a dot in one name": ({"t10k-images.idx3-ubyte": PICTURES, LABELS: DIGITS}, "", None, ""),
    "in folders": ({f"{n}/{n}": content for n, content in GOOD.items()}, "", None, ""),
    "in a folder by its file": (
        {f"{IMAGES}/{IMAGES}": PICTURES, LABELS: DIGITS}, f"{IMAGES}/{IMAGES}", None, "",
    ),
    "only folders": ({IMAGES: None, LABELS: None}, "", IMAGES, "it is a folder"),
    "no labels": ({IMAGES: PICTURES}, "", IMAGES, "must have its labels beside it"),
    "a bomb": (
        {f"{IMAGES}.gz": BOMB, **GOOD, IMAGES: b""}, "", f"{IMAGES}.gz",
        "its 10 x 10000 x 10000 values would need 3.73 GiB of memory, of which 1 are allowed",
    ),
    "pixels as floats": ({**GOOD, IMAGES: idx((10, 2, 2), bytes(160), 13)}, "", IMAGES, "00 00 0d"),
    "colours": ({**GOOD, IMAGES: idx((10, 2, 2, 3), bytes(120))}, "", IMAGES, "00 00 08 04"),
    "letters": ({**GOOD, LABELS: idx((10,), bytes(range(17, 27)))}, "", LABELS, "of 0 to 9, but"),
    "a page of a login": ({**GOOD, IMAGES: b"<!DOCTYPE html>"}, "", IMAGES, "must be IDX"),
}  # fmt: skip


@pytest.mark.parametrize("name", IDX)
def test_idx(tmp_path, name):
    contents, given, place, complaint = IDX[name]
    write(tmp_path, contents)
    path = tmp_path / given
    if place is None:
        (pair,) = read_pairs(str(path))
        assert pair.images.flatten().tolist() == list(range(40))
        assert pair.digits.tolist() == list(range(10))
    else:
        refused(lambda: read_pairs(str(path)), tmp_path / place, complaint)


def write(folder: Path, contents: dict[str, bytes | None]) -> None:
    for name, content in contents.items():
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)


ONE, TWO = conllu([[("I", "PRON"), ("see", "VERB")]]), conllu([[("flights", "NOUN")]])
BOTH = ["I", "see", "flights"]
DEV, TEST = "en_x-ud-dev.conllu", "en_x-ud-test.conllu"
REST = {DEV: ONE, TEST: ONE}
TRAIN = "en_x-ud-train.conllu"
TREEBANKS = {
    "usual": ({TRAIN: ONE + TWO, **REST}, "", BOTH),
    "by its training file": ({TRAIN: ONE + TWO, **REST}, TRAIN, BOTH),
    "by its test file": ({TRAIN: ONE + TWO, **REST}, TEST, BOTH),
    "one of two by its file": (
        {TRAIN: ONE + TWO, **REST, "de_y-ud-train.conllu": TWO, "de_y-ud-dev.conllu": TWO},
        TRAIN, BOTH,
    ),
    "in pieces": ({"en_x-ud-train-b.conllu": TWO, "en_x-ud-train-a.conllu": ONE, **REST}, "", BOTH),
    "in numbered pieces": (
        {"en_x-ud-train-a-1.conllu": ONE, "en_x-ud-train-a-2.conllu": TWO, **REST}, "", BOTH,
    ),
    "by one of its pieces": (
        {"en_x-ud-train-l.conllu": ONE, "en_x-ud-train-m.conllu": TWO, **REST},
        "en_x-ud-train-m.conllu", BOTH,
    ),
    "a copy beside it": ({TRAIN: ONE + TWO, "en_x-ud-train-old.conllu": ONE, **REST}, "", BOTH),
    "an empty piece": (
        {"a-train-1.conllu": ONE, "a-train-2.conllu": "", "a-dev.conllu": ONE,
         "a-test.conllu": ONE}, "", "a-train-2.conllu: must hold some data",
    ),
    "a piece beside the whole": (
        {TRAIN: ONE, "en_x-ud-train-2.conllu": TWO, **REST}, "", "en_x-ud-train-2.conllu: may be a",
    ),
    "a name that holds a split's": (
        {"latest-dev-ud-train.conllu": ONE + TWO, "latest-dev-ud-dev.conllu": ONE,
         "latest-dev-ud-test.conllu": ONE}, "", BOTH,
    ),
    "shadows of macOS": (
        {TRAIN: ONE + TWO, **REST, f"._{TRAIN}": "\0\5\x16\7", f"._{DEV}": "\0\5"}, "", BOTH,
    ),
    "an empty file beside it": ({TRAIN: ONE + TWO, "train.conllu": "", **REST}, "", BOTH),
    "a mark of UTF-8": ({TRAIN: "\ufeff" + ONE + "\ufeff" + TWO, **REST}, "", BOTH),
    "Windows line ends": ({TRAIN: (ONE + TWO).replace("\n", "\r\n"), **REST}, "", BOTH),
    "two treebanks": (
        {TRAIN: ONE, **REST, "de_y-ud-train.conllu": TWO}, "", "ends in train.conllu, but holds 2",
    ),
    "pieces of two treebanks": (
        {"en_x-ud-train-a.conllu": ONE, "de_y-ud-train-b.conllu": TWO, **REST}, "",
        "ends in train.conllu, but holds 2",
    ),
    "no test": ({TRAIN: ONE, DEV: ONE}, "", "ends in test.conllu, but holds 0"),
    "a file of no split": ({"all.conllu": ONE}, "all.conllu", "one of its files, named"),
    "UTF-16": ({TRAIN: ONE.encode("utf-16"), **REST}, "", "begins as UTF-16"),
    "no last line": ({TRAIN: ONE[:-1], **REST}, "", "must end in an empty line"),
    "spaces for tabs": ({TRAIN: ONE.replace("\t", "    "), **REST}, "", "line 2 must have 10"),
    "CoNLL-2003": ({TRAIN: "I PRP B-NP O\n\n", **REST}, "", "line 1 must have 10 columns"),
    "tags of a language": ({TRAIN: ONE.replace("VERB", "VBP"), **REST}, "", "but has 'VBP'"),
}  # fmt: skip


@pytest.mark.parametrize("name", TREEBANKS)
def test_treebanks(tmp_path, name):
    contents, given, wanted = TREEBANKS[name]
    whole = {n: c if isinstance(c, bytes) else c.encode() for n, c in contents.items()}
    write(tmp_path, whole)
    load = partial(Tagging, path=str(tmp_path / given))
    if isinstance(wanted, str):
        refused(load, tmp_path, wanted)
    else:
        task = load()
        assert [word for sentence in task.sentences["train"] for word, _ in sentence] == wanted
        assert [tag for ((_, tag), *_) in task.sentences["val"]] == ["PRON"]


def test_drawn_curves_need_no_file_and_their_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    mnist1d.read_mnist1d.cache_clear()
    with pytest.raises(ConfigError, match=r"needs the package mnist1d; run pip install"):
        mnist1d.Mnist1d()


READERS = {
    "csv": (lambda path: read_columns(path, [None]), "at most 128 MiB, but has 1048576"),
    "text": (lambda path: Text(path=path), "at most 128 MiB, but has 1048576"),
    "json": (read_rolls, "at most 32 MiB, but has 1048576"),
    "conllu": (lambda path: read_conllu(Path(path)), "at most 128 MiB, but has 1048576"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_file_beyond_the_limit(tmp_path, name):
    read, complaint = READERS[name]
    file = tmp_path / "large"
    with file.open("wb") as stream:
        stream.truncate(2**40)  # takes no room on the disk
    refused(lambda: read(str(file)), file, complaint)


def test_there_are_a_hundred():
    tables = (CSV, RIGHT_TEXTS, WRONG_TEXTS, MUSIC, IDX, TREEBANKS, READERS)
    assert sum(map(len, tables)) >= 100
