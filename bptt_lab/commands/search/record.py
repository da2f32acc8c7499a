"""What sweep.json says of a search, and its best trial. Nothing here needs Optuna."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from bptt_lab import runs
from bptt_lab.commands.search.space import Space
from bptt_lab.config import schema
from bptt_lab.config.compose import composer, swept
from bptt_lab.core.messages import escaped
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import Run, resume

SEARCH = "search"  # in sweep.json: what is searched, by which metric, in which direction
SWEEPER = "bptt_lab.commands.search.sweeper.SearchSweeper"


def is_search(sweep: DictConfig) -> bool:
    """Whether a composed sweep is a search."""
    return bool(sweep.hydra.sweeper._target_ == SWEEPER)


def space(loader: ConfigLoader, sweep: DictConfig) -> Space:
    """Return the space that a composed sweep describes.

    Raises:
        ConfigError: naming the setting, where it makes no sense.
    """
    parser = OverridesParser.create(config_loader=loader)
    return Space(parser.parse_overrides(swept(sweep)), composer(loader, sweep))


def description(space: Space, sweeper: DictConfig) -> dict[str, Any]:
    """Describe for sweep.json what a continued search must share with the first one."""
    settings = {
        key: resume.place(key, text)
        for key, text in space.described().items()
        if key.lstrip("+~") not in schema.CONTROL
    }
    return {"metric": sweeper.metric, "direction": sweeper.direction, "settings": settings}


def refuse_changed(sweep_dir: Path, wanted: Mapping[str, Any]) -> None:
    """Refuse to continue a search with another space, or by another metric, than it began with.

    Raises:
        ConfigError: naming the first setting that differs.
    """
    sweep, began = runs.read_sweep_file(sweep_dir), record(sweep_dir)
    if not began and sweep.get("jobs"):
        way_out = "continue it with bptt-train -m, or start a new search"
        raise ConfigError(f"resume={sweep_dir}: holds a sweep that is no search; {way_out}")
    if not began:
        return  # stopped before it began
    before, now = _flat(began), _flat(wanted)
    for key in [*before, *now]:
        old, new = (search.get(key, "not given") for search in (before, now))
        if old != new:
            problem = f"{key} is {new}, and the search began with {old}"
            way_out = f"give what it began with: {sweep.get('command', '')}"
            raise ConfigError(f"resume={sweep_dir}: {problem}; {way_out}")


def _flat(search: Mapping[str, Any]) -> dict[str, str]:
    own = {f"hydra.sweeper.{key}": search[key] for key in ("metric", "direction")}
    return own | {key: resume.place(key, text) for key, text in search["settings"].items()}


def record(sweep_dir: Path) -> dict[str, Any]:
    """Return the search that sweep.json describes; empty where the sweep is no search."""
    search: dict[str, Any] = runs.read_sweep_file(sweep_dir).get(SEARCH, {})
    return search


def value(run: Run, metric: str) -> float | None:
    """Return a completed run's final metric; None where there is no finite one."""
    reached = run.metrics.get(metric, math.nan) if run.status == "completed" else math.nan
    return reached if math.isfinite(reached) else None


def print_best(sweep_dir: Path) -> None:
    """Print the best trial and the command that runs it again, where the sweep is a search."""
    search = record(sweep_dir)
    if not search:
        return
    metric, trials = search["metric"], runs.read_sweep(sweep_dir)
    reached = {n: v for n, run in enumerate(trials) if (v := value(run, metric)) is not None}
    if not reached:
        print(f"\nno trial reached a {metric}, so there is no best one")
        return
    number = (min if search["direction"] == "minimize" else max)(reached, key=lambda n: reached[n])
    run = trials[number]
    print(f"\nbest trial   {number}, {metric} {reached[number]:.6g} of {len(reached)} completed")
    print(f"settings     {escaped(' '.join(run.overrides))}")
    print(f"run folder   {runs.shown(run.folder)}")
    print(f"again        {escaped(run.manifest.get('command', ''))}")
