"""The command `bptt-verify`: train a run again from its manifest, and compare the numbers.

On another machine the last bits differ and training amplifies them, hence the tolerance there.
"""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bptt_lab import runs
from bptt_lab.commands import command
from bptt_lab.config import schema, targets
from bptt_lab.config.parse import parse
from bptt_lab.config.schema import Experiment
from bptt_lab.core.messages import printable
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import Damaged, Run, resume
from bptt_lab.runs.job import Job
from bptt_lab.training import job as jobs

SAME, DIFFERENT = 0, 1
TOLERANCE = 0.01  # relative; what another instruction set does to a loss in short runs
DESCRIPTION = """\
Train a run again from its manifest, and compare every logged number and the final parameters: bit
for bit on the same type of machine with the same versions, within a tolerance elsewhere."""


Logged = Mapping[tuple[str, int], float]  # by tag and step


class Difference(NamedTuple):
    """Two values of one logged number; None where it was not logged."""

    tag: str
    step: int
    before: float | None
    now: float | None

    @property
    def relative(self) -> float:
        """How far they are apart, as a part of the larger one."""
        if self.before is None or self.now is None:
            return math.inf
        if self.before == self.now or (math.isnan(self.before) and math.isnan(self.now)):
            return 0.0
        if not (math.isfinite(self.before) and math.isfinite(self.now)):
            return math.inf
        return abs(self.before - self.now) / max(abs(self.before), abs(self.now))


@command.named("bptt-verify", lasting=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Train the run again that the command line names, and print what differs."""
    args = _parser().parse_args(argv)
    command.find_plugins_here()
    before = runs.read_run(args.run_folder)
    experiment = _refuse_unfit(before, args.allow)
    logged = _logged(before.folder)
    if before.seconds is not None:
        print(f"training again: the run took {before.seconds:.0f} seconds", flush=True)
    with tempfile.TemporaryDirectory() as place:
        again = Path(place) / "again"
        job = Job(before.choices, before.overrides, before.manifest["command"])
        with contextlib.redirect_stdout(io.StringIO()):
            code = jobs.attempt(experiment, again, job)
        now = runs.read_run(again)
        if now.status == "interrupted":
            return code
        if now.status != before.status:
            print(f"different: {before.status} then, {now.status} now: {printable(now.reason)}")
            return DIFFERENT
        return _compare(before, logged, now, args.tolerance)


def _parser() -> command.Parser:
    parser = command.Parser("bptt-verify", DESCRIPTION)
    parser.add_argument(
        "run_folder", type=Path, metavar="RUN_FOLDER", help="a run's folder, or a job's of a sweep"
    )
    parser.add_argument(
        "--allow", nargs="*", default=[], metavar="PACKAGE", help="as allow=[...] of bptt-train"
    )
    parser.add_argument(
        "--tolerance",
        type=command.finite_number,
        default=TOLERANCE,
        metavar="R",
        help="relative difference of losses to accept from another machine; default: %(default)s",
    )
    return parser


def _logged(folder: Path) -> Logged:
    """Return every number that a run logged, by tag and step."""
    try:
        return {
            (tag, line["step"]): value
            for line in runs.read_metrics(folder)
            for tag, value in line.items()
            if tag != "step"
        }
    except Damaged as error:
        raise ConfigError(f"{folder}: its {error}; start a new run") from error


def _differences(old: Logged, new: Logged) -> list[Difference]:
    """Return the numbers that two runs disagree in, or only one has, the largest first."""
    every = dict.fromkeys([*old, *new])
    pairs = [Difference(*at, old.get(at), new.get(at)) for at in every]
    return sorted((d for d in pairs if d.relative > 0), key=lambda d: -d.relative)


def _refuse_unfit(run: Run, allow: Sequence[str]) -> Experiment:
    """Return the experiment to run again."""
    folder = run.folder
    if run.status == "unreadable":
        raise ConfigError(f"{folder}: its {run.reason}; start a new run")
    if (folder / runs.SWEEP).is_file():
        raise ConfigError(f"{folder}: is a sweep; give the folder of one of its jobs")
    if not run.manifest:
        raise ConfigError(f"{folder}: holds no run; give a run's folder out of outputs/")
    for key in ("config", "choices", "overrides", "command"):
        if key not in run.manifest:
            raise ConfigError(f"{folder}: its {runs.MANIFEST} has no {key}; start a new run")
    if run.status not in ("completed", "diverged"):
        raise ConfigError(
            f"{folder}: the run is {run.status}; end it first, by bptt-train resume={folder}"
        )
    if "forced" in run.manifest:
        raise ConfigError(
            f"{folder}: was continued with other settings than it began with "
            "(force_resume=true), and no single run gives that"
        )
    return parse({**run.config, "allow": list(targets.packages(allow))}).quiet()


def _compare(before: Run, logged: Logged, now: Run, tolerance: float) -> int:
    elsewhere = _machine(before.manifest, now.manifest)
    found = _differences(logged, _logged(now.folder))
    same_parameters = before.parameters_sha256 == now.parameters_sha256
    count = len(logged)
    if not found and same_parameters:
        print(f"the same: {count} logged numbers and the parameters, bit for bit")
        return SAME
    for key, (old, new) in elsewhere.items():
        print(printable(f"{key}: {schema.show(old)} then, {schema.show(new)} now"))
    print(f"parameters: {'the same' if same_parameters else 'different'}")
    print(f"logged numbers: {len(found)} of {count} different")
    for difference in found[:5]:
        then, now_ = map(_shown, (difference.before, difference.now))
        print(f"  {difference.tag} at step {difference.step}: {then} then, {now_} now")
    if not elsewhere:
        print("different, though machine, versions, commit and threads are the same")
        return DIFFERENT
    losses = max((d.relative for d in found if d.tag.endswith("/loss")), default=0.0)
    within = losses <= tolerance
    print(
        f"{'the same' if within else 'different'} within the tolerance for another machine or "
        f"version: losses differ by up to {losses:.1e}, {tolerance:g} accepted"
    )
    return SAME if within else DIFFERENT


def _shown(number: float | None) -> str:
    return "not logged" if number is None else f"{number:.9g}"


def _machine(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what differs in machine, versions and threads; print whether the data do."""
    changed = dict(resume.differences(before, now))
    if changed.pop("data_sha256", None):
        print("data: not the data that the run learnt; the file has changed")
    for key in ("processor", "git_commit"):
        if before.get(key) != now.get(key):
            changed[key] = before.get(key), now.get(key)
    return changed
