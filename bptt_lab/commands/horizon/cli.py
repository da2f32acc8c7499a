"""The command `bptt-horizon`: the longest delay solved for each k, from a sweep's folder.

Exit codes: 0 written; 1 the folder cannot be written to; 2 the command line cannot work, and one
line on stderr says why; 130 interrupted.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from bptt_lab.commands.horizon import longest
from bptt_lab.commands.horizon.longest import Line
from bptt_lab.core.messages import printable
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import sweep

FAILED, REFUSED, INTERRUPTED = 1, 2, 130
DESCRIPTION = """\
Write horizon.csv and horizon.png into the folder of a sweep over k and delay, such as that of
`bptt-train experiment=horizon` or experiment=horizon_adding: for each task, strategy, k and seed
the longest delay solved."""


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and the sweep, then write.

    Args:
        argv: the arguments; the process's own by default.

    Returns:
        The exit code.
    """
    try:
        args = _parser().parse_args(argv)
        lines = [line for folder in args.folders for line in longest.read(folder)]
        print(sweep.aligned(_summary(lines)))
        table, picture = (args.folders[0] / f"horizon.{kind}" for kind in ("csv", "png"))
        with table.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(longest.rows(lines))
        from bptt_lab.commands.horizon import (
            figure,  # matplotlib: only once there is something to draw
        )

        figure.draw(lines, picture)
    except ConfigError as error:
        print("bptt-horizon:", printable(str(error)), file=sys.stderr)
        return REFUSED
    except OSError as error:
        print("bptt-horizon:", printable(str(error)), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("bptt-horizon: interrupted", file=sys.stderr)
        return INTERRUPTED
    print(f"\ntable   {table}\nfigure  {picture}")
    return 0


def _summary(lines: Sequence[Line]) -> list[list[str]]:
    """Longest delays, median over seeds with their range."""
    rows = [["task", "gradient", "k", "longest delay solved (median)", "by seed", "longest tried"]]
    for line in lines:
        for k in line.ks:
            found = [line.longest(k, seed) for seed in line.seeds(k)]
            typical = line.typical(k)
            rows.append(
                [
                    line.task,
                    f"{line.strategy} {line.mode}".rstrip(),
                    "" if k is None else str(k),
                    "none" if typical is None else str(typical),
                    " ".join("none" if delay is None else str(delay) for delay in found),
                    str(max(line.delays)),
                ]
            )
    return rows


class _Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ')} (bptt-horizon --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="bptt-horizon", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "folders",
        type=Path,
        nargs="+",
        metavar="SWEEP_FOLDER",
        help="as outputs/..._sweep; of several, one a task, the first receives the files",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
