"""The command `bptt-bench`: it refuses what cannot be measured before it imports torch."""

import argparse
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, TypeVar, get_args

from bptt_lab.commands import command
from bptt_lab.commands.bench import implementations
from bptt_lab.commands.bench.implementations import BASELINE, OTHERS, USUAL
from bptt_lab.commands.bench.workload import SHAPES, SMALL_SHAPES, Precision, parse_shape
from bptt_lab.config import gpus
from bptt_lab.config.strategies import packaged
from bptt_lab.core.machine import cores
from bptt_lab.core.validation import ConfigError, Ge, Le

T = TypeVar("T")
Isa = Literal["avx512", "avx2", "generic"]
DESCRIPTION = """\
Time one recurrent layer, forward and forward + backward, against torch.nn.RNN. Implementations
take turns in one process; reported are minimum and median, the ratio to nn.RNN, the distance to the
time of the matrix products alone, and the error against float64."""


@command.named("bptt-bench", lasting=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Validate the arguments, then measure."""
    options = parse(argv)
    from bptt_lab.commands.bench.report import run  # with torch

    run(options)
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read and validate the arguments.

    Added to them are `implementations`, and in `left_out` a line for each that is not installed.
    """
    args = _parser().parse_args(argv)
    if args.past_facing and args.only:
        raise ConfigError("--past-facing: names what is measured, as --only does; keep one")
    names = args.only or (implementations.past_facing() if args.past_facing else USUAL)
    found = [implementations.find(name) for name in names]
    missing = [why for each in found if (why := each.missing())]
    if args.only and missing:
        raise ConfigError(f"--only={missing[0]}")
    if args.device == "cuda" and not gpus.count():
        raise ConfigError("--device=cuda: the driver shows no CUDA device here; use --device cpu")
    if args.device == "cuda" and args.isa:
        raise ConfigError(f"--isa={args.isa}: the C core runs on a CPU; leave it out")
    default = ["float32"] if args.device == "cpu" else ["float32", "tf32", "bfloat16"]
    precisions = args.dtype or default
    if args.device == "cpu" and "tf32" in precisions:
        raise ConfigError("--dtype=tf32: only a GPU multiplies so; use float32 or --device cuda")
    # A GPU is fed by one thread.
    default_threads = range(1, min(2, cores()) + 1) if args.device == "cpu" else [1]
    args.implementations = [each for each in found if each.missing() is None]
    args.left_out = missing
    args.shapes = _once(args.shapes or (SMALL_SHAPES if args.past_facing else SHAPES))
    args.precisions = _once(precisions)
    args.threads = _once(args.threads or default_threads)
    return args


def _parser() -> command.Parser:
    parser = command.Parser("bptt-bench", DESCRIPTION)
    parser.option(
        "--shapes L,N,I,H ...",
        "steps, sequences, inputs, hidden units; default: " + " ".join(map(str, SHAPES)),
        parse_shape,
    )
    parser.option(
        "--only NAME,NAME",
        f"some of: {', '.join(OTHERS)} (ratios need {BASELINE}) and the gradient strategies "
        f"{', '.join(packaged().trusted())}, with settings as truncated:k=8:mode=lag; "
        f"default: {','.join(USUAL)}",
        lambda text: _once(text.split(",")),
    )
    parser.option(
        "--past-facing",
        "the strategies that carry influence forward, beside full and the products that rtrl "
        "consists of; default shapes: " + " ".join(map(str, SMALL_SHAPES)),
    )
    threads = "thread counts, each with a table of its own; default: 1 2"
    parser.option("--threads T ...", threads, command.within(Annotated[int, Ge(1), Le(cores())]))
    rounds = "turns of each; default: as many as take 3 seconds a shape, 3 to 100"
    parser.option("--rounds R", rounds, command.within(Annotated[int, Ge(1)]))
    parser.option("--device cpu|cuda", "where", command.within(Literal["cpu", "cuda"]), "cpu")
    parser.option(
        "--dtype FORMAT ...",
        f"of {', '.join(get_args(Precision))}, each with a table of its own; default: float32, "
        "and on cuda float32 (TF32 off), tf32 (float32 multiplied as TF32), bfloat16",
        command.within(Precision),
    )
    parser.option(
        f"--isa {'|'.join(get_args(Isa))}",
        "instruction set of the C core; default: the best that the processor has",
        command.within(Isa),
    )
    parser.option(
        "--memory",
        "peak memory too, each in a fresh process: seconds for each and every shape; "
        "at the last of the thread counts",
    )
    return parser


def _once(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))
