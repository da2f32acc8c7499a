"""Benchmark from a checkout: python scripts/benchmark.py --threads 2 --only nn.RNN,full."""

import sys

from bptt_lab.commands.bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
