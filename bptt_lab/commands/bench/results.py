"""Results: a row for each shape, implementation, thread count, precision and pass; their table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import NamedTuple

from bptt_lab.commands.bench.workload import Pass, Shape
from bptt_lab.runs.sweep import aligned

# The table's columns: head, pass, the rows' field.
_COLUMNS: tuple[tuple[str, Pass, str], ...] = (
    ("forward ms", "forward", "min_ms"),
    ("x RNN", "forward", "times_as_fast_min"),
    ("x floor", "forward", "times_floor"),
    ("both ms", "forward+backward", "min_ms"),
    ("median", "forward+backward", "median_ms"),
    ("x RNN", "forward+backward", "times_as_fast_min"),
    ("(median)", "forward+backward", "times_as_fast_median"),
    ("x floor", "forward+backward", "times_floor"),
    ("first ms", "forward+backward", "first_call_ms"),
    ("err out", "forward+backward", "error_output"),
    ("err grad", "forward+backward", "error_gradient"),
    ("peak MB", "forward+backward", "peak_mb"),
    ("in LNH", "forward+backward", "peak_states"),
)
_FORMATS = {"error_output": ".0e", "error_gradient": ".0e", "peak_states": ".1f"}
LEGEND = """\
ms         the least, and for both passes the median; first: the first call, compilation included
x RNN      how many times as fast as nn.RNN, by the minima of the same rounds; (median) over paired
           rounds. x floor: time over that of the products alone at the machine's rate, 2LNH(I+H)
           operations forward, 4LNHI + 6LNH^2 for both (the input needs no gradient)
err        max |difference| / max |value| against nn.RNN in float64, of the output and the worst
           weight's gradient; strategies that are biased or random differ on purpose
rtrl-products: the products alone that rtrl's training step consists of
peak       memory of both passes above tensors and weights, in MB and in units of L N H numbers"""


class Row(NamedTuple):
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


COLUMNS = [{"which": "pass"}.get(name, name) for name in (*Row._fields, *Provenance._fields)]


def write_csv(rows: Iterable[Row], path: Path, where: Provenance) -> None:
    """Write all rows, over what is there, each with where it was measured."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            numbers = (f"{v:.6g}" if isinstance(v, float) else v for v in row)
            writer.writerow([*numbers, *where])


def table(rows: Sequence[Row], title: str) -> str:
    """A line for each shape and implementation, then geometric means of the ratios over shapes."""
    columns = [c for c in _COLUMNS if any(getattr(row, c[2]) is not None for row in rows)]
    heads = [head for head, _, _ in columns]
    lines = [["L,N,I,H", "implementation", *heads, "claims"]]
    for shape, name, claims in dict.fromkeys((r.shape, r.implementation, r.claims) for r in rows):
        passes = {r.which: r for r in rows if (r.shape, r.implementation) == (shape, name)}
        cells = [_shown(getattr(passes.get(which), f, None), f) for _, which, f in columns]
        lines.append([str(shape), name, *cells, claims])
    for name, claims in dict.fromkeys((row.implementation, row.claims) for row in rows):
        cells = []
        for _, which, field in columns:
            mine = [r for r in rows if (r.implementation, r.which) == (name, which)]
            ratios = [getattr(row, field) for row in mine if field.startswith("times")]
            given = [ratio for ratio in ratios if ratio is not None]
            cells.append(_shown(geometric_mean(given) if given else None, field))
        lines.append(["geometric mean", name, *cells, claims])
    rate = f"{rows[0].product_gflops:.0f} GFLOP/s"
    return f"{title}: the machine's rate in a large product is {rate}\n\n{aligned(lines, heads)}"


def _shown(value: float | None, field: str) -> str:
    if value is None:
        return ""
    if field.endswith("_ms"):
        digits = 3 if value < 1 else 2 if value < 100 else 1
        return f"{value:.{digits}f}"
    return f"{value:{_FORMATS.get(field, '.2f')}}"
