"""The table of one dataset's settings, best first, with references in the rows where they rank."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

from bptt_lab.commands.report import scores
from bptt_lab.commands.report.line_styles import Styles
from bptt_lab.commands.report.scores import Ranking, Score
from bptt_lab.training.style import LineStyle

REFERENCE = LineStyle("#777777", (3, 2), width=1.0)  # a piece of the line that pictures have


class Row(NamedTuple):
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


class Table(NamedTuple):
    """What the page shows of a dataset's settings."""

    dataset: str
    heads: Sequence[str]
    rows: Sequence[Row]


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
    plain = sd is None or not math.isfinite(mean)
    return number(mean) if plain else f"{number(mean)} ± {number(sd or 0.0)}"


def table(ranking: Ranking, styles: Styles) -> Table:
    """Return the table of a dataset."""
    columns = _columns(ranking)
    sign = -1 if scores.higher_is_better(ranking.metric) else 1
    rows = []
    for score in ranking.scores:
        rank = math.nan if score.metric is None else sign * score.metric[0]
        cells = [cell(score) for cell in columns.values()]
        line, name = styles[score.group.values], score.group.label
        rows.append(Row(math.inf if math.isnan(rank) else rank, line, name, cells))
    levels = {_head(ranking, m): dict(ranking.references(m)) for m in ranking.metrics}
    own = levels[_head(ranking, ranking.metric)]
    for name in dict.fromkeys(name for known in levels.values() for name in known):
        found = [levels.get(head, {}).get(name) for head in columns]
        cells = ["" if level is None else number(level) for level in found]
        rank = sign * own[name] if name in own else math.inf
        rows.append(Row(rank, REFERENCE, name, cells, is_reference=True))
    return Table(ranking.dataset, list(columns), sorted(rows, key=lambda row: row.rank))


def _columns(ranking: Ranking) -> dict[str, Callable[[Score], str]]:
    """Return what each column says of a setting, by its head."""
    columns: dict[str, Callable[[Score], str]] = {"seeds": _seeds}
    for metric in ranking.metrics:
        columns[_head(ranking, metric)] = _loss if metric == scores.LOSS else _metric
    common = {name for name, _ in ranking.references(ranking.metric)}
    if any(name not in common for score in ranking.scores for name, _ in score.references):
        columns[f"references, {ranking.metric.replace('_', ' ')}"] = _references
    if any(score.alignment is not None for score in ranking.scores):
        columns["mean cosine with full BPTT"] = _alignment
    columns |= {"seconds": _seconds, "steps": _steps, "ms a step": _pace}
    if ranking.target is not None:
        columns[f"steps to val loss {ranking.target:.4g}"] = _arrivals
    return columns


def _head(ranking: Ranking, metric: str) -> str:
    return f"test {ranking.label(metric)}"


def _seeds(score: Score) -> str:
    jobs = len(score.group.jobs)
    return str(jobs) if score.completed == jobs else f"{score.completed} of {jobs}"


def _metric(score: Score) -> str:
    return spread(score.metric)


def _loss(score: Score) -> str:
    return spread(score.loss)


def _references(score: Score) -> str:
    return "\n".join(f"{name} {number(level)}" for name, level in score.references)


def _alignment(score: Score) -> str:
    return "" if score.alignment is None else number(score.alignment)


def _seconds(score: Score) -> str:
    return "" if score.seconds is None else f"{score.seconds:.1f}"


def _steps(score: Score) -> str:
    return "" if score.steps is None else f"{score.steps:.0f}"


def _pace(score: Score) -> str:
    return f"{1000 * score.seconds / score.steps:.2f}" if score.seconds and score.steps else ""


def _arrivals(score: Score) -> str:
    steps = [step for step, _ in score.arrivals if step is not None]
    if not steps:
        return "not reached" if score.arrivals else ""
    of = "" if len(steps) == len(score.arrivals) else f" ({len(steps)} of {len(score.arrivals)})"
    return f"{fmean(steps):.0f}{of}"
