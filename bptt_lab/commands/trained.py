"""What the commands share that put a run's network to work."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bptt_lab.commands import command
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import streams

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


def load(args: argparse.Namespace) -> Net:
    """Load the network that the arguments name.

    Raises:
        ConfigError: where there is none.
    """
    if not args.run_folder.exists():
        raise ConfigError(f"{args.run_folder}: there is no such run; give a folder out of outputs/")
    streams.loading("torch")
    from bptt_lab.lab.load import load

    net = load(args.run_folder, allow=args.allow or ())
    streams.progress("")
    return net
