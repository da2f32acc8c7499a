"""The command `bptt-verify`: train a run again from its manifest, and compare the numbers.

On another machine the last bits differ and training amplifies them, hence the tolerance there.
"""

import contextlib
import io
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
Logged = Mapping[tuple[str, int], float]  # by tag and step
TOLERANCE = 0.01  # relative; what another instruction set does to a loss in short runs
DESCRIPTION = """\
Train a run again from its manifest, and compare every logged number and the final parameters: bit
for bit on the same type of machine with the same versions, within a tolerance elsewhere."""


def distance(before: float | None, now: float | None) -> float:
    """How far two values are apart, as a part of the larger one; None was not logged."""
    if before is None or now is None:
        return math.inf
    if before == now or (math.isnan(before) and math.isnan(now)):
        return 0.0
    if not (math.isfinite(before) and math.isfinite(now)):
        return math.inf
    return abs(before - now) / max(abs(before), abs(now))


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
    tolerance = "relative difference of losses to accept from another machine"
    parser.option("--tolerance R", tolerance, command.finite_number, TOLERANCE)
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
    again = _logged(now.folder)
    apart = {at: distance(logged.get(at), again.get(at)) for at in [*logged, *again]}
    found = sorted((at for at in apart if apart[at]), key=lambda at: -apart[at])
    same_parameters = before.parameters_sha256 == now.parameters_sha256
    if not found and same_parameters:
        print(f"the same: {len(logged)} logged numbers and the parameters, bit for bit")
        return SAME
    for key, (old, new) in elsewhere.items():
        print(printable(f"{key}: {schema.show(old)} then, {schema.show(new)} now"))
    print(f"parameters: {'the same' if same_parameters else 'different'}")
    print(f"logged numbers: {len(found)} of {len(logged)} different")
    for at in found[:5]:
        then, now_ = (_shown(numbers.get(at)) for numbers in (logged, again))
        print(f"  {at[0]} at step {at[1]}: {then} then, {now_} now")
    if not elsewhere:
        print("different, though machine, versions, commit and threads are the same")
        return DIFFERENT
    losses = max((apart[tag, step] for tag, step in found if tag.endswith("/loss")), default=0.0)
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
