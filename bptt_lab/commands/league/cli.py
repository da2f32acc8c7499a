"""The command `bptt-league`: which rule learns a stream best, how sure that is, what it costs."""

from collections.abc import Sequence
from pathlib import Path

from bptt_lab import runs
from bptt_lab.commands import command
from bptt_lab.core.messages import escaped, printable
from bptt_lab.runs import files, streams, sweep

DESCRIPTION = """\
Compare the rules of a sweep that learn a stream, such as that of `bptt-train experiment=league`:
error, alignment with the exact gradient, milliseconds a step, and what is significant over the
seeds. Writes league.html, league.csv, league_pairs.csv, league.svg and league.png into the sweep's
folder, from what its jobs have written so far."""


@command.named("bptt-league", lasting=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and the sweep, compare, time, write."""
    args = _parser().parse_args(argv)
    command.find_plugins_here()
    from bptt_lab.commands.league import streams as reading

    found, all_streams = reading.read(args.folder)
    streams.loading("torch")
    from bptt_lab.commands.league import comparison, page, words, write
    from bptt_lab.commands.league.cost import Costs, measure

    files.refuse_strange(args.folder, *write.paths(args.folder))
    compared = {
        stream.name: [comparison.compare(stream, "error"), comparison.compare(stream, "alignment")]
        for stream in all_streams
    }
    streams.progress("timing a step of each rule ...")
    costs = Costs() if args.no_timing else measure(all_streams, args.allow or ())
    streams.progress("")
    write.write(found, all_streams, compared, costs)
    for stream in all_streams:
        errors = compared[stream.name][0]
        heads, numbers, rows = page.table(stream, errors, costs)
        names = [rule.name for rule in stream.rules]
        cells = [[name, *row[:numbers]] for name, row in zip(names, rows, strict=True)]
        print(escaped(stream.name))
        print(sweep.aligned([["rule", *heads[:numbers]], *cells], heads))
        print(escaped(f"{words.verdict(errors)} {words.reach(errors)}\n"))
    for name, why in costs.left_out.items():
        print(printable(f"not timed: {name}: {why}"))
    print(f"page    {runs.shown(args.folder / write.PAGE)}")
    print(f"tables  {runs.shown(args.folder / write.RUNS)}, {write.PAIRS}")
    return 0


def _parser() -> command.Parser:
    parser = command.Parser("bptt-league", DESCRIPTION)
    parser.add_argument("folder", type=Path, metavar="SWEEP_FOLDER", help="as outputs/..._sweep")
    parser.option("--no-timing", "measure no milliseconds")
    packages = "packages whose rules are timed, as allow=[...] of bptt-train"
    parser.option("--allow PACKAGE,PACKAGE", packages, lambda text: text.split(","))
    return parser
