"""What `bptt-bench` was asked to measure."""

from __future__ import annotations

from typing import NamedTuple

from bptt_lab.commands.bench.implementations import Implementation
from bptt_lab.commands.bench.workload import Shape


class Options(NamedTuple):
    """What to measure; everything is validated."""

    shapes: list[Shape]
    implementations: list[Implementation]
    device: str
    precisions: list[str]
    threads: list[int]
    rounds: int | None
    memory: bool
    isa: str | None  # of the C core; None for the best that the processor has
    left_out: list[str]  # a line for each implementation that is not installed
