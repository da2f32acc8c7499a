"""The command `bptt-report`: write the report of a sweep, finished or not."""

from collections.abc import Sequence
from pathlib import Path

from bptt_lab import runs
from bptt_lab.commands import command
from bptt_lab.commands.report import write_report

DESCRIPTION = """\
Write results.csv, report.html, report/*.png and TensorBoard's _summary/ into the folder of a sweep,
from what its jobs have written so far."""


@command.named("bptt-report", lasting=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments, then write the report."""
    args = _parser().parse_args(argv)
    path = write_report(args.folder, args.target_loss)
    table = path.with_name("results.csv")
    print(f"report       {runs.shown(path)}\ntable        {runs.shown(table)}")
    return 0


def _parser() -> command.Parser:
    parser = command.Parser("bptt-report", DESCRIPTION)
    parser.add_argument("folder", type=Path, metavar="SWEEP_FOLDER", help="as outputs/..._sweep")
    loss = "validation loss whose time is measured; default: for each dataset one that about half "
    loss += "of the settings reach with all their seeds"
    parser.option("--target-loss L", loss, command.within(float))
    return parser
