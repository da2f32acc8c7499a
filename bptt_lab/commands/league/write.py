"""Everything that a league consists of, into the sweep's folder."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bptt_lab.commands.league import figure, page
from bptt_lab.commands.league.comparison import Comparison
from bptt_lab.commands.league.cost import Costs
from bptt_lab.commands.league.streams import Stream
from bptt_lab.commands.report.panel import Picture, line_styles
from bptt_lab.commands.report.results import SweepResults
from bptt_lab.core.messages import cell
from bptt_lab.runs import files

PAGE, RUNS, PAIRS = "league.html", "league.csv", "league_pairs.csv"
SVG, PNG = "league.svg", "league.png"
SHADOW = ("norm_ratio", "relative_error", "influence_error")
OF_RUNS = (
    *("folder", "stream", "rule", "seed", "status", "reason", "steps", "loss", "error"),
    *("error_last_5_records", "alignment", *SHADOW, "ms_a_step", "ms_a_step_least"),
)
OF_PAIRS = (
    *("stream", "quantity", "rule", "other", "seeds", "effect", "low", "high", "level"),
    *("rank_biserial", "p", "p_holm", "least_p_holm", "significant"),
)


def paths(folder: Path) -> list[Path]:
    """Return what is written."""
    return [folder / name for name in (PAGE, RUNS, PAIRS, SVG, PNG)]


def write(
    sweep: SweepResults,
    streams: Sequence[Stream],
    compared: Mapping[str, Sequence[Comparison]],
    costs: Costs,
) -> None:
    """Write tables, picture and page anew."""
    folder = sweep.folder
    _table(folder / RUNS, OF_RUNS, _runs(streams, costs))
    _table(folder / PAIRS, OF_PAIRS, _pairs(streams, compared))
    strategies = {rule.values: rule.strategy for stream in streams for rule in stream.rules}
    styles = line_styles([*map(_apart, sweep.keys)], strategies)
    alt = figure.draw(streams, styles, folder / PNG, folder / SVG)
    picture = Picture(folder / PNG, alt)
    text = page.render(sweep, streams, compared, costs, picture, styles)
    with files.replacing(folder / PAGE) as file:
        file.write(text.encode())


def _apart(key: str) -> str:
    """Rename a key of the dataset, so that it changes no style: streams have their own panels."""
    return "dataset" if key.startswith("dataset.") else key


def _runs(streams: Sequence[Stream], costs: Costs) -> Iterator[list[object]]:
    for stream in streams:
        for rule in stream.rules:
            at = stream.name, rule.name
            for seed, entry in rule.entries.items():
                run = entry.job.run
                what = [run.folder.name, stream.name, rule.name, seed, run.status, run.reason]
                what += [run.steps, stream.loss, entry.error, entry.last_records, entry.alignment]
                what += [entry.observed(name) for name in SHADOW]
                yield [*what, costs.median.get(at), costs.least.get(at)]


def _pairs(
    streams: Sequence[Stream], compared: Mapping[str, Sequence[Comparison]]
) -> Iterator[list[object]]:
    for stream in streams:
        for comparison in compared[stream.name]:
            for pair in comparison.pairs:
                what = [stream.name, comparison.quantity, pair.one.name, pair.other.name]
                yield [
                    *what,
                    pair.seeds,
                    *pair.effect,
                    *(pair.rank_biserial, pair.p, pair.holm, pair.least, pair.is_decided),
                ]


def _table(path: Path, head: Sequence[str], rows: Iterator[Sequence[object]]) -> None:
    with files.replacing(path) as raw, io.TextIOWrapper(raw, "utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(head)
        table.writerows([cell(_shown(value)) for value in row] for row in rows)


def _shown(value: object) -> str:
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
