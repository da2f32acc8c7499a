"""The results on screen: one table for each device, precision and thread count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bptt_lab.commands.bench.contestants import BASELINE, CONTESTANTS
from bptt_lab.commands.bench.results import Row
from bptt_lab.commands.bench.workload import PASSES, geometric_mean

_FORWARD = ["min ms", "median", "x RNN"]
_BOTH = ["min ms", "median", "x RNN", "(median)", "x floor", "first ms"]
_OTHER = ["err out", "err grad", "peak MB", "in LNH"]
LEGEND = """\
x RNN      how many times as fast as nn.RNN, by the minima of the same rounds; (median) over paired
           rounds. x floor: time over that of the products alone at the machine's rate, 2LNH(I+H)
           operations forward, 4LNHI + 6LNH^2 for both (the input needs no gradient)
first ms   the first call, compilation included
err        max |difference| / max |value| against nn.RNN in float64, of the output and the worst
           weight's gradient; truncated is biased on purpose
peak       memory of both passes above tensors and weights, in MB and in units of L N H numbers"""


def table(rows: Sequence[Row], title: str) -> str:
    """A block for each shape, a line for each contestant, geometric means last."""
    columns = [_FORWARD, _BOTH, _OTHER if any(row.peak_mb for row in rows) else _OTHER[:2]]
    rate = rows[0].product_gflops
    lines = [f"{title}: the machine's rate in a large product is {rate:.0f} GFLOP/s", ""]
    groups = zip(["forward", "forward + backward", "checks"], columns, strict=True)
    lines.append(_line("", [name.center(9 * len(under), "-") for name, under in groups]))
    lines.append(_line("L,N,I,H", [f"{name:>9}" for group in columns for name in group]))
    for shape in dict.fromkeys(row.shape for row in rows):
        here = [row for row in rows if row.shape == shape]
        floors = {row.which: f"{row.floor_ms:.3g}" for row in here}
        lines.append(f"{shape}   floor {' and '.join(floors[which] for which in PASSES)} ms")
        for name in dict.fromkeys(row.contestant for row in here):
            forward, both = (
                next(row for row in here if row.contestant == name and row.which == which)
                for which in PASSES
            )
            cells = _cells(forward, both)
            lines.append(_line(f"  {name}", cells if len(columns[2]) == 4 else cells[:-2]))
    return "\n".join([*lines, "", *_means(rows)])


def _cells(forward: Row, both: Row) -> list[str]:
    return [
        _ms(forward.min_ms),
        _ms(forward.median_ms),
        _ratio(forward.times_as_fast_min),
        _ms(both.min_ms),
        _ms(both.median_ms),
        _ratio(both.times_as_fast_min),
        _ratio(both.times_as_fast_median),
        _ratio(both.times_floor),
        _ms(both.first_call_ms),
        f"{both.error_output:9.0e}",
        f"{both.error_gradient:9.0e}",
        _or_blank("{:9.2f}", both.peak_mb),
        _or_blank("{:9.1f}", both.peak_states),
    ]


def _means(rows: Sequence[Row]) -> list[str]:
    """Geometric means over shapes, a line for each contestant."""
    wanted: list[tuple[str, str, Callable[[Row], float | None]]] = [
        ("forward", "x RNN", lambda row: row.times_as_fast_min),
        ("forward", "(median)", lambda row: row.times_as_fast_median),
        ("forward", "x floor", lambda row: row.times_floor),
        ("forward+backward", "x RNN", lambda row: row.times_as_fast_min),
        ("forward+backward", "(median)", lambda row: row.times_as_fast_median),
        ("forward+backward", "x floor", lambda row: row.times_floor),
    ]
    heads = ["forward".center(27, "-"), "forward + backward".center(27, "-")]
    lines = [_line("geometric means", heads)]
    lines.append(_line("over shapes", [f"{head:>9}" for _, head, _ in wanted]))
    for name in dict.fromkeys(row.contestant for row in rows):
        mine = [row for row in rows if row.contestant == name]
        means = [_mean(value(row) for row in mine if row.which == p) for p, _, value in wanted]
        marks = ["baseline"] * (name == BASELINE) + ["biased"] * CONTESTANTS[name].biased
        lines.append(_line(f"  {name}", [*map(_ratio, means), *(f"   {mark}" for mark in marks)]))
    return lines


def _mean(values: Iterable[float | None]) -> float | None:
    given = [value for value in values if value is not None]
    return geometric_mean(given) if given else None


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:<18}{''.join(cells)}".rstrip()


def _ms(value: float) -> str:
    digits = 3 if value < 1 else 2 if value < 100 else 1
    return f"{value:9.{digits}f}"


def _ratio(value: float | None) -> str:
    return _or_blank("{:9.2f}", value)


def _or_blank(form: str, value: float | None) -> str:
    return " " * 9 if value is None else form.format(value)
