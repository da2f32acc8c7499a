"""Results as rows: one for each shape, contestant, thread count, precision and pass."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from bptt_lab.commands.bench.workload import Pass, Shape


@dataclass(frozen=True)
class Row:
    """One line of results.csv; None, an empty cell, where something does not apply."""

    L: int
    N: int
    I: int
    H: int
    contestant: str
    device: str
    precision: str
    threads: int
    which: Pass
    rounds: int
    first_call_ms: float
    min_ms: float
    median_ms: float
    times_as_fast_min: float | None  # nn.RNN's minimum over this one
    times_as_fast_median: float | None  # the median over rounds of nn.RNN's time over this one
    product_gflops: float  # the machine's rate in a large product, floating-point operations/ns
    floor_ms: float  # the products' operations at that rate
    times_floor: float  # min_ms over floor_ms
    error_output: float
    error_gradient: float | None
    peak_mb: float | None = None
    peak_states: float | None = None  # the peak in units of L N H numbers

    @property
    def shape(self) -> Shape:
        """The layer's sizes."""
        return Shape(self.L, self.N, self.I, self.H)


COLUMNS = ["pass" if field.name == "which" else field.name for field in fields(Row)] + ["machine"]


def write_csv(rows: Iterable[Row], path: Path, machine: str) -> None:
    """Write all rows, over what is there.

    Args:
        rows: the results.
        path: the file.
        machine: what they were measured on, repeated on each line: files of several machines
            can be joined.
    """
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([*_cells(row), machine] for row in rows)


def _cells(row: Row) -> list[str]:
    return [
        "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
        for value in asdict(row).values()
    ]
