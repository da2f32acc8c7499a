"""Texts for people: a terminal only shows them, a spreadsheet too, and neither obeys them."""

import math
from collections.abc import Collection, Sequence

_LONGEST = 1000  # characters


def printable(message: str) -> str:
    r"""Put a message on one line of at most about 1000 characters, with control characters escaped.

    >>> printable("a=\x1b[31mred:\n must be a number")
    'a=\\x1b[31mred: must be a number'
    """
    message = " ".join(message.split())
    if len(message) > _LONGEST:
        message = f"{message[: _LONGEST // 2]} ... {message[-_LONGEST // 3 :]}"
    return escaped(message)


def escaped(text: str) -> str:
    r"""Escape control characters, and what a terminal cannot show; lines stay lines.

    >>> escaped("a\x1b[31m")
    'a\\x1b[31m'
    """
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def rounded(value: float) -> str:
    """Write a number with four digits behind the point, or three digits where that says nothing.

    >>> rounded(0.25), rounded(4.2e-7)
    ('0.2500', '4.2e-07')
    """
    if value == 0 or 1e-3 <= abs(value) < 1e3 or not math.isfinite(value):
        return f"{value:.4f}"
    return f"{value:.3g}"


def cell(text: str) -> str:
    r"""Return a text as a cell of a table: one line, and no formula, for a spreadsheet.

    >>> cell("=1+1"), cell("-0.5"), cell("a\nb\x1b[2J")
    ("'=1+1", '-0.5', 'a\\nb\\x1b[2J')
    """
    text = escaped(text).replace("\n", "\\n")
    if not text.startswith(("=", "+", "-", "@")):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def columns(rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> str:
    """Return the format of a table's lines, whose columns are as wide as their widest cells.

    Args:
        rows: the cells, those of the heads first.
        right: heads of columns whose cells stand at the right.

    >>> columns([("k", "ms"), ("16", "1000")], ["ms"]).format("2", "30")
    '2     30'
    """
    return "  ".join(
        f"{{:{'>' if cells[0] in right else '<'}{max(map(len, cells))}}}"
        for cells in zip(*rows, strict=True)
    )


def headed(layout: str, heads: Sequence[str]) -> str:
    """Write the heads of a table, and a rule below them."""
    line = layout.format(*heads)
    return f"{line.rstrip()}\n{'-' * len(line)}"
