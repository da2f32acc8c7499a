"""Results: a row for each shape, implementation, thread count, precision and pass; their tables."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import NamedTuple

from bptt_lab.commands.bench.implementations import BASELINE
from bptt_lab.commands.bench.workload import PASSES, Pass, Shape

# Heads, and the rows' fields under them.
_FORWARD = {"min ms": "min_ms", "median": "median_ms", "x RNN": "times_as_fast_min"}
_MEANS = {
    "x RNN": "times_as_fast_min",
    "(median)": "times_as_fast_median",
    "x floor": "times_floor",
}
_BOTH = {**_FORWARD, **_MEANS, "first ms": "first_call_ms"}
_ERRORS = {"err out": "error_output", "err grad": "error_gradient"}
_PEAKS = {"peak MB": "peak_mb", "in LNH": "peak_states"}
_FORMATS = {"error_output": "9.0e", "error_gradient": "9.0e", "peak_states": "9.1f"}
LEGEND = """\
x RNN      how many times as fast as nn.RNN, by the minima of the same rounds; (median) over paired
           rounds. x floor: time over that of the products alone at the machine's rate, 2LNH(I+H)
           operations forward, 4LNHI + 6LNH^2 for both (the input needs no gradient)
first ms   the first call, compilation included
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
    """A block for each shape, a line for each implementation, geometric means last."""
    others = {**_ERRORS, **_PEAKS} if any(row.peak_mb for row in rows) else _ERRORS
    columns = [_FORWARD, _BOTH, others]
    rate = rows[0].product_gflops
    lines = [f"{title}: the machine's rate in a large product is {rate:.0f} GFLOP/s", ""]
    groups = zip(["forward", "forward + backward", "accuracy"], columns, strict=True)
    lines.append(_line("", [name.center(9 * len(under), "-") for name, under in groups]))
    lines.append(_line("L,N,I,H", [f"{name:>9}" for group in columns for name in group]))
    for shape in dict.fromkeys(row.shape for row in rows):
        here = [row for row in rows if row.shape == shape]
        floors = {row.which: f"{row.floor_ms:.3g}" for row in here}
        floor = " and ".join(floors[which] for which in PASSES if which in floors)
        lines.append(f"{shape}   floor {floor} ms")
        for name in dict.fromkeys(row.implementation for row in here):
            passes = {row.which: row for row in here if row.implementation == name}
            forward, both = passes.get("forward"), passes["forward+backward"]
            cells = [_shown(getattr(forward, field, None), field) for field in _FORWARD.values()]
            fields = [*_BOTH.values(), *others.values()]
            cells += [_shown(getattr(both, field), field) for field in fields]
            lines.append(_line(f"  {name}", cells))
    return "\n".join([*lines, "", *_means(rows)])


def _means(rows: Sequence[Row]) -> list[str]:
    """Geometric means over shapes, a line for each implementation."""
    heads = [which.replace("+", " + ").center(9 * len(_MEANS), "-") for which in PASSES]
    lines = [_line("geometric means", heads)]
    lines.append(_line("over shapes", [f"{head:>9}" for _ in PASSES for head in _MEANS]))
    for name in dict.fromkeys(row.implementation for row in rows):
        mine = [row for row in rows if row.implementation == name]
        means = [
            _shown(_mean(getattr(row, field) for row in mine if row.which == which), field)
            for which in PASSES
            for field in _MEANS.values()
        ]
        claims = mine[0].claims
        marks = ["baseline"] * (name == BASELINE) + [claims] * (claims not in ("exact", ""))
        lines.append(_line(f"  {name}", [*means, *(f"   {mark}" for mark in marks)]))
    return lines


def _mean(values: Iterable[float | None]) -> float | None:
    given = [value for value in values if value is not None]
    return geometric_mean(given) if given else None


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:<25}{''.join(cells)}".rstrip()


def _shown(value: float | None, field: str) -> str:
    if value is None:
        return " " * 9
    if field.endswith("_ms"):
        digits = 3 if value < 1 else 2 if value < 100 else 1
        return f"{value:9.{digits}f}"
    return f"{value:{_FORMATS.get(field, '9.2f')}}"
