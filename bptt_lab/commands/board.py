"""The command `bptt-board`: TensorBoard on a folder of runs, for this machine only.

It names an address where TensorBoard shows a few charts of a few runs: a sweep has hundreds.
"""

import os
import re
import socket
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

from bptt_lab.commands import command
from bptt_lab.commands.report import results
from bptt_lab.commands.report.results import ALIGNMENT, EFFECTIVE_LAG, GRADIENT_NORM, LYAPUNOV
from bptt_lab.core.validation import ConfigError, Ge, Le

DESCRIPTION = """\
Open TensorBoard on a sweep's folder, or a run's, for this machine only, and name an address where
it begins with a few charts: does it learn, how far back does the gradient reach, does it explode,
does it point right; of a sweep the best five settings."""
MOST_RUNS = 5  # series of a chart at first
# Each answers a question. Of several seeds there are means.
TAGS = "val/.*", GRADIENT_NORM, EFFECTIVE_LAG, ALIGNMENT, LYAPUNOV
PORTS = range(6006, 6106)


@command.named("bptt-board")
def main(argv: Sequence[str] | None = None) -> int:
    """Become TensorBoard, so that Ctrl-C reaches it and no process is left behind."""
    args = _parser().parse_args(argv)
    if not args.folder.is_dir():
        raise ConfigError(f"{args.folder}: there is no such folder; give a sweep's or a run's")
    port = args.port or free_port()
    print(f"begin with   http://127.0.0.1:{port}/{first_look(args.folder)}", flush=True)
    other = board_command(args.folder, port)
    os.execv(other[0], other)


def board_command(folder: Path, port: int) -> list[str]:
    """Return the command that serves the folder to browsers on this machine."""
    what = ["--logdir", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-m", "tensorboard.main", *what]


def free_port() -> int:
    """Return the first port from TensorBoard's own on that nobody listens at."""
    for port in PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise ConfigError(f"--port: all from {PORTS[0]} to {PORTS[-1]} are in use; give another")


def first_look(folder: Path) -> str:
    """Return the part of an address that chooses the charts and the runs to begin with."""
    runs = first_runs(folder)
    chosen = {"tagFilter": f"^(mean/)?({'|'.join(TAGS)})$", "smoothing": "0"}
    if runs:
        chosen["runFilter"] = f"^({'|'.join(map(re.escape, runs))})$"
    return f"?{urlencode(chosen)}#timeseries"


def first_runs(folder: Path) -> list[str]:
    """Return what a sweep's best settings are called in TensorBoard; of no sweep nothing.

    Of several seeds that are their means, once the report has them. The datasets take turns.
    """
    from bptt_lab.commands.report import scores, summary_events

    try:
        sweep = results.read(folder)
    except ConfigError:  # a run, or a folder of both
        return []
    if len(sweep.jobs) <= MOST_RUNS:
        return []
    rankings = [scores.rank(sweep, dataset, None) for dataset in sweep.datasets]
    turns = zip_longest(*([(each, group) for group in each.groups] for each in rankings))
    best = [pair for turn in turns for pair in turn if pair][:MOST_RUNS]
    means = [summary_events.place(folder, *pair) for pair in best]
    if all(mean.is_dir() for mean in means):
        return [str(mean.relative_to(folder)) for mean in means]
    return [group.jobs[0].run.folder.name for _, group in best]


def _parser() -> command.Parser:
    parser = command.Parser("bptt-board", DESCRIPTION)
    parser.add_argument("folder", type=Path, metavar="SWEEP_FOLDER", help="as outputs/..._sweep")
    port = "default: the first free one from 6006"
    parser.option("--port N", port, command.within(Annotated[int, Ge(1), Le(65535)]))
    return parser
