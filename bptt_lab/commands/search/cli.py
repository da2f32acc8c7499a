"""The command `bptt-search`: `bptt-train` with a sweeper that chooses the jobs."""

from __future__ import annotations

import sys

from bptt_lab.commands.train import cli

CHOSEN = ("hydra.mode=MULTIRUN", "hydra/sweeper=search")


def main() -> int:
    """Search the space that the command line describes.

    Returns:
        The exit code, as `bptt_lab.commands.train.cli.main`.
    """
    sys.argv[1:] = [*CHOSEN, *sys.argv[1:]]
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
