"""Find the claims: every module of `bptt_lab.commands.reproduce.claims` is a topic."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bptt_lab.commands.reproduce import claims
from bptt_lab.commands.reproduce.claim import Claim, Result
from bptt_lab.core.validation import ConfigError


def entries() -> Iterator[Claim]:
    """All claims by their full names, and one that fails for a topic that cannot be imported."""
    for topic in _topics():
        try:
            found = importlib.import_module(f"{claims.__name__}.{topic}").CLAIMS
        except ImportError as error:
            found = [_missing(str(error))]
        yield from (replace(each, name=f"{topic}.{each.name}") for each in found)


def named(names: Sequence[str], *, slow: bool) -> list[Claim]:
    """Choose claims.

    Args:
        names: topics, claims by their full name; all for none. A claim named in full is there
            even if it is slow.
        slow: whether slow claims of the topics are wanted.

    Raises:
        ConfigError: for a name that is neither.
    """
    known = list(entries())  # with torch
    _refuse_others(names, [*_topics(), *(claim.name for claim in known)])
    return [
        claim
        for claim in known
        if claim.name in names
        or ((not names or topic_of(claim.name) in names) and (slow or not claim.slow))
    ]


def topic_of(name: str) -> str:
    """The topic in a claim's full name."""
    return name.partition(".")[0]


def refuse_unknown(names: Sequence[str]) -> None:
    """Raise a ConfigError for a name of no topic; without importing any."""
    _refuse_others(names, [name for name in names if topic_of(name) in _topics()])


def _refuse_others(names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            topics = ", ".join(_topics())
            raise ConfigError(f"{name}: must be a claim, as --list shows them, or among {topics}")


def _topics() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(claims.__path__)]


def _missing(why: str) -> Claim:
    result = Result(False, f"cannot be imported: {why}")
    return Claim("missing", "regression", "", "", lambda trial: result, tested_on=())
