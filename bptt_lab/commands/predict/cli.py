"""The command `bptt-predict`: answers of a run's network to a file, as a table."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bptt_lab import runs
from bptt_lab.commands import command, trained
from bptt_lab.config import targets
from bptt_lab.config.components import renamed
from bptt_lab.core.messages import escaped
from bptt_lab.core.validation import ConfigError, ReadableFile
from bptt_lab.runs import files, streams

if TYPE_CHECKING:
    from bptt_lab.tasks.inputs import Inputs

STDOUT = "-"
DESCRIPTION = """\
Write what the network of a run answers to a file in the form of the run's task: a row for each step
of each sequence, or for each sequence where the task has one answer for it. Sequences and steps
are counted from 0."""


@command.named("bptt-predict")
def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments, load the network, and write the table."""
    args = trained.arguments(_parser(), argv)
    if args.input is None:
        raise ConfigError("--input: must name a file that the run's task reads; give one")
    there = args.output != STDOUT and args.output.exists()
    if there and args.output.samefile(args.input):
        raise ConfigError(f"--output={args.output}: is the input; give another file")
    net = trained.load(args)
    inputs = _read(trained.folder(args), args.input, args.allow or ())
    from bptt_lab.commands.predict import answers

    total = sum(len(sequence) for _, sequence in inputs.sequences)

    def tell(done: int) -> None:
        streams.progress(f"{done:,} of {total:,} steps")

    rows, count = answers.rows(net, inputs, tell), 0
    first = next(rows, None)  # refuses here before anything is written
    with _written(args.output) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(answers.heads(net, inputs))
        for row in itertools.chain(filter(None, [first]), rows):
            table.writerow(row)
            count += 1
        streams.progress("")
    if args.output != STDOUT:
        print(escaped(f"{count} rows  {runs.shown(args.output)}"), flush=True)
    return 0


def _read(folder: Path, path: str, allow: Iterable[str]) -> Inputs:
    """Read a file as the task of a run does."""
    from hydra.utils import get_class

    config = renamed(runs.read_manifest(folder).get("config", {}))
    section = config.get("dataset") if isinstance(config, dict) else None
    if not isinstance(section, dict) or "_target_" not in section:
        problem = f"has no {runs.MANIFEST} that names its task"
        raise ConfigError(f"{folder}: {problem}; use net.predict of bptt_lab.lab in Python")
    settings = {key: value for key, value in section.items() if key != "_target_"}
    target = section["_target_"]
    trusted = targets.packages(allow)
    targets.check_target("dataset._target_", target, targets.KINDS["dataset"], trusted)
    task: Any = get_class(target)
    found: Inputs = task.read_inputs(path, settings)
    if not found.sequences:
        raise ConfigError(f"--input={path}: holds no sequence; give another file")
    return found


@contextmanager
def _written(output: Path | str) -> Iterator[trained.Writable]:
    if isinstance(output, str):
        yield trained.stdout()
        return
    with files.replacing(output) as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8", newline="")
        yield text
        text.flush()
        text.detach()


def _output(text: str) -> Path | str:
    return text if text == STDOUT else command.output(text)


def _input(text: str) -> str:
    if problem := ReadableFile().unmet(text, {}):
        raise command.must(text, problem.removeprefix("must "))
    return text


def _parser() -> command.Parser:
    parser = trained.parser("bptt-predict", DESCRIPTION)
    read = (
        "a text, a CSV file, a JSON of pieces, a CoNLL-U file or one with a sentence a line, IDX "
    )
    read += "images, or a .npz file of numbers, as the run's task reads"
    parser.option("--input FILE", read, _input)
    parser.option("--output FILE", "a CSV file, or - for stdout", _output, STDOUT)
    return parser
