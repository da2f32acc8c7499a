"""Columns of a CSV file, as numbers; what may be read in two ways is refused.

People's files differ in separators, headers and numerals. csv.Sniffer guesses; here the lines must
agree. Numbers are 1234.5, 1234,5, 1,234.5 or 1.234,5, all of a column alike. Where two ways fit and
give other numbers, as for 1,234, they are refused.
"""

import csv
import io
import math
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import dropwhile, islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bptt_lab.core.validation import ConfigError
from bptt_lab.tasks.files import quote, read_text, refuse

SEPARATORS = (";", "\t", "|", ",")  # the comma last: it may be within numbers
NONE = "\x1f"  # for a file of one column
SAMPLE = 100  # lines that must agree for a separator
FEW = 8  # fewer values say nothing of their range
CUT = re.compile(r"\s*[+-]*\d+\s*,\s*\d+\s*")  # two columns, or a decimal comma
_has_digit = re.compile(r"\d").search
WAY_OUT = "put a line of names above the numbers"
POINT = "write each with a decimal point and no other mark, as 1234.5"

Column = str | int | None  # by name, or by number from 1; None is the only one
Cells = Iterable[tuple[int, str]]  # the number of a line, and what it holds
Reading = Callable[[str], float | None]


class Table(NamedTuple):
    """A file's text, and what separates its columns."""

    path: str
    text: str
    separator: str

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each row with the number of its line, less comments before."""
        lines = io.StringIO(self.text, newline="")
        reader = csv.reader(lines, delimiter=self.separator, strict=True)
        rows = ((reader.line_num, row) for row in reader)
        try:
            yield from dropwhile(
                lambda found: "".join(found[1][:1]).startswith(("#", "sep=")), rows
            )
        except csv.Error as error:
            problem = f"line {reader.line_num} must be CSV, but is not ({error}); correct it"
            refuse(self.path, problem)

    def widths(self) -> Iterator[int]:
        """Yield how many columns the first lines have, 0 for one that is no CSV."""
        try:
            for _, row in islice(self.rows(), SAMPLE):
                yield len(row)
        except ConfigError:
            yield 0


def read_columns(path: str, columns: Sequence[Column] | None = None) -> list[Tensor]:
    """Read columns in float64.

    Lines at the top that begin with # are comments. The next one is a header where its entry is no
    number, where other columns say so, and where the column is given by name.

    Args:
        path: a file in UTF-8; commas, semicolons, tabs or bars separate its columns.
        columns: each a name in the header; or a number, the first column being 1; None is the only
            one. None in their place is for all.

    Raises:
        ConfigError: naming the line that is not as it should be, or may be read in two ways.
    """
    table = _table(path)
    if columns is None:
        columns = range(1, next(table.widths(), 1) + 1)
    found = [_read(table, column) for column in columns]
    if len(set(map(len, found))) > 1:  # a header in one of them
        problem = f"begins with names in some of columns {', '.join(map(str, columns))}"
        refuse(path, f"{problem}, and with numbers in others; {WAY_OUT}")
    return found


def _read(table: Table, column: Column) -> Tensor:
    path = table.path
    first = [text.strip() for text in next(table.rows(), (1, []))[1]]
    if not first:
        refuse(path, "must begin with a header or a value, but begins with an empty line; cut it")
    place = place_of(path, column, first)
    header = isinstance(column, str) or _has_header(table, first, place)
    if not header and table.separator == ",":
        _refuse_cut_numbers(table, place, len(first))

    def cells() -> Iterator[tuple[int, str]]:
        for line, row in islice(table.rows(), int(header), None):
            if len(row) != len(first):
                problem = (
                    f"line {line} must have {len(first)} columns as the first one has, but has"
                )
                refuse(path, f"{problem} {len(row)}; correct it, or cut lines above the header")
            if not row[place].strip():
                refuse(path, f"line {line} has no value in column {place + 1}; fill or cut it")
            yield line, row[place]

    return torch.from_numpy(np.array(parse(path, cells, place + 1, table.separator)))


def _table(path: str) -> Table:
    """Find what separates the columns: what cuts all lines alike, or else the first one."""
    text = read_text(path)
    end = len(text.rstrip(" \t\r\n,;|"))
    text = text[:end] + re.split(r"[\r\n]", text[end:], maxsplit=1)[0]  # no empty lines
    tables = [Table(path, text, separator) for separator in SEPARATORS]
    cutting = [table for table in tables if next(table.widths(), 0) > 1]
    alike = [table for table in cutting if len(set(table.widths())) == 1]
    if not cutting:
        _refuse_other_columns(tables)
    return next(iter([*alike, *cutting]), Table(path, text, NONE))


def _refuse_other_columns(tables: list[Table]) -> None:
    """Refuse columns below a title, and columns between spaces, where nothing cuts line 1."""
    path, text, _ = tables[0]
    whole = [row for _, row in islice(Table(path, text, NONE).rows(), SAMPLE)]
    words = {len(row[0].split()) for row in whole if row}
    if len(whole) > 1 and len(words) == 1 and words != {1}:
        problem = f"lines hold {words.pop()} words each, as if spaces separated columns"
        refuse(path, f"{problem}; put commas in place of the spaces, or take these out of numbers")
    for table in tables if whole and whole[0] else ():
        line, row = next((found for found in table.rows() if len(found[1]) > 1), (0, []))
        if any(cell.strip() and number(cell) is None for cell in row):
            problem = f"has {len(row)} columns in line {line}, but not in those above"
            refuse(path, f"{problem}; cut the lines above the header, or correct it")


def place_of(path: str, column: Column, first: Sequence[str]) -> int:
    """Return where a column is among those that a file has, by their names or first entries."""
    names = ", ".join(map(quote, first[:20]))
    if isinstance(column, str):
        column = column.strip()
        if first.count(column) != 1:
            problem = f"must have one column {quote(column)}, but has {first.count(column)} among"
            refuse(
                path, f"{problem} {names}; choose another dataset.column, or take off its mark #"
            )
        return first.index(column)
    if column is None and len(first) > 1:
        problem = f"has {len(first)} columns, beginning {names}; choose one with dataset.column"
        refuse(path, f"{problem}, or some with dataset.columns")
    if column is not None and not 1 <= column <= len(first):
        problem = f"has columns 1 to {len(first)}, but no column {column}"
        refuse(path, f"{problem}; choose another dataset.column")
    return (column or 1) - 1


def _has_header(table: Table, first: list[str], place: int) -> bool:
    """Whether the first row names the columns; refused where it may or may not."""
    cell = first[place]
    if (found := number(cell)) is None:
        return bool(cell)
    # A column that begins without a digit and goes on with some has a name, so all have.
    named = {index for index, text in enumerate(first) if not _has_digit(text)} - {place}
    values, alike, whole = array("d"), 0, False
    for line, row in islice(table.rows(), 1, None):
        named = {index for index in named if index < len(row) and _has_digit(row[index])}
        text = row[place].strip() if place < len(row) else ""
        whole = whole or text.lstrip("+-").isdecimal()
        if (value := number(text)) is not None:
            values.append(value)
        alike += line <= SAMPLE and _in_order(row)
    if named and values:
        return True
    texts = [text for text in first if number(text) is not None]
    start, point, zeros = texts[0].partition(".")
    counted = start.isdecimal() and start + point != "0." and not zeros.strip("0")  # not as cos
    counted = counted and texts == [f"{int(start) + n}{point}{zeros}" for n in range(len(texts))]
    ordered = _in_order(first) and 2 * alike < min(len(values), SAMPLE)
    mixed = (cell.lstrip("+-").isdecimal() and not whole) or texts == ["0"]
    if values and ((counted and len(texts) > 1) or ordered or mixed or _is_far(found, values)):
        problem = f"begins with {quote(cell)} in column {place + 1}, a value or a name"
        by_name = f"or say dataset.column=\"'{cell}'\" where it is one"
        refuse(table.path, f"{problem}; {WAY_OUT}, {by_name}")
    return False


@np.errstate(all="ignore")
def _in_order(row: list[str]) -> bool:
    """Whether a row's numbers are ordered as names would be, as values would hardly be by chance.

    Five or more that rise or fall, or three whose sums or products from both ends are equal.
    """
    numbers = np.array([value for text in row if (value := number(text)) is not None])
    steps, ends = np.diff(numbers), (numbers + numbers[::-1], numbers * numbers[::-1])
    if len(numbers) < 3 or abs(np.sign(steps).sum()) < len(steps):
        return False
    return len(numbers) >= 5 or any(np.ptp(found) <= 1e-9 * abs(found).max() for found in ends)


def _is_far(value: float, values: "array[float]") -> bool:
    """Whether a value is farther from the others than any two of them, four times in a decay."""
    low, high = min(values), max(values)
    most = (high - low) * (4 if values[0] == (low if value < low else high) else 1)
    return len(values) >= FEW and math.isfinite(value) and max(low - value, value - high) > most


def _refuse_cut_numbers(table: Table, place: int, width: int) -> None:
    """Refuse two columns of whole numbers that may be one with decimal commas."""
    for index in range(max(place - 1, 0), min(place + 1, width - 1)):
        if all(CUT.fullmatch(",".join(row[index : index + 2])) for _, row in table.rows()):
            problem = f"columns {index + 1} and {index + 2} hold whole numbers, which may be one"
            refuse(table.path, f"{problem} number with a decimal comma; {WAY_OUT}")


def _plain(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _decimal_comma(text: str) -> float | None:
    return None if "." in text or text.count(",") > 1 else _plain(text.replace(",", "."))


def _in_thousands(mark: str, point: str, text: str) -> float | None:
    whole = rf"[+-]?(\d{{1,3}}|[1-9]\d{{0,2}}(\{mark}\d{{3}})+)(\{point}\d+)?"
    if not re.fullmatch(whole, text.strip()):
        return None
    return float(text.replace(mark, "").replace(point, "."))


READINGS: tuple[Reading, ...] = (
    _plain,
    _decimal_comma,
    partial(_in_thousands, ",", "."),
    partial(_in_thousands, ".", ","),
)


def number(text: str) -> float | None:
    """The number that a text writes, in the first way that fits, inf and nan among them."""
    values = (reading(text) for reading in READINGS)
    return next((value for value in values if value is not None), None)


def _finite(values: Iterable[float | None]) -> "array[float] | None":
    """The values, where each is a finite number."""
    numbers = array("d")
    for value in values:
        if value is None or not math.isfinite(value):
            return None
        numbers.append(value)
    return numbers


def parse(path: str, cells: Callable[[], Cells], column: int, separator: str) -> "array[float]":
    """Turn a column into numbers.

    Between columns that semicolons separate a point may stand between thousands.
    """
    plain = (_plain(text) for _, text in cells())
    if separator != ";" and (numbers := _finite(plain)) is not None:
        return numbers
    left = READINGS
    for line, text in cells():
        found = {reading: reading(text) for reading in left}
        left = tuple(r for r, value in found.items() if value is not None and math.isfinite(value))
        if not left and math.isfinite(number(text) or math.nan):
            problem = f"line {line} writes its number in another way than those before it"
            refuse(path, f"{problem}, {quote(text)}; {POINT}")
        if not left:
            problem = f"line {line} must have a finite number in column {column}, but has"
            refuse(path, f"{problem} {quote(text)}; correct it or cut the line")
    values = array("d", (left[0](text) or 0.0 for _, text in cells()))
    for reading in left[1:]:
        for one, (_, text) in zip(values, cells(), strict=True):
            if one != (other := reading(text)):
                problem = f"has {quote(text)} in column {column}, which may be {one:.10g} or"
                way_out = "if it is the smaller add a 0 to it, else take its mark out"
                refuse(path, f"{problem} {other:.10g}; {way_out}")
    return values
