"""Results as rows: one for each shape, implementation, thread count, precision and pass."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import NamedTuple

from bptt_lab.commands.bench.workload import Pass, Shape


@dataclass(frozen=True)
class Row:
    """One line of results.csv; None, an empty cell, where something does not apply."""

    L: int
    N: int
    I: int
    H: int
    implementation: str
    claims: str  # exact | unbiased | biased; empty for products alone
    device: str
    precision: str
    threads: int
    instruction_set: str  # of the C core, which nn.RNN and JAX do without
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
    error_output: float | None
    error_gradient: float | None
    peak_mb: float | None = None
    peak_states: float | None = None  # the peak in units of L N H numbers

    @property
    def shape(self) -> Shape:
        """The layer's sizes."""
        return Shape(self.L, self.N, self.I, self.H)


class Provenance(NamedTuple):
    """Where and when a run's numbers were measured, and with what."""

    machine: str
    versions: str
    commit: str  # of the checkout, marked + if it was changed; empty without one
    date: str

    def __str__(self) -> str:
        return f"{self.machine}; {self.versions}"


COLUMNS = ["pass" if field.name == "which" else field.name for field in fields(Row)]
COLUMNS += Provenance._fields


def write_csv(rows: Iterable[Row], path: Path, where: Provenance) -> None:
    """Write all rows, over what is there, each with where it was measured."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            numbers = (f"{v:.6g}" if isinstance(v, float) else v for v in astuple(row))
            writer.writerow([*numbers, *where])
