"""Measure what docs/performance.md says of speed and memory, and write benchmarks/MACHINE.csv.

    python scripts/benchmark.py                  # every shape, 1 and 2 threads; some 10 minutes
    python scripts/benchmark.py --isa avx2       # further options are those of bptt-bench
    python scripts/speed_table.py --write        # then its table, from the file

Run it on an idle machine, with JAX installed: pip install 'bptt_lab[jax]'.
"""

import csv
import re
import shutil
import sys
from pathlib import Path

from bptt_lab.commands import command
from bptt_lab.commands.bench.cli import parse

FOLDER = Path(__file__).parents[1] / "benchmarks"
WANTED = "nn.RNN,full,full-reference,checkpointed,jax"


@command.named("bptt-bench")
def main() -> int:
    """Measure; keep the results under the machine's name."""
    options = parse(["--only", WANTED, "--memory", *sys.argv[1:]])
    from bptt_lab.commands.bench.report import run  # with torch

    results = run(options) / "results.csv"
    with results.open() as file:
        row = next(csv.DictReader(file))
    name = re.sub(r"[^a-z0-9]+", "-", f"{row['machine']} {row['instruction_set']}".lower())
    FOLDER.mkdir(exist_ok=True)
    path = shutil.copy(results, FOLDER / f"{name}.csv")
    print(f"kept      {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
