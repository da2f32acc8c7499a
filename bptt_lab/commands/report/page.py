"""report.html: one file with everything in it; nothing is loaded, nothing runs.

The templates escape all that they are given: settings and reasons are anybody's text. base.html is
what the pages of other commands have in common with it.
"""

import math
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from bptt_lab import runs
from bptt_lab.commands.report.panel import Picture, Styles
from bptt_lab.commands.report.results import VAL_LOSS, JobResult, SweepResults, short
from bptt_lab.commands.report.scores import Ranking, spread, table
from bptt_lab.core.messages import rounded
from bptt_lab.runs import sweep as sweeps

LONGEST = 600  # characters of a reason; the log has the rest
WORST = ("unreadable", "failed", "diverged", "interrupted", "running")  # comes first


Section = tuple[str, str, Sequence[Picture]]  # heading, how to read what is below, pictures


def render(
    sweep: SweepResults, rankings: Sequence[Ranking], sections: Sequence[Section], styles: Styles
) -> str:
    """Return the page."""
    return template("page.html").render(
        title=_title(sweep),
        summary=_summary(sweep),
        has_means=sweep.has_means,
        styles=styles,
        headlines=[_headline(ranking) for ranking in rankings],
        tables=[(ranking.dataset, *table(ranking)) for ranking in rankings],
        sections=[section for section in sections if section[2]],
        commands=[pair for pair in _commands(sweep) if pair[1]],
        **standing(sweep),
    )


def template(name: str, *folders: Path) -> Template:
    """Return a page's template, from one of the folders or from this one."""
    page = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return page.get_template(name)


def standing(sweep: SweepResults) -> dict[str, Any]:
    """Return what base.html says of every sweep: how its jobs stand, and why not better."""
    begun = [job for job in sweep.jobs if job.run.status not in ("completed", "waiting")]
    unfinished = sorted(begun, key=lambda job: [job.run.status != status for status in WORST])
    waiting = [job.run.folder.name for job in sweep.jobs if job.run.status == "waiting"]
    return {
        "counts": Counter(job.run.status for job in sweep.jobs).most_common(),
        "unfinished": [(job.run, _reason(job), _logs(job.run.folder)) for job in unfinished],
        "waiting": [name.partition("_")[0] for name in waiting],
    }


def _title(sweep: SweepResults) -> str:
    keys = [short(key, LONGEST) for key in sweep.keys if key != "dataset"]
    datasets = ", ".join(filter(None, sweep.datasets))
    return f"Sweep over {', '.join(keys) or 'seeds'}" + f" on {datasets}" * bool(datasets)


def _summary(sweep: SweepResults) -> str:
    seeds = len({job.seed for job in sweep.jobs if job.seed is not None})
    groups = sum(len(sweep.groups(dataset)) for dataset in sweep.datasets)
    numbers = {"job": len(sweep.jobs), "setting": groups, "seed": seeds}
    counts = ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for word, n in numbers.items())
    return f"{counts} · {sweep.folder.resolve().name}"


def _headline(ranking: Ranking) -> str:
    """Say in a sentence what is best, how sure that is, and beside what."""
    name = f"{ranking.dataset}: " if ranking.dataset else ""
    best, *others = ranking.groups
    result = best.result(ranking.metric)
    if result is None:
        return f"{name}no job has completed yet."
    mean, sd = result
    metric = ranking.metric.replace("_", " ")
    if not math.isfinite(mean):
        return f"{name}no setting has a finite test {metric} yet."
    seeds = f"over {len(best.done)} seeds" if len(best.done) > 1 else "with one seed"
    text = f"{name}best is {best.label}, test {metric} {spread(result)} {seeds}"
    for reference, level in best.references(ranking.metric)[:1]:
        text += f"; {reference} {rounded(level)}"
    means = [(group.label, group.result(ranking.metric)) for group in others]
    near = [label for label, its in means if its and abs(its[0] - mean) <= (sd or 0)]
    if not near:
        return text + "."
    shown = "; ".join(near) if len(near) <= 3 else f"{len(near)} other settings"
    how = "Equal to it" if sd is None else "Within one standard deviation of it"
    return f"{text}. {how}: {shown}."


def _reason(job: JobResult) -> str:
    reason = short(job.run.reason, LONGEST)
    if job.run.status in ("running", "interrupted"):
        points = job.curves.get(VAL_LOSS)
        at = f"last validated at step {max(points)}" if points else "not validated yet"
        return f"{reason}; {at}" if reason else at
    return reason


def _logs(folder: Path) -> list[str]:
    return sorted(log.name for kind in ("*.log", sweeps.LOG) for log in folder.glob(kind))


def _commands(sweep: SweepResults) -> Iterator[tuple[str, str]]:
    """Yield how to open, repeat, continue and check all this."""
    folder = shlex.quote(runs.shown(sweep.folder))
    every = "scalar, histogram and mean over seeds" if sweep.has_means else "scalar and histogram"
    yield f"Every {every} in TensorBoard:", f"bptt-board {folder}"
    yield "The same sweep:", sweep.command
    if any(job.run.status != "completed" for job in sweep.jobs):
        yield "Continue what is not complete:", f"bptt-train -m resume={folder}"
    yield "This page again:", f"bptt-report {folder}"
