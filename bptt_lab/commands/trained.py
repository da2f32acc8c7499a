"""What the commands share that put a run's network to work."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bptt_lab import runs
from bptt_lab.commands import command
from bptt_lab.core.messages import escaped
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import outcome, streams

if TYPE_CHECKING:
    from bptt_lab.lab.net import Net


def parser(name: str, description: str) -> command.Parser:
    """Return a parser of RUN_FOLDER and --allow."""
    made = command.Parser(name, description)
    made.add_argument(
        "run_folder", type=Path, metavar="RUN_FOLDER", help="a run's folder, or a job's of a sweep"
    )
    made.option(
        "--allow PACKAGE,PACKAGE", "as allow=[...] of bptt-train", lambda text: text.split(",")
    )
    return made


def arguments(made: command.Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments.

    Raises:
        ConfigError: for wrong ones, and where there is no such run.
    """
    args = made.parse_args(argv)
    command.find_plugins_here()
    if not args.run_folder.exists():
        raise ConfigError(f"{args.run_folder}: there is no such run; give a folder out of outputs/")
    return args


def folder(args: argparse.Namespace) -> Path:
    """Return the run's folder, also of a checkpoint in it."""
    path: Path = args.run_folder
    return path if path.is_dir() else path.absolute().parent.parent


def load(args: argparse.Namespace) -> Net:
    """Load the network that the arguments name.

    Raises:
        ConfigError: where there is none.
    """
    streams.loading("torch")
    from bptt_lab.lab.load import load

    net = load(args.run_folder, allow=args.allow or ())
    streams.progress("")
    status = runs.read_status(folder(args))
    if status in ("running", "interrupted", "failed"):
        outcome.tell(f"{args.run_folder}: the run is {status}; this is its latest checkpoint")
    return net


class Writable(Protocol):
    """What takes text."""

    def write(self, text: str, /) -> int:
        """Take some."""


def stdout() -> Writable:
    """Return stdout; of what it cannot show, and a terminal would obey, it gets the escapes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return _Terminal() if sys.stdout.isatty() else sys.stdout


class _Terminal:
    def write(self, text: str, /) -> int:
        tabs = text.split("\t")
        return sys.stdout.write("\t".join(map(escaped, tabs)))
