"""The command `bptt-horizon`: the longest delay solved for each k, from a sweep's folder."""

import csv
from collections.abc import Sequence
from pathlib import Path

from bptt_lab import runs
from bptt_lab.commands import command
from bptt_lab.commands.horizon import longest
from bptt_lab.commands.report import results
from bptt_lab.core.messages import cell, printable
from bptt_lab.runs import files, sweep

DESCRIPTION = """\
Write horizon.csv and horizon.png into the folder of a sweep over k and delay, such as that of
`bptt-train experiment=horizon` or experiment=horizon_adding: for each task, strategy, k and seed
the longest delay solved."""


@command.named("bptt-horizon", lasting=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and the sweep, then write."""
    args = _parser().parse_args(argv)
    sweeps = [results.read(folder) for folder in args.folders]
    lines = [line for each in sweeps for line in longest.lines(each)]
    table, picture = (args.folders[0] / f"horizon.{kind}" for kind in ("csv", "png"))
    files.refuse_strange(args.folders[0], table, picture)
    print(sweep.aligned(longest.overview(lines)))
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [map(cell, row) for row in longest.rows(lines)]
        )
    from bptt_lab.commands.horizon import figure  # matplotlib: once there is something to draw

    figure.draw(lines, picture)
    for job in (job for each in sweeps for job in each.jobs if job.run.status == "unreadable"):
        print(printable(f"left out: {job.run.folder.name}: {job.run.reason}"))
    print(f"\ntable   {runs.shown(table)}\nfigure  {runs.shown(picture)}")
    return 0


def _parser() -> command.Parser:
    parser = command.Parser("bptt-horizon", DESCRIPTION)
    parser.add_argument(
        "folders",
        type=Path,
        nargs="+",
        metavar="SWEEP_FOLDER",
        help="as outputs/..._sweep; of several, one a task, the first receives the files",
    )
    return parser
