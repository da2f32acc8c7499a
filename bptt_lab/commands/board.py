"""The command `bptt-board`: TensorBoard on a folder of runs, for this machine only."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from bptt_lab.commands import command
from bptt_lab.core.validation import ConfigError, Ge, Le

DESCRIPTION = "Open TensorBoard on a sweep's folder, or a run's, for this machine only."


@command.named("bptt-board")
def main(argv: Sequence[str] | None = None) -> int:
    """Become TensorBoard, so that Ctrl-C reaches it and no process is left behind."""
    other = board_command(argv)
    os.execv(other[0], other)


def board_command(argv: Sequence[str] | None = None) -> list[str]:
    """Return the command that serves the folder to browsers on this machine."""
    args = _parser().parse_args(argv)
    if not args.folder.is_dir():
        raise ConfigError(f"{args.folder}: there is no such folder; give a sweep's or a run's")
    what = ["--logdir", str(args.folder), "--host", "127.0.0.1"]
    what += [] if args.port is None else ["--port", str(args.port)]
    return [sys.executable, "-m", "tensorboard.main", *what]


def _parser() -> command.Parser:
    parser = command.Parser("bptt-board", DESCRIPTION)
    parser.add_argument("folder", type=Path, metavar="SWEEP_FOLDER", help="as outputs/..._sweep")
    port = "default: the first free one from 6006"
    parser.option("--port N", port, command.within(Annotated[int, Ge(1), Le(65535)]))
    return parser
