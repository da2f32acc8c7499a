"""The command `bptt-homework`: write exercises, and grade what was made of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bptt_lab.commands import command
from bptt_lab.core.messages import escaped
from bptt_lab.core.validation import ConfigError, Ge, Le
from bptt_lab.runs import streams

if TYPE_CHECKING:
    from bptt_lab.commands.homework.exercise import Verdict

RIGHT, WRONG = 0, 1
SECONDS = 20
DESCRIPTION = """\
`new DIR` writes six exercises on backpropagation through time, each a file with a hole, and a
README. `grade DIR` runs each of them and says which term of the sum is wrong;
`grade DIR/2_adjoint.py` grades one, `grade CLASS/*` a class. The code that it grades runs in a
process with limits, but in no sandbox."""


@command.named("bptt-homework")
def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments, then write exercises or grade them."""
    args = _parser().parse_intermixed_args(argv)  # options before PATH, too
    if args.action not in ("new", "grade"):
        problem = "is neither new nor grade; bptt-homework --help says what they do"
        raise ConfigError(f"{args.action}: {problem}")
    if not args.paths:
        raise ConfigError(f"{args.action}: needs a folder; bptt-homework {args.action} DIR")
    if args.action == "new":
        return _new(args.paths, [f"--{f}" for f in ("json", "csv") if getattr(args, f)])
    if args.json and args.csv:
        raise ConfigError("--json: cannot go with --csv; give one of them")
    return _grade(args.paths, args)


def _new(paths: list[Path], flags: list[str]) -> int:
    if len(paths) > 1 or flags:
        extra = flags[0] if flags else paths[1]
        raise ConfigError(f"{extra}: means nothing to `new DIR`; leave it out")
    from bptt_lab.commands.homework import exercises  # imports NumPy

    written = exercises.write(paths[0])
    for path in written:
        print(escaped(str(path)))
    print(escaped(f"\nRead {paths[0] / 'README.md'}, then: bptt-homework grade {paths[0]}"))
    return RIGHT


def _grade(paths: list[Path], args: argparse.Namespace) -> int:
    from bptt_lab.commands.homework import exercises, show

    work = exercises.find_all(dict.fromkeys(paths))
    from bptt_lab.commands.homework import isolated  # imports torch

    isolated.prepare()
    text = not (args.json or args.csv)
    results: dict[Path, list[Verdict]] = {}
    total = sum(map(len, work.values()))
    for path, files in work.items():
        results[path] = []
        for file, exercise in files:
            done = sum(map(len, results.values()))
            streams.progress(f"{file.name}, {done + 1} of {total}")
            verdict = isolated.grade(file, exercise, args.seconds)
            streams.progress("")
            results[path].append(verdict)
            if text and len(work) == 1:
                print(show.text(verdict), flush=True)
    if args.json:
        print(json.dumps(show.as_json(results), indent=2))
    elif args.csv:
        print(show.as_csv(results), end="")
    elif len(work) > 1:
        print(show.table(results))
    elif total > 1:
        print(show.total(next(iter(results.values()))))
    right = all(v.status == "right" for verdicts in results.values() for v in verdicts)
    return RIGHT if right else WRONG


def _parser() -> command.Parser:
    usage = "bptt-homework new DIR | bptt-homework grade PATH ... [options]"
    parser = command.Parser("bptt-homework", DESCRIPTION, usage)
    parser.add_argument("action", help="new or grade")
    parser.add_argument("paths", type=Path, nargs="*", metavar="PATH", help="folders, or exercises")
    parser.option("--json", "grade: print points and findings as JSON")
    parser.option("--csv", "grade: print the points as a table of comma-separated values")
    limit = command.within(Annotated[int, Ge(1), Le(3600)])
    parser.option("--seconds S", "grade: how long an exercise may run", limit, SECONDS)
    return parser
