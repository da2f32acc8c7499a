"""Numbers as people write them: 1234.5, 1234,5, 1,234.5 and 1.234,5.

All numbers of a column are written in one way. Where two ways fit and give other numbers, as for
1,234, they are refused.
"""

import math
import re
from array import array
from collections.abc import Callable, Iterable
from functools import partial

from bptt_lab.tasks.files import quote, refuse

Cells = Iterable[tuple[int, str]]  # the number of a line, and what it holds
Reading = Callable[[str], float | None]
WAY_OUT = "write each with a decimal point and no other mark, as 1234.5"


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


def parse(path: str, cells: Callable[[], Cells], column: int, separator: str) -> "array[float]":
    """Turn a column into numbers.

    Between columns that semicolons separate a point may stand between thousands.

    Raises:
        ConfigError: naming the line that has no number, or the number that may be two.
    """
    left = READINGS
    for line, text in cells():
        found = {reading: reading(text) for reading in left}
        left = tuple(r for r, value in found.items() if value is not None and math.isfinite(value))
        if not left and math.isfinite(number(text) or math.nan):
            problem = f"line {line} writes its number in another way than those before it"
            refuse(path, f"{problem}, {quote(text)}; {WAY_OUT}")
        if not left:
            problem = f"line {line} must have a finite number in column {column}, but has"
            refuse(path, f"{problem} {quote(text)}; correct it or cut the line")
    if _plain in left and separator != ";":
        left = (_plain,)
    values = array("d", (left[0](text) or 0.0 for _, text in cells()))
    for reading in left[1:]:
        for one, (_, text) in zip(values, cells(), strict=True):
            if one != (other := reading(text)):
                problem = f"has {quote(text)} in column {column}, which may be {one:.10g} or"
                way_out = "if it is the smaller add a 0 to it, else take its mark out"
                refuse(path, f"{problem} {other:.10g}; {way_out}")
    return values
