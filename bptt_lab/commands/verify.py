"""The command `bptt-verify`: train a run again from its manifest, and compare the numbers.

On another machine the last bits differ and training amplifies them, hence the tolerance there.
"""

import contextlib
import io
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from bptt_lab import runs
from bptt_lab.commands import command, trained
from bptt_lab.config import schema, targets
from bptt_lab.config.parse import parse
from bptt_lab.core.messages import printable
from bptt_lab.core.validation import ConfigError, Ge, seconds
from bptt_lab.runs import Damaged, Run, files, resume
from bptt_lab.runs.job import Job
from bptt_lab.training import job as jobs

SAME, DIFFERENT = 0, 1
Logged = Mapping[tuple[str, str], float]  # by tag and where it was logged
FINAL = f"in {runs.SUMMARY}"
PLACE = ("versions", "threads", "processes", "device", "kernel", "processor", "git_commit")
TOLERANCE = 0.01  # relative; what another instruction set does to a loss in short runs
ANEW = "start a new run"
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
    for problem in _problems(args.run_folder, before):
        raise ConfigError(f"{args.run_folder}: {problem}")
    logged = _logged(before)
    allow = list(targets.packages(args.allow or ()))
    experiment = parse({**before.config, "allow": allow, "loggers": None}).quiet()
    limit = experiment.trainer.max_time
    if limit is not None and (before.seconds or 0) >= seconds(limit):
        problem = f"trainer.max_time={limit} ended it, and no other run ends at the same step"
        raise ConfigError(f"{args.run_folder}: {problem}; {ANEW} with trainer.max_steps")
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
    parser = trained.parser("bptt-verify", DESCRIPTION)
    tolerance = "relative difference of losses to accept from another machine"
    number = command.within(Annotated[float, Ge(0)])
    parser.option("--tolerance R", tolerance, number, TOLERANCE)
    return parser


def _logged(run: Run) -> Logged:
    """Return every number that a run logged, those of its end included."""
    try:
        logged = {
            (tag, f"at step {line['step']}"): value
            for line in runs.read_metrics(run.folder)
            for tag, value in line.items()
            if tag != "step"
        }
    except Damaged as error:
        raise ConfigError(f"{run.folder}: its {error}; {ANEW}") from error
    return {**logged, **{(tag, FINAL): value for tag, value in run.metrics.items()}}


def _problems(folder: Path, run: Run) -> Iterator[str]:
    """Yield why a run cannot be run again, what is worst first."""
    if problem := files.no_folder(folder):
        yield f"{problem}; move it away"
    files.refuse_strange(folder)
    if run.status == "unreadable":
        yield f"its {run.reason}; {ANEW}"
    if (folder / runs.SWEEP).is_file():
        yield "is a sweep; give the folder of one of its jobs"
    if not run.manifest:
        yield "holds no run; give a run's folder out of outputs/"
    for key in ("config", "choices", "overrides", "command"):
        if key not in run.manifest:
            yield f"its {runs.MANIFEST} has no {key}; {ANEW}"
    seed, own = run.config.get("seed"), run.manifest.get("seed")
    if None not in (own, seed) and own != seed:
        seeds = f"seed={schema.show(own)} and config.seed={schema.show(seed)}"
        yield f"its {runs.MANIFEST} says {seeds}; {ANEW}"
    if run.status not in ("completed", "diverged"):
        yield f"the run is {run.status}; end it first, by bptt-train resume={folder}"
    if run.status == "completed" and run.parameters_sha256 is None:
        yield f"its {runs.SUMMARY} has no parameters_sha256; {ANEW}"
    if "forced" in run.manifest:
        yield (
            "was continued with other settings than it began with (force_resume=true), and no "
            "single run gives that"
        )
    if run.status == "completed" and all(where == FINAL for _, where in _logged(run)):
        yield f"its {runs.METRICS} is missing or empty; {ANEW}"


def _compare(before: Run, logged: Logged, now: Run, tolerance: float) -> int:
    changed = _changed(before.manifest, now.manifest)
    elsewhere = [key for key in changed if key.partition(".")[0] in PLACE]
    again = _logged(now)
    apart = {at: distance(logged.get(at), again.get(at)) for at in [*logged, *again]}
    found = sorted((at for at in apart if apart[at]), key=lambda at: -apart[at])
    same_parameters = before.parameters_sha256 == now.parameters_sha256
    if not found and same_parameters:
        parameters = " and the parameters" if before.parameters_sha256 else ""
        print(f"the same: {len(logged)} logged numbers{parameters}, bit for bit")
        return SAME
    for key, (old, new) in changed.items():
        print(printable(f"{key}: {schema.show(old)} then, {schema.show(new)} now"))
    print(f"parameters: {'the same' if same_parameters else 'different'}")
    print(f"logged numbers: {len(found)} of {len(logged)} different")
    for at in found[:5]:
        pair = (numbers.get(at) for numbers in (logged, again))
        then, now_ = ("not logged" if value is None else f"{value:.9g}" for value in pair)
        print(f"  {at[0]} {at[1]}: {then} then, {now_} now")
    if not (found and elsewhere):
        same = "machine, versions, commit and threads" if found else "all logged numbers"
        print(f"different, though {same} are the same")
        return DIFFERENT
    invented = {at for at in found if at[1] == FINAL and at not in again}
    counted = [apart[at] for at in found if at[0].endswith("/loss") or at in invented]
    losses = max(counted, default=0.0)
    within = losses <= tolerance
    print(
        f"{'the same' if within else 'different'} within the tolerance for another "
        f"{', '.join(elsewhere)}: losses differ by up to {losses:.1e}, {tolerance:g} accepted"
    )
    return SAME if within else DIFFERENT


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what differs in machine, versions and config; print whether the data do."""
    changed = dict(resume.differences(before, now))
    if changed.pop("data_sha256", None):
        print("data: not the data that the run learnt; the file has changed")
    for key in ("processor", "git_commit"):
        if before.get(key) != now.get(key):
            changed[key] = before.get(key), now.get(key)
    return changed
