"""Find the claims: every module of `bptt_lab.commands.reproduce.claims` is a family.

Each is imported by itself, so that one that cannot be does not keep the others from being tested.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bptt_lab.commands.reproduce import claims
from bptt_lab.commands.reproduce.claim import Claim, Result, Trial
from bptt_lab.core.validation import ConfigError


class Entry(NamedTuple):
    """A claim and the family that it belongs to."""

    family: str
    claim: Claim

    @property
    def name(self) -> str:
        """The claim's full name."""
        return f"{self.family}.{self.claim.name}"


def entries() -> Iterator[Entry]:
    """All claims, family by family; one that always fails for a family that cannot be imported."""
    for module in pkgutil.iter_modules(claims.__path__):
        try:
            found = importlib.import_module(f"{claims.__name__}.{module.name}")
        except ImportError as error:
            yield Entry(module.name, _missing(str(error)))
        else:
            yield from (Entry(module.name, claim) for claim in found.CLAIMS)


def named(names: Sequence[str], *, slow: bool) -> list[Entry]:
    """Choose claims.

    Args:
        names: families, claims by their full name; all for none. A claim named in full is there
            even if it is slow.
        slow: whether slow claims of the families are wanted.

    Raises:
        ConfigError: for a name that is neither.
    """
    known = list(entries())
    for name in names:
        if not any(name in (entry.family, entry.name) for entry in known):
            families = ", ".join(dict.fromkeys(entry.family for entry in known))
            raise ConfigError(f"{name}: must be a claim, as --list shows them, or among {families}")
    return [
        entry
        for entry in known
        if entry.name in names
        or ((not names or entry.family in names) and (slow or not entry.claim.slow))
    ]


def _missing(why: str) -> Claim:
    def check(trial: Trial) -> Result:
        return Result(False, f"cannot be imported: {why}")

    return Claim("missing", "", "", check, tested_on=())
