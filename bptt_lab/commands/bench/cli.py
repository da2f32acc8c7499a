"""The command `bptt-bench`: check what it was told, before torch is imported; then measure.

Exit codes: 0 all went well; 2 the command line cannot work, and one line on stderr says why;
130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn, TypeVar

from bptt_lab.commands import strategies
from bptt_lab.commands.bench.implementations import BASELINE, OTHERS, USUAL, find, past_facing
from bptt_lab.commands.bench.options import Options
from bptt_lab.commands.bench.workload import PRECISIONS, SHAPES, SMALL_SHAPES, Shape, parse_shape
from bptt_lab.config import gpus
from bptt_lab.core.machine import cores
from bptt_lab.core.validation import ConfigError

T = TypeVar("T")
REFUSED, INTERRUPTED = 2, 130
DESCRIPTION = """\
Time one recurrent layer, forward and forward + backward, against torch.nn.RNN. Implementations
take turns in one process; reported are minimum and median, the ratio to nn.RNN, the distance to the
time of the matrix products alone, and the error against float64."""


def main(argv: Sequence[str] | None = None) -> int:
    """Check the arguments, then measure.

    Args:
        argv: the arguments; the process's own by default.

    Returns:
        The exit code.
    """
    try:
        options = parse(argv)
        from bptt_lab.commands.bench.report import run  # with torch

        run(options)
    except ConfigError as error:
        print("bptt-bench:", *str(error).split(), file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("bptt-bench: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def parse(argv: Sequence[str] | None) -> Options:
    """Read and check the arguments.

    Raises:
        ConfigError: naming the argument, its value and the way out.
    """
    args = _parser().parse_args(argv)
    found = [find(name) for name in args.only or (past_facing() if args.past_facing else USUAL)]
    missing = [why for each in found if (why := each.missing()) is not None]
    if args.only and missing:
        raise ConfigError(f"--only {missing[0]}")
    if args.past_facing and args.only:
        raise ConfigError("--past-facing: names what is measured, as --only does; keep one")
    if args.device == "cuda" and not gpus.count():
        raise ConfigError("--device cuda: the driver shows no CUDA device here; use --device cpu")
    default = ["float32"] if args.device == "cpu" else ["float32", "tf32", "bfloat16"]
    precisions = args.dtype or default
    if args.device == "cpu" and "tf32" in precisions:
        raise ConfigError("--dtype tf32: only a GPU multiplies so; use float32 or --device cuda")
    for threads in args.threads or []:
        if threads > cores():
            raise ConfigError(f"--threads {threads}: must be at most {cores()}, the cores here")
    # A GPU is fed by one thread.
    default_threads = range(1, min(2, cores()) + 1) if args.device == "cpu" else [1]
    return Options(
        _once(args.shapes or (SMALL_SHAPES if args.past_facing else SHAPES)),
        [each for each in found if each.missing() is None],
        args.device,
        _once(precisions),
        _once(args.threads or default_threads),
        args.rounds,
        args.memory,
        args.isa,
        missing,
    )


class _Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ')} (bptt-bench --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="bptt-bench", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "--shapes",
        nargs="+",
        type=_shape,
        metavar="L,N,I,H",
        help="steps, sequences, inputs, hidden units; default: " + " ".join(map(str, SHAPES)),
    )
    parser.add_argument(
        "--only",
        type=lambda text: _once(text.split(",")),
        metavar="NAME,NAME",
        help=f"some of: {', '.join(OTHERS)} (ratios need {BASELINE}) and the gradient strategies "
        f"{', '.join(strategies.names())}, with settings as truncated:k=8:mode=lag; "
        f"default: {','.join(USUAL)}",
    )
    parser.add_argument(
        "--past-facing",
        action="store_true",
        help="the strategies that carry influence forward, beside full and the products that rtrl "
        "consists of; default shapes: " + " ".join(map(str, SMALL_SHAPES)),
    )
    parser.add_argument(
        "--threads",
        nargs="+",
        type=_positive,
        metavar="T",
        help="thread counts, each with a table of its own; default: 1 2",
    )
    parser.add_argument(
        "--rounds",
        type=_positive,
        metavar="R",
        help="turns of each; default: as many as take 3 seconds a shape, 3 to 100",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="default: cpu")
    parser.add_argument(
        "--dtype",
        nargs="+",
        choices=list(PRECISIONS),
        help="number formats, each with a table of its own; default: float32, and on cuda "
        "float32 (TF32 off), tf32 (float32 multiplied as TF32), bfloat16",
    )
    parser.add_argument(
        "--isa",
        choices=["avx512", "avx2", "generic"],
        help="instruction set of the C core; default: the best that the processor has",
    )
    parser.add_argument(
        "--memory",
        action="store_true",
        help="peak memory too, each in a fresh process: seconds for each and every shape; "
        "at the last of the thread counts",
    )
    return parser


def _shape(text: str) -> Shape:
    try:
        return parse_shape(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number above zero")
    return int(text)


def _once(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))


if __name__ == "__main__":
    sys.exit(main())
