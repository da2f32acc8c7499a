"""The table of one dataset's settings, best first, with references in the rows where they rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from bptt_lab.commands.report import scores
from bptt_lab.commands.report.line_styles import Styles
from bptt_lab.commands.report.scores import Ranking, Score
from bptt_lab.training.style import LineStyle

REFERENCE = LineStyle("#777777", (3, 2), width=1.0)  # a piece of the line that pictures have


class ScoreRow(NamedTuple):
    """A setting or a reference."""

    rank: float
    line: LineStyle
    name: str
    cells: Sequence[str]
    is_reference: bool = False

    @property
    def dashes(self) -> str:
        """The line's dashes as SVG has them."""
        return " ".join(f"{dash * self.line.width:g}" for dash in self.line.dashes)


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
    return (
        number(mean) if sd is None or not math.isfinite(mean) else f"{number(mean)} ± {number(sd)}"
    )


def table(ranking: Ranking, styles: Styles) -> tuple[list[str], list[ScoreRow]]:
    """Return a dataset's heads and rows; columns that would be empty are left out."""
    sign = -1 if scores.higher_is_better(ranking.metric) else 1
    levels = {_head(ranking, m): dict(ranking.references(m)) for m in ranking.metrics}
    cells = [_cells(ranking, score) for score in ranking.scores]
    heads = [head for head in cells[0] if any(row[head] for row in cells)]
    rows = []
    for score, row in zip(ranking.scores, cells, strict=True):
        rank = math.nan if score.metric is None else sign * score.metric[0]
        rank = math.inf if math.isnan(rank) else rank
        line, shown = styles[score.group.values], [row[head] for head in heads]
        rows.append(ScoreRow(rank, line, score.group.label, shown))
    own = levels[_head(ranking, ranking.metric)]
    for name in dict.fromkeys(name for known in levels.values() for name in known):
        found = [levels.get(head, {}).get(name) for head in heads]
        shown = ["" if level is None else number(level) for level in found]
        rank = sign * own[name] if name in own else math.inf
        rows.append(ScoreRow(rank, REFERENCE, name, shown, is_reference=True))
    return heads, sorted(rows, key=lambda row: row.rank)


def _head(ranking: Ranking, metric: str) -> str:
    return f"test {ranking.label(metric)}"


def _cells(ranking: Ranking, score: Score) -> dict[str, str]:
    """Return what the table says of a setting, by the heads of the columns."""
    jobs, seconds, steps = len(score.group.jobs), score.seconds, score.steps
    cells = {"seeds": str(jobs) if score.completed == jobs else f"{score.completed} of {jobs}"}
    for metric in ranking.metrics:
        result = score.loss if metric == scores.LOSS else score.metric
        cells[_head(ranking, metric)] = spread(result)
    common = {name for name, _ in ranking.references(ranking.metric)}
    apart = [f"{name} {number(at)}" for name, at in score.references if name not in common]
    return cells | {
        f"references, {ranking.metric.replace('_', ' ')}": "\n".join(apart),
        "mean cosine with full BPTT": "" if score.alignment is None else number(score.alignment),
        "seconds": "" if seconds is None else f"{seconds:.1f}",
        "steps": "" if steps is None else f"{steps:.0f}",
        "ms a step": f"{1000 * seconds / steps:.2f}" if seconds and steps else "",
        f"steps to val loss {ranking.target or 0:.4g}": _arrivals(score),
    }


def _arrivals(score: Score) -> str:
    steps = [step for step, _ in score.arrivals if step is not None]
    if not steps:
        return "not reached" if score.arrivals else ""
    of = "" if len(steps) == len(score.arrivals) else f" ({len(steps)} of {len(score.arrivals)})"
    return f"{fmean(steps):.0f}{of}"
