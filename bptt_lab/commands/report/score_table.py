"""The table of one dataset's settings, best first, with references in the rows where they rank."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from bptt_lab.commands.report.panel import Styles
from bptt_lab.commands.report.results import ALIGNMENT, Group
from bptt_lab.commands.report.scores import Ranking, place


class ScoreRow(NamedTuple):
    """A setting, or a reference: what a trivial predictor, or a known floor, reaches."""

    name: str
    colour: str  # of the setting's lines; empty for a reference
    cells: Sequence[str]


def number(value: float) -> str:
    """Write a number with four digits behind the point, or three digits where that says nothing."""
    if value == 0 or 1e-3 <= abs(value) < 1e3 or not math.isfinite(value):
        return f"{value:.4f}"
    return f"{value:.3g}"


def spread(result: tuple[float, float | None] | None) -> str:
    """Write a mean and, where there is one, its standard deviation."""
    if result is None:
        return ""
    mean, sd = result
    return number(mean) + ("" if sd is None or math.isnan(sd) else f" ± {number(sd)}")


def table(ranking: Ranking, styles: Styles) -> tuple[list[str], list[ScoreRow]]:
    """Return a dataset's heads and rows; columns that would be empty are left out."""
    cells = [_cells(ranking, group) for group in ranking.groups]
    heads = [head for head in cells[0] if any(row[head] for row in cells)]
    rows = []
    for group, row in zip(ranking.groups, cells, strict=True):
        shown = [row[head] for head in heads]
        result = group.result(ranking.metric)
        rows.append((result, ScoreRow(group.label, styles[group.values].colour, shown)))
    levels = {
        _head(ranking, metric): dict(ranking.references(metric)) for metric in ranking.metrics
    }
    own = levels[_head(ranking, ranking.metric)]
    for name in dict.fromkeys(name for known in levels.values() for name in known):
        found = [levels.get(head, {}).get(name) for head in heads]
        shown = ["" if level is None else number(level) for level in found]
        rows.append(((own[name], None) if name in own else None, ScoreRow(name, "", shown)))
    rows.sort(key=lambda row: place(ranking.metric, row[0]))
    return heads, [row for _, row in rows]


def _head(ranking: Ranking, metric: str) -> str:
    return f"test {ranking.label(metric)}"


def _cells(ranking: Ranking, group: Group) -> dict[str, str]:
    """Return what the table says of a setting, by the heads of the columns."""

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return fmean(known) if known else None

    runs, jobs = [job.run for job in group.done], len(group.jobs)
    cells = {"seeds": str(jobs) if len(runs) == jobs else f"{len(runs)} of {jobs}"}
    for metric in ranking.metrics:
        cells[_head(ranking, metric)] = spread(group.result(metric))
    common = dict(ranking.references(ranking.metric))
    apart = [
        f"{name} {number(at)}"
        for name, at in group.references(ranking.metric)
        if name not in common
    ]
    seconds, steps = mean([run.seconds for run in runs]), mean([run.steps for run in runs])
    cosine = mean([v for job in group.jobs for v in job.curves.get(ALIGNMENT, {}).values()])
    return cells | {
        f"references, {ranking.metric.replace('_', ' ')}": "\n".join(apart),
        "mean cosine with full BPTT": "" if cosine is None else number(cosine),
        "seconds": "" if seconds is None else f"{seconds:.1f}",
        "steps": "" if steps is None else f"{steps:.0f}",
        "ms a step": f"{1000 * seconds / steps:.2f}" if seconds and steps else "",
        f"steps to val loss {ranking.target or 0:.4g}": _arrivals(ranking, group),
    }


def _arrivals(ranking: Ranking, group: Group) -> str:
    steps = [step for step, _ in ranking.arrivals(group)]
    reached = [step for step in steps if step is not None]
    if not reached:
        return "not reached" if steps else ""
    of = "" if len(reached) == len(steps) else f" ({len(reached)} of {len(steps)})"
    return f"{fmean(reached):.0f}{of}"
