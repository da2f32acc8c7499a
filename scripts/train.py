"""Train from a checkout: python scripts/train.py gradient=truncated gradient.k=8."""

import sys

from bptt_lab.commands.train.cli import main

if __name__ == "__main__":
    sys.exit(main())
