"""The command `bptt-compare`: every gradient strategy on one batch, its bias and its cost."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bptt_lab.commands import command
from bptt_lab.commands.compare import request as requests
from bptt_lab.core.messages import headed
from bptt_lab.core.validation import Ge

if TYPE_CHECKING:
    from bptt_lab.commands.compare.measurement import Measurement

DRAWS, DEAR = 32, 60  # processor seconds of a row
ALL = "all"
DESCRIPTION = """\
Compare all gradient strategies on one training batch: where each one's gradient points, against
full BPTT's at the same parameters, and what it costs in time and memory. The task and the network
are given as to bptt-train (dataset=adding model.hidden_size=64 ...; bptt-train --help lists what
there is), or are those of a run."""


@command.named("bptt-compare")
def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments, print the table, draw the figure if there is to be one."""
    args, overrides = _parser().parse_known_args(argv)
    command.find_plugins_here()
    wanted = None if args.strategies == [ALL] else args.strategies
    request = requests.read(overrides, args.checkpoint, wanted)
    print(f"{request.title}: loading torch ...", flush=True)
    # Not before the request is known to be good: these import torch.
    from bptt_lab.commands.compare import table
    from bptt_lab.commands.compare.batch import prepare
    from bptt_lab.commands.compare.measurement import measure, plan

    began = time.process_time()
    batch = prepare(request.experiment, request.checkpoint)
    fixed = time.process_time() - began  # a process that measures memory prepares it again
    L, N, I, H = batch.shape
    sizes = f"L={L} steps, N={N} sequences, I={I} inputs, H={H} hidden units"
    print(f"{request.title}: {sizes}, cpu, {args.draws} draws", flush=True)
    planned = plan(
        request,
        batch,
        args.draws,
        curve=args.figure is not None,
        limit=DEAR if args.strategies is None else math.inf,
        fixed=fixed,
    )
    print(table.announced(planned), flush=True)
    layout = table.layout(planned)
    print(headed(layout, [*table.COLUMNS]), flush=True)

    def tell(row: Measurement) -> None:
        print(layout.format(*table.cells(row)).rstrip(), flush=True)

    comparison = measure(request, batch, planned, args.draws, tell)
    print(table.closing(comparison), flush=True)
    if args.figure is not None:
        from bptt_lab.commands.compare import figure

        figure.draw(comparison, request.title, args.figure)
        print(f"\nfigure  {args.figure}")
    return 0


def _parser() -> command.Parser:
    usage = "%(prog)s [OVERRIDES ...] [--config-dir DIR] [options]"
    parser = command.Parser("bptt-compare", DESCRIPTION, usage)
    run = "compare on a run's task with its trained parameters, the last checkpoint's; or "
    parser.option("--checkpoint RUN_FOLDER", f"{run}RUN_FOLDER/checkpoints/best.ckpt", Path)
    names = "options of the group gradient, measured whatever they cost; all for every one; "
    names += f"default: those that take less than {DEAR:.0f} processor seconds each; truncated is "
    names += "every mode at several k"
    parser.option("--strategies A,B,C", names, lambda text: text.split(","))
    draws = "gradients that a random strategy is asked for, 2 or more"
    parser.option("--draws N", draws, command.within(Annotated[int, Ge(2)]), DRAWS)
    drawn = f"draw bias and cost against k, as {', '.join(command.PICTURES)}; default: no figure"
    parser.option("--figure FILE", drawn, command.picture)
    return parser
