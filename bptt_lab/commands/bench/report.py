"""From options to a folder: measure, print tables, write results.csv."""

from __future__ import annotations

import contextlib
import itertools
import platform
import time
from importlib.metadata import version
from pathlib import Path

import torch

from bptt_lab.commands import peak_memory
from bptt_lab.commands.bench.implementations import Implementation, Options
from bptt_lab.commands.bench.measure import applied, measure, note, one_pass
from bptt_lab.commands.bench.results import LEGEND, Provenance, Row, table, write_csv
from bptt_lab.commands.bench.workload import Conditions
from bptt_lab.core import machine
from bptt_lab.core.kernels import core
from bptt_lab.core.validation import ConfigError


def run(options: Options) -> Path:
    """Measure what the options ask for, and return the folder outputs/bench_<time>.

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
        print(f"{where}; {_kernel(options, isa)}")
    for line in options.left_out:
        print(f"left out: {line}")
    folder = _new_folder()
    rows: list[Row] = []
    names = {each.name: each for each in options.implementations}
    for conditions in settings:
        found = measure(options, conditions)
        if options.memory and conditions.threads == options.threads[-1]:
            found = [_with_memory(row, conditions, names[row.implementation]) for row in found]
        rows += found
        # After every table, so that an interrupted run leaves what it has.
        write_csv(rows, folder / "results.csv", where)
        if found:
            print(f"\n{table(found, str(conditions))}\n")
    if not rows:
        raise ConfigError("--only, --shapes: nothing could be measured; give smaller shapes")
    print(f"{LEGEND}\n\nresults   {folder / 'results.csv'}")
    if not options.memory:
        print("memory    not measured; add --memory")
    return folder


def _where(options: Options) -> Provenance:
    gpu = ""
    if options.device == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        gpu = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
    where = f"{machine.processor()}, {machine.cores()} cores" + f", {gpu}" * bool(gpu)
    packages = ["torch", *(each.name for each in options.implementations if each.name == "jax")]
    versions = [f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in packages)]
    today = time.strftime("%Y-%m-%d")
    return Provenance(where, ", ".join(versions), machine.git_commit() or "", today)


def _kernel(options: Options, isa: str) -> str:
    if isa == "none":
        built = "" if options.device == "cuda" else ", because the C core was not built"
        return f"kernel: operations of torch{built}"
    rest = " (bfloat16: operations of torch)" if "bfloat16" in options.precisions else ""
    return f"kernel: C core, {isa}{rest}"


def _with_memory(row: Row, conditions: Conditions, implementation: Implementation) -> Row:
    """The row with its peak memory, if it is of both passes."""
    if row.which == "forward":
        return row
    what = f"{row.implementation} at {row.shape}"
    note(f"memory of {what}")
    job = row.shape, conditions, implementation
    try:
        peak = peak_memory.peak(one_pass, *job, device=conditions.device)
    except peak_memory.NotMeasuredError as why:
        note(f"{what}: {why}")
        return row
    states = row.L * row.N * row.H * getattr(torch, conditions.dtype).itemsize
    return row._replace(peak_mb=peak / 1e6, peak_states=peak / states)


def _new_folder() -> Path:
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    for number in itertools.count(1):
        folder = Path("outputs", f"bench_{stamp}" + (f"_{number}" if number > 1 else ""))
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            break
    return folder
