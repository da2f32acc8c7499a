"""The command `bptt-board`: TensorBoard on a folder of runs, for this machine only.

Exit codes: TensorBoard's own; 2 the command line cannot work, and one line on stderr says why.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from bptt_lab.core.validation import ConfigError

REFUSED = 2
LOCALHOST = "127.0.0.1"


def main(argv: Sequence[str] | None = None) -> int:
    """Become TensorBoard, so that Ctrl-C and other signals reach it and nothing is left behind.

    Args:
        argv: the arguments; the process's own by default.

    Returns:
        The exit code, where there is nothing to show.
    """
    try:
        command = board_command(argv)
    except ConfigError as error:
        print("bptt-board:", *str(error).split(), file=sys.stderr)
        return REFUSED
    os.execv(command[0], command)


def board_command(argv: Sequence[str] | None = None) -> list[str]:
    """Return the command that serves the folder to browsers on this machine.

    Raises:
        ConfigError: naming the argument, its value and the way out.
    """
    args = _parser().parse_args(argv)
    if not args.folder.is_dir():
        raise ConfigError(f"{args.folder}: there is no such folder; give a sweep's or a run's")
    port = [] if args.port is None else ["--port", str(args.port)]
    what = ["--logdir", str(args.folder), "--host", LOCALHOST, *port]
    return [sys.executable, "-m", "tensorboard.main", *what]


class _Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ')} (bptt-board --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="bptt-board",
        description="Open TensorBoard on a sweep's folder, or a run's, for this machine only.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, metavar="SWEEP_FOLDER", help="as outputs/..._sweep")
    parser.add_argument(
        "--port", type=_port, metavar="N", help="default: the first free one from 6006"
    )
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
