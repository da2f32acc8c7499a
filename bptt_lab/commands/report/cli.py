"""The command `bptt-report`: write the report of a sweep, finished or not.

Exit codes: 0 written; 1 the folder cannot be written to; 2 the command line cannot work, and one
line on stderr says why; 130 interrupted.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from bptt_lab.commands.report import write_report
from bptt_lab.core.validation import ConfigError

FAILED, REFUSED, INTERRUPTED = 1, 2, 130
DESCRIPTION = """\
Write results.csv, report.html, report/*.png and TensorBoard's _summary/ into the folder of a sweep,
from what its jobs have written so far."""


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments, then write the report.

    Args:
        argv: the arguments; the process's own by default.

    Returns:
        The exit code.
    """
    try:
        args = _parser().parse_args(argv)
        path = write_report(args.folder, args.target_loss)
    except ConfigError as error:
        print("bptt-report:", *str(error).split(), file=sys.stderr)
        return REFUSED
    except OSError as error:
        print("bptt-report:", *str(error).split(), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("bptt-report: interrupted", file=sys.stderr)
        return INTERRUPTED
    print(f"report       {path}\ntable        {path.with_name('results.csv')}")
    return 0


class _Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ')} (bptt-report --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="bptt-report", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("folder", type=Path, metavar="SWEEP_FOLDER", help="as outputs/..._sweep")
    parser.add_argument(
        "--target-loss",
        type=_finite,
        metavar="L",
        help="validation loss whose time is measured; default: for each dataset one that about "
        "half of the settings reach with all their seeds",
    )
    return parser


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text}: must be a finite number, as 0.5")
    return value


if __name__ == "__main__":
    sys.exit(main())
