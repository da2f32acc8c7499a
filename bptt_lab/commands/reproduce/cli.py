"""The command `bptt-reproduce`: published results, expected against measured."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bptt_lab.commands import command

if TYPE_CHECKING:
    from bptt_lab.commands.reproduce.families import Entry

DATA = "BPTT_LAB_DATA"
DESCRIPTION = """\
Measure published results and compare them with what was published. Where chance plays a part, the
thresholds were set on some seeds and are tested on others; the last column says which."""
HEAD = ("claim", "source", "expected", "measured", "", "seconds", "seeds")
LISTED = ("claim", "source", "expected", "", "needs", "seeds")


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments, test the claims, print the table.

    Args:
        argv: the arguments; the process's own by default.

    Returns:
        The exit code.
    """
    return command.run("bptt-reproduce", lambda: _reproduce(_parser().parse_args(argv)))


def _reproduce(args: argparse.Namespace) -> int:
    import torch  # not before the arguments are known to be good

    from bptt_lab.commands.reproduce.families import named
    from bptt_lab.runs import sweep

    torch.set_num_threads(1)  # nets are tiny; a second thread on a busy machine costs tenfold

    chosen = named(args.names, slow=args.slow or args.list)
    if args.list:
        print(sweep.aligned([LISTED, *map(_listed, chosen)]))
        return 0
    rows = [_row(entry, args.data) for entry in chosen]
    print(sweep.aligned([HEAD, *rows]))
    verdicts = [row[4] for row in rows]
    counts = [f"{verdicts.count(v)} {v}" for v in ("pass", "FAIL", "skip") if v in verdicts]
    print(f"\n{', '.join(counts)}, {sum(float(row[5]) for row in rows):.0f} seconds")
    return 1 if "FAIL" in verdicts else 0


def _listed(entry: Entry) -> tuple[str, ...]:
    claim = entry.claim
    when = "slow" if claim.slow else ""
    return entry.name, claim.source, claim.expected, when, claim.file, claim.seeds


def _row(entry: Entry, data: Path | None) -> tuple[str, ...]:
    """Test one claim; what it raises is a claim that does not hold."""
    from bptt_lab.commands.reproduce.claim import Trial

    claim = entry.claim
    command.progress(entry.name)
    began = time.perf_counter()
    file = Path() if data is None else data / claim.file
    if claim.file and data is None:
        verdict, measured = "skip", f"needs {claim.file}: give its folder, --data or {DATA}"
    elif claim.file and not file.is_file():
        verdict, measured = "skip", f"there is no {file}"
    else:
        try:
            passed, measured = claim.check(Trial(claim.tested_on, file))
            verdict = "pass" if passed else "FAIL"
        except Exception as error:
            verdict, measured = "FAIL", " ".join(f"{type(error).__name__}: {error}".split())
    seconds = f"{time.perf_counter() - began:.1f}"
    command.progress("")
    return entry.name, claim.source, claim.expected, measured, verdict, seconds, claim.seeds


def _parser() -> command.Parser:
    parser = command.Parser("bptt-reproduce", DESCRIPTION)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="families or claims; default: all the quick ones"
    )
    parser.add_argument("--slow", action="store_true", help="also those that take minutes")
    parser.add_argument("--list", action="store_true", help="only list the claims, slow ones too")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ[DATA]) if os.environ.get(DATA) else None,
        metavar="FOLDER",
        help=f"where data is looked for, else skipped; default: {DATA}",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
