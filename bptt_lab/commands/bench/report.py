"""From options to a folder: measure, print tables, write results.csv."""

import csv
import itertools
import platform
import secrets
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import geometric_mean

import torch

from bptt_lab.commands import peak_memory
from bptt_lab.commands.bench.implementations import Implementation
from bptt_lab.commands.bench.measure import Row, applied, measure, note, one_pass
from bptt_lab.commands.bench.workload import BOTH, FORWARD, Conditions, Pass, Shape
from bptt_lab.core import machine
from bptt_lab.core.kernels import core
from bptt_lab.core.messages import printable
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs.sweep import aligned

# The table's columns: head, pass, the rows' field.
_COLUMNS: tuple[tuple[str, Pass, str], ...] = (
    ("forward ms", FORWARD, "min_ms"),
    ("x RNN", FORWARD, "times_as_fast_min"),
    ("x floor", FORWARD, "times_floor"),
    ("both ms", BOTH, "min_ms"),
    ("median", BOTH, "median_ms"),
    ("x RNN", BOTH, "times_as_fast_min"),
    ("(median)", BOTH, "times_as_fast_median"),
    ("x floor", BOTH, "times_floor"),
    ("first ms", BOTH, "first_call_ms"),
    ("err out", BOTH, "error_output"),
    ("err grad", BOTH, "error_gradient"),
    ("peak MB", BOTH, "peak_mb"),
    ("in LNH", BOTH, "peak_states"),
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


def run(options: Namespace) -> Path:
    """Measure what the options ask for, and return the folder outputs/bench_<time>_<random>.

    Raises:
        ConfigError: where torch cannot use the device, or the C core the instruction set.
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"--device cuda: torch {torch.__version__} cannot use a GPU; install a build with CUDA"
        )
    isa = options.isa or (core.instruction_set() if options.device == "cpu" else None) or "none"
    settings = [
        Conditions(options.device, precision, threads, isa)
        for precision in options.precisions
        for threads in options.threads
    ]
    where = _where(options)
    with applied(settings[0]):  # refuses what is not here before there is a folder
        kernel = "operations of torch" if isa == "none" else f"C core, {isa}"
        print(f"{where['machine']}; {where['versions']}; kernel: {kernel}")
    for line in options.left_out:
        print(f"left out: {line}")
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path("outputs", f"bench_{stamp}_{secrets.token_hex(4)}")  # as those of runs
    folder.mkdir(parents=True)
    rows: list[Row] = []
    names = {each.name: each for each in options.implementations}
    for conditions in settings:
        found = measure(options, conditions)
        if options.memory and conditions.threads == options.threads[-1]:
            found = [_with_memory(row, conditions, names[row["implementation"]]) for row in found]
        rows += found
        # After every table, so that an interrupted run leaves what it has.
        if found:
            write_csv(rows, folder / "results.csv", where)
            print(f"\n{table(found, str(conditions))}\n")
    if not rows:
        raise ConfigError("--only, --shapes: nothing could be measured; give smaller shapes")
    print(f"{LEGEND}\n\nresults   {folder / 'results.csv'}")
    if not options.memory:
        print("memory    not measured; add --memory")
    return folder


def _where(options: Namespace) -> dict[str, str]:
    """Where and when the numbers are measured, and with what: the last columns of results.csv."""
    gpu = ""
    if options.device == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        gpu = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
    place = f"{machine.processor()}, {machine.cores()} cores" + f", {gpu}" * bool(gpu)
    packages = ["torch", *(each.name for each in options.implementations if each.name == "jax")]
    versions = [f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in packages)]
    return {
        "machine": place,
        "versions": ", ".join(versions),
        "commit": machine.git_commit() or "",  # marked + if the checkout was changed
        "date": time.strftime("%Y-%m-%d"),
    }


def _with_memory(row: Row, conditions: Conditions, implementation: Implementation) -> Row:
    """The row with its peak memory, if it is of both passes."""
    if row["pass"] == FORWARD:
        return row
    shape = Shape(*(row[size] for size in "LNIH"))
    what = f"{implementation.name} at {shape}"
    note(f"memory of {what}")
    try:
        peak = peak_memory.peak(one_pass, shape, conditions, implementation, device=row["device"])
    except peak_memory.Unmeasured as why:
        note(printable(f"{what}: no peak memory: {why}"))
        return row
    states = shape.L * shape.N * shape.H * getattr(torch, conditions.dtype).itemsize
    return {**row, "peak_mb": peak / 1e6, "peak_states": peak / states}


def write_csv(rows: Sequence[Row], path: Path, where: Mapping[str, str]) -> None:
    """Write all rows, over what is there, each with where it was measured."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *where], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            numbers = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow({**numbers, **where})


def table(rows: Sequence[Row], title: str) -> str:
    """A line for each shape and implementation, then geometric means of the ratios over shapes."""
    columns = [c for c in _COLUMNS if any(row[c[2]] is not None for row in rows)]
    heads = [head for head, _, _ in columns]
    lines = [["L,N,I,H", "implementation", *heads, "claims"]]
    passes = {(_shape(row), row["implementation"], row["pass"]): row for row in rows}
    names = {row["implementation"]: row["claims"] for row in rows}
    shapes = dict.fromkeys(map(_shape, rows))
    for shape, name in itertools.product(shapes, names):
        found = [passes.get((shape, name, which), {}).get(field) for _, which, field in columns]
        if any(found):
            cells = map(_shown, found, (field for _, _, field in columns))
            lines.append([shape, name, *cells, names[name]])
    for name in names:
        means = []
        for _, which, field in columns:
            found = [passes.get((shape, name, which), {}).get(field) for shape in shapes]
            given = [ratio for ratio in found if ratio is not None and field.startswith("times")]
            means.append(_shown(geometric_mean(given) if given else None, field))
        lines.append(["geometric mean", name, *means, names[name]])
    rate = f"{rows[0]['product_gflops']:.0f} GFLOP/s"
    return f"{title}: the machine's rate in a large product is {rate}\n\n{aligned(lines, heads)}"


def _shape(row: Row) -> str:
    return ",".join(str(row[size]) for size in "LNIH")


def _shown(value: float | None, field: str) -> str:
    if value is None:
        return ""
    if field.endswith("_ms"):
        digits = 3 if value < 1 else 2 if value < 100 else 1
        return f"{value:.{digits}f}"
    return f"{value:{_FORMATS.get(field, '.2f')}}"
