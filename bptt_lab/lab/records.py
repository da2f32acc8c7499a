"""Tables for Python: pandas' DataFrames where pandas is installed, lists of dicts elsewhere."""

from collections.abc import Iterable, Mapping
from typing import Any

Records = list[dict[str, Any]]


def table(records: Iterable[Mapping[str, Any]], index: str | None = None) -> Any:
    """Return a DataFrame, by the column `index`; or the records, where there is no pandas."""
    rows = [dict(record) for record in records]
    try:
        import pandas
    except ImportError:
        return rows
    frame = pandas.DataFrame(rows)
    return frame.set_index(index) if index is not None and len(frame) else frame


def by_step(lines: Iterable[Mapping[str, Any]]) -> Records:
    """Put the scalars of each step into one record; of two of a tag the later one counts."""
    steps: dict[int, dict[str, Any]] = {}
    for line in lines:
        steps.setdefault(line["step"], {}).update(line)
    return [steps[step] for step in sorted(steps)]
