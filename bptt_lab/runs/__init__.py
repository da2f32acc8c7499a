"""Run folders and sweep folders: the files in them, written and read.

    RUN/    status.json    {"status": ..., "reason": ...}: the one place that says how it stands
            manifest.json  written at the start: config, overrides, choices, versions, machine
            summary.json   written at the end: metrics, references, seconds, steps, epochs, sha256
            metrics.jsonl  every scalar
    SWEEP/  sweep.json     {"command": ..., "jobs": [{"folder": ..., "overrides": [...]}, ...]}
            000_.../       one run folder a job

Nothing in this package imports torch, so that a table of a thousand jobs is there at once.
"""

import itertools
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bptt_lab.core.messages import escaped
from bptt_lab.runs import files, papers
from bptt_lab.runs.papers import MANIFEST as MANIFEST
from bptt_lab.runs.papers import METRICS as METRICS
from bptt_lab.runs.papers import STATUS as STATUS
from bptt_lab.runs.papers import SUMMARY as SUMMARY
from bptt_lab.runs.papers import SWEEP as SWEEP
from bptt_lab.runs.papers import Damaged as Damaged
from bptt_lab.runs.papers import Status as Status
from bptt_lab.runs.papers import Written as Written
from bptt_lab.runs.papers import read_metrics as read_metrics

NO_LIST = "put the file back, or start a new sweep"


@dataclass(frozen=True)
class Run:
    """What is known of a run: waiting where it has not begun, unreadable with damaged papers."""

    folder: Path
    status: Status = "waiting"
    reason: str = ""  # why it did not complete
    raised: bool = False  # it failed by an exception of its own, rather than being killed
    overrides: tuple[str, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)  # options by group
    config: Mapping[str, Any] = field(default_factory=dict)  # plain containers
    manifest: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)  # final ones by tag: test/loss, ...
    references: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    seconds: float | None = None
    steps: int | None = None
    epochs: int | None = None
    parameters_sha256: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether it completed, and its results are there."""
        return self.status == "completed"

    def unreadable(self, reason: str) -> "Run":
        """Return the run as one of which a paper is damaged."""
        return replace(self, status="unreadable", reason=reason)


def read_run(folder: Path) -> Run:
    """Read what the whole papers of a run folder say, and what is wrong with damaged ones."""
    found, damage = {}, []
    for name in (STATUS, MANIFEST, SUMMARY):
        try:
            found[name] = papers.read(folder / name)
        except Damaged as error:
            found[name] = {}
            damage.append(str(error))
    state, manifest, summary = found.values()
    if state.get("status") == "completed" and not summary.get("metrics") and not damage:
        there = os.path.lexists(folder / SUMMARY)
        damage.append(f"{SUMMARY} is {'damaged: it has no metrics' if there else 'missing'}")
    results = ("metrics", "references", "seconds", "steps", "epochs", "parameters_sha256")
    said = {**_some(state, "status", "reason", "raised"), **_some(summary, *results)}
    said |= {**_some(manifest, "choices", "config"), "manifest": manifest}
    run = Run(folder, overrides=tuple(manifest.get("overrides", ())), **said)
    return run.unreadable("; ".join(damage)) if damage else run


def read_job(folder: Path) -> Run:
    """Read the run of a sweep's job, whose folder is none of its own where it is a link."""
    problem = files.no_folder(folder)
    return Run(folder).unreadable(problem) if problem else read_run(folder)


def _some(paper: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: paper[name] for name in names if name in paper}


def read_status(folder: Path) -> Status:
    """Read how a run stands, whatever its other papers are like."""
    try:
        status: Status = papers.read(folder / STATUS).get("status", "waiting")
    except Damaged:
        return "unreadable"
    return status


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a run's manifest; an empty one where there is none; Damaged where no run wrote it."""
    return _paper(folder, MANIFEST, "start a new run")


def read_sweep(folder: Path) -> list[Run]:
    """Read every job of a sweep in order, begun or not; Damaged where no sweep wrote its list."""
    listed = read_sweep_file(folder).get("jobs", [])
    jobs = {Path(job["folder"]).name: tuple(job["overrides"]) for job in listed}
    if len(jobs) < len(listed):
        names = [Path(job["folder"]).name for job in listed]
        problem = f"two jobs have the folder {max(names, key=names.count)}; {NO_LIST}"
        raise Damaged(f"{folder / SWEEP} is damaged: {problem}")
    return [replace(read_job(folder / name), overrides=own) for name, own in jobs.items()]


def read_sweep_file(folder: Path) -> dict[str, Any]:
    """Read sweep.json; an empty one where there is none; Damaged where no sweep wrote it."""
    return _paper(folder, SWEEP, NO_LIST)


def _paper(folder: Path, name: str, way_out: str) -> dict[str, Any]:
    try:
        return papers.read(folder / name)
    except Damaged as error:
        raise Damaged(f"{folder}: its {error}; {way_out}") from error


def leftovers(folder: Path) -> list[Path]:
    """List what a run left in its folder, besides the papers that say what and how it is."""
    ours = [folder / name for name in ("checkpoints", "loggers", METRICS, SUMMARY)]
    return [*filter(os.path.lexists, ours), *sorted(folder.glob("events.out.tfevents.*"))]


def set_aside(folder: Path) -> Path | None:
    """Move what a run left, if anything, into a new folder in its own, with its manifest's copy."""
    if not (left := leftovers(folder)):
        return None
    names = (folder / f"set_aside_{number}" for number in itertools.count(1))
    aside = next(itertools.filterfalse(os.path.lexists, names))
    aside.mkdir()
    write_json(aside / MANIFEST, read_json(folder / MANIFEST))
    for path in left:
        path.rename(aside / path.name)
    return aside


def write_status(folder: Path, status: Written, reason: str = "", **more: object) -> None:
    """Say how a run stands; on a full disk, in the place of what stood there before."""
    content = {"status": status, "reason": reason, **more}
    try:
        write_json(folder / STATUS, content)
    except OSError:
        with files.writing(folder / STATUS, "over") as file:
            file.write(json.dumps(content).encode())
            file.truncate()


def write_json(path: Path, content: Mapping[str, object], *, durable: bool = False) -> None:
    """Write a JSON file whole or not at all; what `json` cannot write goes in as its text.

    A `durable` one is on the disk, and not only on its way, before the next step.
    """
    with files.replacing(path, durable=durable) as file:
        file.write((json.dumps(content, indent=2, default=str) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one where there is none."""
    try:
        with files.reading(path, files.LARGEST_PAPER) as file:
            content = json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def folder_and_board(kind: str, folder: Path) -> str:
    """Say where a folder is and how to open TensorBoard on it, from where the user is."""
    board = Path(sys.executable).with_name("tensorboard")
    command = "tensorboard" if shutil.which("tensorboard") else shown(board)
    return f"{kind:<12} {shown(folder)}\nTensorBoard  {command} --logdir {shown(folder)}"


def shown(path: Path) -> str:
    """Write a path from where the user is, if that is shorter."""
    relative = os.path.relpath(path)
    text = str(path.absolute()) if relative.startswith("..") else relative
    return escaped(text.replace("\n", "\\n"))
