"""The command `bptt-compare`: every gradient strategy on one batch, its bias and its cost.

Exit codes: 0 shown; 1 the figure cannot be written; 2 the command line cannot work, and one line
on stderr says why; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from bptt_lab.commands.compare.question import ask
from bptt_lab.config.errors import printable
from bptt_lab.core.validation import ConfigError

FAILED, REFUSED, INTERRUPTED = 1, 2, 130
FORMATS = (".png", ".svg", ".pdf")
DRAWS = 32
DESCRIPTION = """\
Compare all gradient strategies on one training batch: where each one's gradient points, against
full BPTT's at the same parameters, and what it costs in time and memory. The task and the network
are given as to bptt-train (dataset=adding model.hidden_size=64 ...; bptt-train --help lists what
there is), or are those of a run."""


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments, print the table, draw the figure if there is to be one.

    Args:
        argv: the arguments; the process's own by default.

    Returns:
        The exit code.
    """
    if os.getcwd() not in sys.path:  # as bptt-train: a user's plug-ins may stand here
        sys.path.append(os.getcwd())
    try:
        args, rest = _parser().parse_known_args(argv)
        return _compare(args, rest)
    except ConfigError as error:
        print("bptt-compare:", printable(str(error)), file=sys.stderr)
        return REFUSED
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:
        print("bptt-compare:", printable(str(error)), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("bptt-compare: interrupted", file=sys.stderr)
        return INTERRUPTED


def _compare(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    question = ask(overrides, args.checkpoint, args.strategies)
    # After the check: these import torch.
    from bptt_lab.commands.compare import table
    from bptt_lab.commands.compare.measure import compare
    from bptt_lab.commands.compare.subject import prepare

    subject = prepare(question.experiment, question.checkpoint)
    comparison = compare(question, subject, args.draws, _note)
    print(table.write(comparison, question.title, args.draws), flush=True)
    if args.figure is not None:
        from bptt_lab.commands.compare import figure

        figure.draw(comparison, question.title, args.figure)
        print(f"\nfigure  {args.figure}")
    return 0


def _note(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what} ...", end="\r", file=sys.stderr, flush=True)


class _Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ')} (bptt-compare --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="bptt-compare",
        description=DESCRIPTION,
        usage="%(prog)s [OVERRIDES ...] [--config-dir DIR] [options]",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="RUN_FOLDER",
        help="compare on a run's task with its trained parameters, the last checkpoint's; "
        "or RUN_FOLDER/checkpoints/best.ckpt",
    )
    parser.add_argument(
        "--strategies",
        type=lambda text: text.split(","),
        metavar="A,B,C",
        help="options of the group gradient; default: all; truncated is every mode at several k",
    )
    parser.add_argument(
        "--draws",
        type=_draws,
        default=DRAWS,
        metavar="N",
        help="gradients that a random strategy is asked for, 2 or more; default: %(default)s",
    )
    parser.add_argument(
        "--figure",
        type=_picture,
        metavar="FILE",
        help=f"draw bias and cost against k, as {', '.join(FORMATS)}; default: no figure",
    )
    return parser


def _draws(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number, 2 or more")
    return int(text)


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text}: must end in {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: there is no folder {path.parent}; make it first")
    return path


if __name__ == "__main__":
    sys.exit(main())
