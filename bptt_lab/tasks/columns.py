"""One column of a CSV file, as numbers."""

from __future__ import annotations

import csv
import io
import math

import torch
from torch import Tensor

from bptt_lab.tasks.files import quote, refuse
from bptt_lab.tasks.text import read_text


def read_column(path: str, column: str | int | None) -> Tensor:
    """Read a column in float64.

    The first line is a header where its entry is not a number, or the column is given by name.

    Args:
        path: a file in UTF-8, its columns separated by commas.
        column: a name in the header; or a number, the first column being 1; None is the only one.

    Raises:
        ConfigError: naming the line that is not as it should be.
    """
    rows = _rows(path)
    first = rows[0][1]
    place = _place(path, column, first)
    names = bool(first[place].strip()) and _number(first[place]) is None
    header = names or isinstance(column, str)
    return torch.tensor(
        [_value(path, line, row, place, len(first)) for line, row in rows[header:]],
        dtype=torch.float64,
    )


def _rows(path: str) -> list[tuple[int, list[str]]]:
    """The rows with the numbers of their lines, less empty ones at the end."""
    reader = csv.reader(
        io.StringIO(read_text(path).removeprefix("\ufeff"), newline=""), strict=True
    )
    rows = []
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        refuse(path, f"line {reader.line_num} must be CSV, but is not ({error}); correct it")
    while rows and not any(rows[-1][1]):
        rows.pop()
    if not rows or not rows[0][1]:
        refuse(path, "must begin with a header or a value, but begins with an empty line; cut it")
    return rows


def _place(path: str, column: str | int | None, first: list[str]) -> int:
    """The index of the column."""
    if isinstance(column, str):
        if first.count(column) != 1:
            problem = f"must have one column {quote(column)}, but has {first.count(column)} among"
            names = ", ".join(map(quote, first[:20]))
            refuse(path, f"{problem} {names}; choose another dataset.column")
        return first.index(column)
    if column is None and len(first) > 1:
        names = ", ".join(map(quote, first[:20]))
        refuse(path, f"has {len(first)} columns, beginning {names}; choose one with dataset.column")
    if column is not None and not 1 <= column <= len(first):
        problem = f"has columns 1 to {len(first)} between commas, but no column {column}"
        refuse(path, f"{problem}; choose another dataset.column")
    return (column or 1) - 1


def _value(path: str, line: int, row: list[str], place: int, width: int) -> float:
    if len(row) != width:
        problem = f"line {line} must have {width} columns as the first one has, but has {len(row)}"
        refuse(path, f"{problem}; correct it, or get the file again")
    if not row[place].strip():
        refuse(path, f"line {line} has no value in column {place + 1}; fill it in or cut the line")
    value = _number(row[place])
    if value is None or not math.isfinite(value):
        problem = f"line {line} must have a finite number in column {place + 1}, but has"
        refuse(path, f"{problem} {quote(row[place])}; correct it or cut the line")
    return value


def _number(text: str) -> float | None:
    """The number that a text writes, inf and nan among them, or None."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None
