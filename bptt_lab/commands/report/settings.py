"""What a setting of a sweep is: whatever differs between its jobs' resolved configs, but seeds.

A job that has no config, since it never began, has what its overrides say.
"""

import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bptt_lab.config import schema
from bptt_lab.runs import Run, resume

SEED = "seed"
Value = bool | int | float | str | None
Facts = Mapping[str, Value]  # by dotted key, and the option of each group
SweptValues = tuple[Value, ...]  # a setting: the values of SweepResults.keys, in their order


def facts(run: Run) -> Facts:
    """Return all that a run's settings are."""
    if run.config:
        return {**dict(_flat("", run.config)), **run.choices}
    return {key: value for line in run.overrides for key, value in _given(line)}


def swept(jobs: Sequence[Run]) -> tuple[list[str], list[Facts]]:
    """Return the keys that tell settings apart, groups first, and the facts of each job.

    A key that the command line gave is one if it has several values. Any other difference is one
    if those before it do not tell it, as an option of a group tells its k.
    """
    known = _known(jobs)
    told = [its for run, its in zip(jobs, known, strict=True) if run.config] or known
    given = {key for run in jobs for line in run.overrides for key, _ in _given(line)}
    left_out = {SEED, *resume.FREE, *schema.CONTROL}
    keys = list(dict.fromkeys(key for its in known for key in its if key not in left_out))
    keys = [key for key in keys if len({its.get(key) for its in told}) > 1 or key in given]
    keys = [key for key in keys if not _follows_the_seed(key, told)]
    found: list[str] = []
    for key in sorted(keys, key=lambda key: (key not in given, *_place(key))):
        several = len({its.get(key) for its in known} - {None}) > 1
        if (key in given and several) or _number(told, [*found, key]) > _number(told, found):
            found.append(key)
    return sorted(found, key=_place), known


def is_group(key: str) -> bool:
    """Whether a key is that of a group, whose values are options."""
    return key in (*schema.PLUGIN_SECTIONS, *schema.SECTIONS, "callbacks", "experiment")


def _known(jobs: Sequence[Run]) -> list[Facts]:
    """Return each job's facts; one that has not begun shares those of another of its setting."""

    def lines(run: Run) -> frozenset[str]:
        return frozenset(line for line in run.overrides if not line.startswith(f"{SEED}="))

    known = [facts(run) for run in jobs]
    whole = {lines(run): its for run, its in zip(jobs, known, strict=True) if run.config}
    return [
        its if run.config else {**whole.get(lines(run), {}), **its}
        for run, its in zip(jobs, known, strict=True)
    ]


def _number(jobs: Sequence[Facts], keys: Sequence[str]) -> int:
    return len({tuple(its.get(key) for key in keys) for its in jobs})


def _follows_the_seed(key: str, jobs: Sequence[Facts]) -> bool:
    """Whether a key is another name of the seed, as a data seed that goes along with it."""
    return key.endswith(".seed") and all(its.get(key) in (None, its.get(SEED)) for its in jobs)


def _place(key: str) -> tuple[bool, bool]:
    return not is_group(key), not key.startswith("gradient")


@functools.lru_cache(maxsize=10_000)
def _given(line: str) -> list[tuple[str, Value]]:
    """Return what an override sets; a section given whole sets its keys."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(line)
        key, value = override.key_or_group, override.value()
    except HydraException:  # of a paper that came from elsewhere
        key, _, value = line.lstrip("+~").partition("=")
    return list(_flat(key, value))


def _flat(key: str, value: Any) -> Iterator[tuple[str, Value]]:
    """Yield the plain values in nested settings by their dotted keys."""
    nested: Any = ()
    if isinstance(value, Mapping):
        nested = value.items()
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        nested = enumerate(value)
    if nested:
        for name, item in nested:
            yield from _flat(f"{key}.{name}" if key else str(name), item)
    elif isinstance(value, Mapping | list):
        yield key, json.dumps(value, separators=(",", ":"))
    elif isinstance(value, float) and math.isnan(value):
        yield key, "nan"  # which is equal to itself
    else:
        yield key, value if isinstance(value, bool | int | float | str | None) else str(value)
