"""The command `bptt-reproduce`: results of papers, expected against measured."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from bptt_lab.commands import command
from bptt_lab.commands.reproduce import topics
from bptt_lab.commands.reproduce.topics import Claim, Trial, named
from bptt_lab.core.messages import columns, headed
from bptt_lab.runs import sweep
from bptt_lab.runs.outcome import COMPLETED, FAILED

DATA = "BPTT_LAB_DATA"
LOADING = 5  # processor seconds
DESCRIPTION = """\
Measure results of papers and of this project. The kind says where the expected number comes from:
published, the source states it, as a number or a law; derived, it was computed from the source's
definitions; regression, it is this project's alone. Tolerances are this project's. Where chance
plays a part, they were set on some seeds and are tested on others; the column seeds says which."""
LISTED = ("claim", "kind", "source", "expected", "", "CPU s", "needs", "seeds")
TESTED = ("", "CPU s", "claim", "kind", "source", "expected", "seeds", "measured")


@command.named("bptt-reproduce", lasting=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments, test the claims, print the table."""
    args = _parser().parse_args(argv)
    topics.refuse_unknown(map(topics.topic_of, args.names), topics.names_of_topics())
    if not args.list:
        print("loading torch ...", flush=True)
    chosen = named(args.names, slow=args.slow or args.list)
    import torch  # not before the arguments are known to be good

    torch.set_num_threads(1)  # nets are tiny; a second thread on a busy machine costs tenfold
    if args.list:
        print(sweep.aligned([LISTED, *map(_listed, chosen)]))
        return COMPLETED
    expected = LOADING + sum(claim.seconds for claim in chosen)
    print(f"estimate: about {expected:.0f} processor seconds for {len(chosen)} claims\n")
    rows = (["pass", "", *_told(claim), claim.seeds, ""] for claim in chosen)
    layout = columns([TESTED, *rows], ["CPU s"])
    print(headed(layout, TESTED), flush=True)
    outcomes = []
    for claim in chosen:
        command.progress(claim.name)
        row = _tested(claim, args.data or os.environ.get(DATA))
        command.progress("")
        print(layout.format(*row).rstrip(), flush=True)
        outcomes.append(row[0])
    counts = [f"{outcomes.count(o)} {o}" for o in ("pass", "FAIL", "skip") if o in outcomes]
    print(f"\n{', '.join(counts)}, {time.process_time():.0f} processor seconds")
    return FAILED if "FAIL" in outcomes else COMPLETED


def _told(claim: Claim) -> list[str]:
    return [claim.name, claim.kind, claim.source, claim.expected]


def _listed(claim: Claim) -> list[str]:
    slow = "slow" if claim.slow else ""
    return [*_told(claim), slow, f"{claim.seconds:g}", claim.file, claim.seeds]


def _tested(claim: Claim, data: str | None) -> list[str]:
    """Test one claim; what it raises is a claim that does not hold."""
    began = time.process_time()
    file = Path(data or "", claim.file)
    if claim.file and not (data and file.is_file()):
        outcome, measured = "skip", f"there is no {file}; give its folder, --data or {DATA}"
    else:
        try:
            passed, measured = claim.measure(Trial(claim.tested_on, file))
            outcome = "pass" if passed else "FAIL"
        except Exception as error:
            outcome, measured = "FAIL", " ".join(f"{type(error).__name__}: {error}".split())
    seconds = f"{time.process_time() - began:.1f}"
    return [outcome, seconds, *_told(claim), claim.seeds, measured]


def _parser() -> command.Parser:
    parser = command.Parser("bptt-reproduce", DESCRIPTION)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="topics or claims; default: all the quick ones"
    )
    parser.option("--slow", "also those that take minutes")
    parser.option("--list", "only list the claims, slow ones too")
    parser.option("--data FOLDER", f"where data is looked for, else skipped; default: {DATA}")
    return parser
