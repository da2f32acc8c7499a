"""What a file asks of a trained network, as its task reads it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Inputs(NamedTuple):
    """Named sequences, each in the terms that the task's codec encodes.

    An answer is about the step after which it is given, or about one that comes `ahead` steps
    later.
    """

    sequences: Sequence[tuple[str, Any]]
    ahead: int = 0
    names: tuple[str, ...] = ()  # of the numbers that are read at a step, if they have some
    values: tuple[str, ...] = ()  # of those that are answered


Settings = Mapping[str, Any]  # of the task, by a run's manifest


def numbered(sequences: Sequence[Any], name: str = "") -> list[tuple[str, Any]]:
    """Name sequences by their place, as 0 or, with a name, as name[0]."""
    return [(f"{name}[{n}]" if name else str(n), one) for n, one in enumerate(sequences)]
