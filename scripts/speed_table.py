"""Print docs/performance.md's table from a file that scripts/benchmark.py wrote.

python scripts/speed_table.py                          # from the file that the page names
python scripts/speed_table.py --write                  # ... into the page
python scripts/speed_table.py --write benchmarks/X.csv # from another one
"""

import csv
import math
import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
MARKED = re.compile(r"<!-- speed: (\S+) -->\n.*?<!-- end of speed -->", re.DOTALL)
BASELINE = "nn.RNN"


def main(arguments: list[str]) -> None:
    """Print the table, or write it into the page."""
    page = PAGE.read_text()
    named = [argument for argument in arguments if argument != "--write"]
    block = marked(named[0] if named else source(page))
    if "--write" in arguments:
        PAGE.write_text(MARKED.sub(lambda _: block, page))
    else:
        print(block)


def source(page: str) -> str:
    """Return the path of the file that the page's table comes from."""
    found = MARKED.search(page)
    assert found, "docs/performance.md has no <!-- speed: FILE --> ... <!-- end of speed -->"
    return found[1]


def marked(path: str) -> str:
    """Return the table of a file, between its markers.

    Args:
        path: of the csv, from the project's folder.
    """
    with (ROOT / path).open() as file:
        rows = [row for row in csv.DictReader(file) if row["pass"] == "forward+backward"]
    parts = [_heading(rows[0]), "\n".join(_table(rows)), _memory(rows)]
    text = "\n\n".join(filter(None, parts))
    return f"<!-- speed: {path} -->\n{text}\n<!-- end of speed -->"


def _heading(row: dict[str, str]) -> str:
    return (
        f"Times as fast as nn.RNN, {row['precision']}, forward and backward of one layer, by the "
        f"minima of\nalternating rounds ({row['machine']}; C core on {row['instruction_set']};\n"
        f"{row['versions']}; {row['date']}):"
    )


def _table(rows: list[dict[str, str]]) -> Iterable[str]:
    threads = sorted({row["threads"] for row in rows}, key=int, reverse=True)
    names = list(dict.fromkeys(row["implementation"] for row in rows))
    columns = [(name, number) for name in names if name != BASELINE for number in threads]
    ratios = {
        (_shape(row), row["implementation"], row["threads"]): float(row["times_as_fast_min"])
        for row in rows
    }
    yield _line("L, N, I, H", (f"{name}, {_count(number)}" for name, number in columns))
    yield "|---" * (len(columns) + 1) + "|"
    shapes = list(dict.fromkeys(map(_shape, rows)))
    for shape in shapes:
        yield _line(shape, (_number(ratios[shape, *column]) for column in columns))
    means = (_mean([ratios[shape, *column] for shape in shapes]) for column in columns)
    yield _line("geometric mean", map(_number, means))


def _memory(rows: list[dict[str, str]]) -> str:
    """Peaks where the states are largest: small ones drown in pages."""
    measured = [row for row in rows if row["peak_states"]]
    if not measured:
        return ""
    largest = max(measured, key=lambda row: math.prod(int(row[letter]) for letter in "LNH"))
    peaks = [
        f"{row['implementation']} {float(row['peak_states']):.1f}"
        for row in measured
        if _shape(row) == _shape(largest)
    ]
    return (
        f"Peak memory at {_shape(largest)} above the input, the credit and the weights, in units "
        f"of the\nL N H states: {', '.join(peaks)}."
    )


def _line(head: str, cells: Iterable[str]) -> str:
    return f"| {' | '.join([head, *cells])} |"


def _shape(row: dict[str, str]) -> str:
    return ", ".join(row[letter] for letter in "LNIH")


def _count(threads: str) -> str:
    return f"{threads} thread{'s' * (threads != '1')}"


def _number(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:.0f}"


def _mean(ratios: list[float]) -> float:
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios))


if __name__ == "__main__":
    main(sys.argv[1:])
