"""The command `bptt-explain`: the gradient of one small network, term by term."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bptt_lab.commands import command

DESCRIPTION = """\
Work out the gradient of one small network by hand: forward values, immediate credit, Jacobians,
every term of the gradient with its lag, their sum; compare it with the adjoint recursion, autograd
and finite differences; and show which terms a gradient strategy keeps, and what that costs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments, print the account, draw the figure if there is to be one.

    Args:
        argv: the arguments; the process's own by default.

    Returns:
        The exit code.
    """
    return command.run("bptt-explain", lambda: _explain(_parser().parse_args(argv)))


def _explain(args: argparse.Namespace) -> int:
    # Not before the arguments are known to be good: these import torch.
    from bptt_lab.commands.explain import example as examples
    from bptt_lab.commands.explain import options
    from bptt_lab.commands.explain.text import write
    from bptt_lab.commands.explain.verdict import judge

    given = {key: getattr(args, key) for key in ("k", "mode") if getattr(args, key) is not None}
    strategy = options.build(args.gradient, given)
    if args.seed is None:
        example = examples.fixed(args.steps)
    else:
        example = examples.random(args.steps, args.seed)
    at = list(range(1, args.steps + 1)) if args.all else [args.steps]
    verdict = judge(example, strategy, at)
    print(write(example, at, repr(strategy), verdict, args.digits), flush=True)
    if args.figure is not None:
        from bptt_lab.commands.explain.figure import draw

        draw(example, at, repr(strategy), verdict, args.figure)
        print(f"\nfigure  {args.figure}")
    return 0


def _parser() -> command.Parser:
    parser = command.Parser("bptt-explain", DESCRIPTION)
    parser.add_argument(
        "--gradient",
        default="truncated",
        metavar="NAME",
        help="the strategy to judge, as bptt-train --help lists them; default: %(default)s",
    )
    parser.add_argument(
        "--k",
        type=command.whole_number(1),
        metavar="K",
        help="truncation lag, its own step included; default: 2",
    )
    parser.add_argument(
        "--mode", metavar="MODE", help="of truncated: chunk, lag, window or tail; default: lag"
    )
    parser.add_argument(
        "--all", action="store_true", help="the losses of all steps; default: the last one's alone"
    )
    parser.add_argument(
        "--steps",
        type=command.whole_number(3, 4),
        default=3,
        metavar="T",
        help="3 or 4; default: %(default)s",
    )
    parser.add_argument(
        "--seed",
        type=command.whole_number(0),
        metavar="S",
        help="draw the numbers at random; default: fixed ones",
    )
    parser.add_argument(
        "--digits",
        type=command.whole_number(2, 12),
        default=5,
        metavar="D",
        help="decimals, 2 to 12; default: %(default)s",
    )
    parser.add_argument(
        "--figure",
        type=command.picture,
        metavar="FILE",
        help=f"draw it too, as {', '.join(command.PICTURES)}; default: no figure",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
