"""A sweep: its runs, their settings and results in one table, and pictures of that."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bptt_lab import runs
from bptt_lab.config import schema
from bptt_lab.core.validation import ConfigError
from bptt_lab.lab import figures, records
from bptt_lab.lab.run import Run
from bptt_lab.runs.resume import flat
from bptt_lab.runs.sweep import differing, higher_is_better, settings_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Sweep:
    """A sweep by its folder, read again at each look: it may be at work.

    It stands for its folder too, as in `lab.sweep(resume=sweep)`.

    Args:
        folder: where it writes.
        allow: packages beside this one whose classes its runs may name.
    """

    def __init__(self, folder: str | Path, allow: str | Iterable[str] = ()) -> None:
        self.folder = Path(folder).absolute()
        self.allow = schema.allowed(allow)

    @property
    def runs(self) -> list[Run]:
        """Its runs, in their order, begun or not."""
        return [Run(record.folder, self.allow) for record in runs.read_sweep(self.folder)]

    @property
    def report(self) -> Path:
        """Its page, report.html."""
        return self.folder / "report.html"

    @property
    def settings(self) -> list[str]:
        """The keys in which its runs differ."""
        return differing([settings_of(run.overrides) for run in runs.read_sweep(self.folder)])

    def rows(self) -> records.Records:
        """Return one record a run: settings in which runs differ, results, seconds, status."""
        return [{**dict.fromkeys(self.settings), **row} for row in self._rows()]

    def _rows(self) -> records.Records:
        """Return `rows`, each with the settings alone that its run has."""
        found, keys = runs.read_sweep(self.folder), self.settings
        rows = []
        for run in found:
            known: Mapping[str, Any] = {**dict(flat(run.config)), **run.choices}
            there = {**settings_of(run.overrides), **known}
            said = {key: there[key] for key in keys if key in there}
            ended = {"seconds": run.seconds, "status": run.status, "folder": str(run.folder)}
            rows.append({**said, **run.metrics, **ended})
        return rows

    def table(self) -> Any:
        """Return `rows` as a pandas DataFrame; without pandas as a list of dicts."""
        return records.table(self.rows())

    def best(self, metric: str = "val/loss") -> Run:
        """Return the completed run that is best by a final metric.

        Args:
            metric: its tag; more is better of an accuracy, a score and the like, less of others.

        Raises:
            ConfigError: where no completed run has a finite one.
        """
        found = [run for run in self.runs if run.status == "completed"]
        results = {run: run.results.get(metric, math.nan) for run in found}
        scored = {run: result for run, result in results.items() if math.isfinite(result)}
        if not scored:
            known = sorted({tag for run in found for tag in run.results})
            there = f"choose from {', '.join(known)}" if known else "none has completed"
            raise ConfigError(f"metric={metric}: no completed run has it; {there}")
        ordered = sorted(scored, key=lambda run: scored[run], reverse=higher_is_better(metric))
        return ordered[0]

    def plot(self, x: str, y: str = "test/loss", by: str | None = None) -> "Figure":
        """Draw a result against a setting: a dot for each run, a line through the means.

        Args:
            x: a setting in which runs differ, as "gradient.k".
            y: a result, as "test/accuracy".
            by: a setting whose values get a line each; None for all others but the seed.

        Raises:
            ConfigError: for a setting or a result that no run has.
        """
        rows = self._rows()
        for key, name in ((x, "x"), (y, "y"), (by, "by")):
            if key is not None and not any(key in row for row in rows):
                known = ", ".join(key for key in dict.fromkeys(k for row in rows for k in row))
                raise ConfigError(f"{name}={key}: no run has it; choose from {known}")
        if not all(isinstance(row.get(y), int | float | None) for row in rows):
            raise ConfigError(f"y={y}: must be a result, as test/loss; give it as x or by")
        others = [by] if by else [key for key in self.settings if _tells(rows, x, key)]
        return figures.against(self.folder.name, rows, x, y, others)

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        states = [run.status for run in runs.read_sweep(self.folder)]
        done = states.count("completed")
        return f"Sweep({runs.shown(self.folder)}: {done} of {len(states)} runs completed)"


def _tells(rows: records.Records, x: str, key: str) -> bool:
    """Whether a setting, other than the seed, tells runs apart that are alike in x."""
    pairs = {(str(row.get(x)), str(row.get(key))) for row in rows}
    return key not in (x, "seed") and len(pairs) > len({first for first, _ in pairs})
