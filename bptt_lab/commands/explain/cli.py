"""The command `bptt-explain`: the gradient of one small network, term by term.

Exit codes: 0 shown; 1 the figure cannot be written; 2 the command line cannot work, and one line
on stderr says why; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from bptt_lab.commands import strategies
from bptt_lab.commands.explain import example as examples
from bptt_lab.commands.explain.comparison import compare
from bptt_lab.commands.explain.figure import FORMATS, draw
from bptt_lab.commands.explain.text import write
from bptt_lab.config import targets
from bptt_lab.config.schema import Config
from bptt_lab.core.validation import ConfigError, unmet

FAILED, REFUSED, INTERRUPTED = 1, 2, 130
DIGITS = range(2, 13)
# In the place of what an option's file sets, where it would cut nothing in so few steps.
SMALL = {"k": 2, "mode": "lag"}
DESCRIPTION = """\
Work out the gradient of one small network by hand: forward values, immediate credit, Jacobians,
every term of the gradient with its lag, their sum; compare it with the adjoint recursion, autograd
and finite differences; and show which terms a gradient strategy keeps, and what that costs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments, print the derivation, draw the figure if there is to be one.

    Args:
        argv: the arguments; the process's own by default.

    Returns:
        The exit code.
    """
    if os.getcwd() not in sys.path:  # as bptt-train: a user's plug-ins may stand here
        sys.path.append(os.getcwd())
    try:
        args = _parser().parse_args(argv)
        return _explain(args)
    except ConfigError as error:
        print("bptt-explain:", *str(error).split(), file=sys.stderr)
        return REFUSED
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:
        print("bptt-explain:", *str(error).split(), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("bptt-explain: interrupted", file=sys.stderr)
        return INTERRUPTED


def _explain(args: argparse.Namespace) -> int:
    strategy = strategies.build(_section(args))
    if args.seed is None:
        example = examples.fixed(args.steps)
    else:
        example = examples.random(args.steps, args.seed)
    at = list(range(1, args.steps + 1)) if args.all else [args.steps]
    found = compare(example, strategy, at)
    print(write(example, at, repr(strategy), found, args.digits), flush=True)
    if args.figure is not None:
        draw(example, at, repr(strategy), found, args.figure)
        print(f"\nfigure  {args.figure}")
    return 0


def _section(args: argparse.Namespace) -> Config:
    """The strategy's section: its file's, but for what the command line gives, or SMALL."""
    given = {key: getattr(args, key) for key in SMALL if getattr(args, key) is not None}
    where: Any = {"config_dir": args.config_dir, "allow": targets.packages(args.allow)}
    section = strategies.section(args.gradient, given, **where)
    accepted = strategies.accepts(section)
    small = {
        key: value
        for key, value in SMALL.items()
        if key in accepted and unmet(value, accepted[key].hint, section) is None
    }
    return {**section, **small, **given}


class _Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ')} (bptt-explain --help)")


def _parser() -> argparse.ArgumentParser:
    modes = strategies.choices(strategies.section("truncated"), "mode")
    parser = _Parser(prog="bptt-explain", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "--gradient",
        default="truncated",
        metavar="NAME",
        help=f"the strategy, one of {', '.join(strategies.names())}; default: %(default)s",
    )
    parser.add_argument(
        "--config-dir",
        metavar="DIR",
        help="a folder with more of them, as DIR/gradient/NAME.yaml; default: none",
    )
    parser.add_argument(
        "--allow",
        type=lambda text: text.split(","),
        default=(),
        metavar="PACKAGE,PACKAGE",
        help="packages beside bptt_lab that their classes may come from; default: none",
    )
    parser.add_argument(
        "--k", type=int, metavar="K", help="truncation lag, its own step included; default: 2"
    )
    parser.add_argument(
        "--mode", metavar="MODE", help=f"of truncated: {', '.join(modes)}; default: lag"
    )
    parser.add_argument(
        "--all", action="store_true", help="the losses of all steps; default: the last one's alone"
    )
    parser.add_argument(
        "--steps", type=int, choices=examples.STEPS, default=3, help="T; default: %(default)s"
    )
    parser.add_argument(
        "--seed", type=int, metavar="S", help="draw the numbers at random; default: fixed ones"
    )
    parser.add_argument(
        "--digits",
        type=int,
        choices=DIGITS,
        default=5,
        metavar="D",
        help=f"decimals, {DIGITS[0]} to {DIGITS[-1]}; default: %(default)s",
    )
    parser.add_argument(
        "--figure",
        type=_picture,
        metavar="FILE",
        help=f"draw it too, as {', '.join(FORMATS)}; default: no figure",
    )
    return parser


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text}: must end in {' or '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: there is no folder {path.parent}; make it first")
    return path


if __name__ == "__main__":
    sys.exit(main())
