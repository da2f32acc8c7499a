"""From options to a folder: measure, print tables, write results.csv and a picture."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

import torch

from bptt_lab.commands.bench import memory, plot
from bptt_lab.commands.bench.cli import Options
from bptt_lab.commands.bench.contestant import UnavailableError
from bptt_lab.commands.bench.contestants import BASELINE
from bptt_lab.commands.bench.machine import describe
from bptt_lab.commands.bench.measure import Setting, measure
from bptt_lab.commands.bench.results import Row, write_csv
from bptt_lab.commands.bench.table import LEGEND, table
from bptt_lab.commands.bench.workload import PRECISIONS
from bptt_lab.core.validation import ConfigError


def run(options: Options) -> Path:
    """Measure what the options ask for.

    Returns:
        The folder outputs/bench_<time> with everything in it.

    Raises:
        ConfigError: where torch cannot use the device.
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"--device cuda: torch {torch.__version__} cannot use a GPU; install a build with CUDA"
        )
    machine = describe(options.device, options.contestants, options.precisions)
    print(machine)
    for line in options.left_out:
        print(f"left out: {line}")
    folder = _new_folder()
    rows: list[Row] = []
    settings = [
        Setting(options.device, precision, threads)
        for precision in options.precisions
        for threads in options.threads
    ]
    for setting in settings:
        found = measure(
            options.shapes, setting, options.contestants, options.rounds, note=_progress
        )
        if options.memory and setting.threads == options.threads[-1]:
            found = [_with_memory(row) for row in found]
        rows += found
        # After every table, so that an interrupted run leaves what it has.
        write_csv(rows, folder / "results.csv", machine)
        print(f"\n{table(found, str(setting))}\n")
    print(f"{LEGEND}\n")
    print(f"results   {folder / 'results.csv'}")
    if BASELINE not in options.contestants or len(options.contestants) == 1:
        print(f"picture   none: it shows ratios of others to {BASELINE}")
    elif not plot.available():
        print(f"picture   none: matplotlib is not installed; {plot.REMEDY}")
    else:
        plot.draw(rows, list(map(str, settings)), machine, folder / "ratios.png")
        print(f"picture   {folder / 'ratios.png'}")
    if not options.memory:
        print("memory    not measured; add --memory")
    return folder


def _with_memory(row: Row) -> Row:
    """The row with its peak memory, if it is of both passes."""
    if row.which == "forward":
        return row
    _progress(f"memory: {row.shape} {row.contestant}")
    try:
        peak = memory.peak(row.shape, row.contestant, row.precision, row.device, row.threads)
    except UnavailableError as why:
        _progress(str(why))
        return row
    if peak is None:
        return row
    states = row.L * row.N * row.H * PRECISIONS[row.precision].itemsize
    return dataclasses.replace(row, peak_mb=peak / 1e6, peak_states=peak / states)


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _new_folder() -> Path:
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    number = 1
    while True:
        folder = Path("outputs", f"bench_{stamp}" + (f"_{number}" if number > 1 else ""))
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder
