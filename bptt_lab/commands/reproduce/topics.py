"""Find the claims: every module of `bptt_lab.commands.reproduce.claims` is a topic.

Each is imported by itself, so that one that cannot be does not keep the others from being tested.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bptt_lab.commands.reproduce import claims
from bptt_lab.commands.reproduce.claim import Claim, Result
from bptt_lab.core.validation import ConfigError


class Entry(NamedTuple):
    """A claim and the topic that it belongs to."""

    topic: str
    claim: Claim

    @property
    def name(self) -> str:
        """The claim's full name."""
        return f"{self.topic}.{self.claim.name}"


def entries() -> Iterator[Entry]:
    """All claims, topic by topic; one that always fails for a topic that cannot be imported."""
    for module in pkgutil.iter_modules(claims.__path__):
        try:
            found = importlib.import_module(f"{claims.__name__}.{module.name}")
        except ImportError as error:
            yield Entry(module.name, _missing(str(error)))
        else:
            yield from (Entry(module.name, each) for each in found.CLAIMS)


def named(names: Sequence[str], *, slow: bool) -> list[Entry]:
    """Choose claims.

    Args:
        names: topics, claims by their full name; all for none. A claim named in full is there
            even if it is slow.
        slow: whether slow claims of the topics are wanted.

    Raises:
        ConfigError: for a name that is neither.
    """
    topics = refuse_unknown(names)
    known = list(entries())  # with torch
    full = [entry.name for entry in known]
    _refuse([name for name in names if name not in (*topics, *full)], topics)
    return [
        entry
        for entry in known
        if entry.name in names
        or ((not names or entry.topic in names) and (slow or not entry.claim.slow))
    ]


def refuse_unknown(names: Sequence[str]) -> list[str]:
    """Return the topics, or raise a ConfigError for a name of none; without importing any."""
    topics = [module.name for module in pkgutil.iter_modules(claims.__path__)]
    _refuse([name for name in names if name.partition(".")[0] not in topics], topics)
    return topics


def _refuse(unknown: Sequence[str], topics: Sequence[str]) -> None:
    if unknown:
        among = ", ".join(topics)
        raise ConfigError(f"{unknown[0]}: must be a claim, as --list shows them, or among {among}")


def _missing(why: str) -> Claim:
    result = Result(False, f"cannot be imported: {why}")
    return Claim("missing", "regression", "", "", lambda trial: result, tested_on=())
