"""The results on screen: one table for each device, precision and thread count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import geometric_mean

from bptt_lab.commands.bench.implementations import BASELINE
from bptt_lab.commands.bench.results import Row
from bptt_lab.commands.bench.workload import PASSES

_FORWARD = ["min ms", "median", "x RNN"]
_BOTH = ["min ms", "median", "x RNN", "(median)", "x floor", "first ms"]
_OTHER = ["err out", "err grad", "peak MB", "in LNH"]
_MEANS = {
    "x RNN": "times_as_fast_min",
    "(median)": "times_as_fast_median",
    "x floor": "times_floor",
}
_BLANK = " " * 9
LEGEND = """\
x RNN      how many times as fast as nn.RNN, by the minima of the same rounds; (median) over paired
           rounds. x floor: time over that of the products alone at the machine's rate, 2LNH(I+H)
           operations forward, 4LNHI + 6LNH^2 for both (the input needs no gradient)
first ms   the first call, compilation included
err        max |difference| / max |value| against nn.RNN in float64, of the output and the worst
           weight's gradient; strategies that are biased or random differ on purpose
rtrl-products: the products alone that rtrl's training step consists of
peak       memory of both passes above tensors and weights, in MB and in units of L N H numbers"""


def table(rows: Sequence[Row], title: str) -> str:
    """A block for each shape, a line for each implementation, geometric means last."""
    columns = [_FORWARD, _BOTH, _OTHER if any(row.peak_mb for row in rows) else _OTHER[:2]]
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
            cells = _cells(passes.get("forward"), passes["forward+backward"])
            lines.append(_line(f"  {name}", cells if len(columns[2]) == 4 else cells[:-2]))
    return "\n".join([*lines, "", *_means(rows)])


def _cells(forward: Row | None, both: Row) -> list[str]:
    return [
        *([_BLANK] * len(_FORWARD) if forward is None else _times(forward)),
        *_times(both),
        _ratio(both.times_as_fast_median),
        _ratio(both.times_floor),
        _ms(both.first_call_ms),
        _or_blank(both.error_output, "{:9.0e}"),
        _or_blank(both.error_gradient, "{:9.0e}"),
        _or_blank(both.peak_mb, "{:9.2f}"),
        _or_blank(both.peak_states, "{:9.1f}"),
    ]


def _times(row: Row) -> list[str]:
    return [_ms(row.min_ms), _ms(row.median_ms), _ratio(row.times_as_fast_min)]


def _means(rows: Sequence[Row]) -> list[str]:
    """Geometric means over shapes, a line for each implementation."""
    heads = [which.replace("+", " + ").center(9 * len(_MEANS), "-") for which in PASSES]
    lines = [_line("geometric means", heads)]
    lines.append(_line("over shapes", [f"{head:>9}" for _ in PASSES for head in _MEANS]))
    for name in dict.fromkeys(row.implementation for row in rows):
        mine = [row for row in rows if row.implementation == name]
        means = [
            _mean(getattr(row, field) for row in mine if row.which == which)
            for which in PASSES
            for field in _MEANS.values()
        ]
        claims = mine[0].claims
        marks = ["baseline"] * (name == BASELINE) + [claims] * (claims not in ("exact", ""))
        lines.append(_line(f"  {name}", [*map(_ratio, means), *(f"   {mark}" for mark in marks)]))
    return lines


def _mean(values: Iterable[float | None]) -> float | None:
    given = [value for value in values if value is not None]
    return geometric_mean(given) if given else None


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:<25}{''.join(cells)}".rstrip()


def _ms(value: float) -> str:
    digits = 3 if value < 1 else 2 if value < 100 else 1
    return f"{value:9.{digits}f}"


def _ratio(value: float | None) -> str:
    return _or_blank(value, "{:9.2f}")


def _or_blank(value: float | None, form: str) -> str:
    return _BLANK if value is None else form.format(value)
