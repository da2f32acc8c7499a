"""The page's tables: settings best first with references among them, and what did not complete."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from statistics import fmean
from typing import NamedTuple
from urllib.parse import quote

from bptt_lab.commands.report import curves, scores
from bptt_lab.commands.report.palette import Look
from bptt_lab.commands.report.scores import Arrival, Score, Standing
from bptt_lab.commands.report.tidy import Job, Setting
from bptt_lab.runs import sweep

LONGEST = 600  # characters of a reason; the log has the rest


class _Row(NamedTuple):
    """A line of the table of settings, and where it ranks."""

    rank: float
    cells: Sequence[str]  # HTML
    reference: bool


def number(value: float) -> str:
    """Write a number with four digits behind the point, or three digits where that says nothing."""
    if value == 0 or 1e-3 <= abs(value) < 1e3 or not math.isfinite(value):
        return f"{value:.4f}"
    return f"{value:.3g}"


def spread(mean: float, sd: float | None) -> str:
    """Write a mean and, where there is one, its standard deviation."""
    return (
        number(mean) if sd is None or not math.isfinite(mean) else f"{number(mean)} ± {number(sd)}"
    )


def settings(standing: Standing, looks: Mapping[Setting, Look]) -> Iterator[str]:
    """Yield the table of a dataset, references in the rows where they rank."""
    metrics = sorted(standing.metrics, key=lambda name: name != standing.metric)
    common = {name for name, _ in standing.references(standing.metric)}
    apart = any(name not in common for score in standing.scores for name, _ in score.references)
    yield '<div class="scroll"><table><thead><tr><th class="text">setting</th><th>seeds</th>'
    for metric in metrics:
        yield f"<th>test {escape(standing.label(metric))}</th>"
    if apart:
        yield f"<th>references, {escape(standing.metric.replace('_', ' '))}</th>"
    if standing.aligned:
        yield "<th>mean cosine with full BPTT</th>"
    yield "<th>seconds</th><th>steps</th><th>ms a step</th>"
    if standing.target is not None:
        yield f"<th>steps to val loss {standing.target:.4g}</th>"
    yield "</tr></thead><tbody>"
    sign = -1 if scores.higher_is_better(standing.metric) else 1
    rows = [_setting(score, standing, sign, looks, apart) for score in standing.scores]
    levels = {metric: dict(standing.references(metric)) for metric in metrics}
    for name in {name: None for metric in metrics for name in levels[metric]}:
        cells = [f"{_dashed()}{escape(name)}", ""]
        cells += [number(levels[m][name]) if name in levels[m] else "" for m in metrics]
        cells += [""] * (3 + apart + standing.aligned + (standing.target is not None))
        rank = sign * levels[standing.metric].get(name, -sign * math.inf)
        rows.append(_Row(rank, cells, True))
    for row in sorted(rows, key=lambda row: row.rank):
        first, *rest = row.cells
        yield '<tr class="reference">' if row.reference else "<tr>"
        yield f'<td class="text">{first}</td>' + "".join(f"<td>{cell}</td>" for cell in rest)
        yield "</tr>"
    yield "</tbody></table></div>"


def unfinished(jobs: Sequence[Job]) -> Iterator[str]:
    """Yield the table of the jobs that did not complete, those that wait in one line."""
    statuses = ("failed", "diverged", "interrupted", "running")
    known = [job for job in jobs if job.run.status not in ("completed", "waiting")]
    known.sort(key=lambda job: statuses.index(s) if (s := job.run.status) in statuses else 9)
    if known:
        yield '<div class="scroll"><table><thead><tr><th class="text">job</th>'
        yield '<th class="text">status</th><th class="text">reason</th>'
        yield '<th class="text">log</th></tr></thead><tbody>'
        for job in known:
            status = escape(job.run.status)
            yield f'<tr><td class="text wrap">{escape(job.run.folder.name)}</td>'
            yield f'<td class="text"><span class="badge {status}">{status}</span></td>'
            yield f'<td class="text wrap">{escape(_reason(job))}</td>'
            yield f'<td class="text">{_log(job)}</td></tr>'
        yield "</tbody></table></div>"
    waiting = [job.run.folder.name.partition("_")[0] for job in jobs if _waits(job)]
    if waiting:
        yield f"<p>{len(waiting)} waiting: jobs {escape(', '.join(waiting))}.</p>"


def swatch(look: Look) -> str:
    """Return a piece of a setting's line."""
    dashes = " ".join(f"{dash * look.width:g}" for dash in look.dashes)
    return (
        '<svg class="line" width="30" height="12" aria-hidden="true"><line x1="0" y1="6" x2="30" '
        f'y2="6" stroke="{look.colour}" stroke-width="{look.width + 0.6:g}" '
        f'stroke-dasharray="{dashes}"/></svg>'
    )


def _setting(
    score: Score, standing: Standing, sign: int, looks: Mapping[Setting, Look], apart: bool
) -> _Row:
    jobs = len(score.group.jobs)
    cells = [
        f"{swatch(looks[score.group.setting])}{escape(score.group.label)}",
        str(jobs) if score.completed == jobs else f"{score.completed} of {jobs}",
    ]
    results = [score.metric] if standing.metric == scores.LOSS else [score.metric, score.loss]
    cells += [spread(*result) if result else "" for result in results]
    if apart:
        cells.append("<br>".join(f"{escape(n)} {number(level)}" for n, level in score.references))
    if standing.aligned:
        cells.append("" if score.alignment is None else number(score.alignment))
    cells.append("" if score.seconds is None else f"{score.seconds:.1f}")
    cells.append("" if score.steps is None else f"{score.steps:.0f}")
    cells.append(
        f"{1000 * score.seconds / score.steps:.2f}" if score.seconds and score.steps else ""
    )
    if standing.target is not None:
        cells.append(_steps(score.arrivals))
    rank = math.inf if score.metric is None else sign * score.metric[0]
    return _Row(math.inf if math.isnan(rank) else rank, cells, False)


def _steps(arrivals: Sequence[Arrival]) -> str:
    steps = [step for step, _ in arrivals if step is not None]
    if not steps:
        return "not reached" if arrivals else ""
    of = "" if len(steps) == len(arrivals) else f" ({len(steps)} of {len(arrivals)})"
    return f"{fmean(steps):.0f}{of}"


def _dashed() -> str:
    return swatch(Look("#777777", (3, 2), "", 1.0))


def _waits(job: Job) -> bool:
    return job.run.status == "waiting"


def _reason(job: Job) -> str:
    reason = job.run.reason
    reason = reason if len(reason) <= LONGEST else f"{reason[: LONGEST - 1]}…"
    if job.run.status in ("running", "interrupted"):
        points = curves.read(job.run.folder, {scores.VAL_LOSS}).get(scores.VAL_LOSS)
        at = f"last validated at step {max(points)}" if points else "not validated yet"
        return f"{reason}; {at}" if reason else at
    return reason


def _log(job: Job) -> str:
    """Link a job's logs by their places in the sweep's folder, where the page is."""
    folder = job.run.folder
    links = [
        f'<a href="{quote(f"{folder.name}/{log.name}")}">{escape(log.name)}</a>'
        for log in sorted([*folder.glob("*.log"), *folder.glob(sweep.LOG)])
    ]
    return "<br>".join(links) or "no log"
