"""Columns of a parquet file, where pyarrow is installed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bptt_lab.core.validation import missing
from bptt_lab.tasks.columns import Column, place_of
from bptt_lab.tasks.files import check_file, check_size, quote, refuse

MAGIC = b"PAR1"


def is_parquet(path: str) -> bool:
    """Whether a file begins as parquet does."""
    file = Path(path).expanduser()
    check_file(file)
    with file.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def read_parquet(path: str, columns: Sequence[Column]) -> list[Tensor]:
    """Read columns of numbers in float64.

    Args:
        path: a file.
        columns: each by name, or by number from 1; None is the only one.

    Raises:
        ConfigError: where pyarrow is not installed, the file is damaged, or a column holds no
            numbers or lacks some.
    """
    if problem := missing("pyarrow", "bptt_lab[parquet]"):
        refuse(path, problem)
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(Path(path).expanduser()) as file:
            schema = file.schema_arrow
            places = [place_of(path, column, schema.names) for column in columns]
            for place in places:
                _check_type(path, schema.field(place))
            check_size(path, "it", file.metadata.num_rows * len(columns), "give fewer rows")
            wanted = [schema.names[place] for place in places]
            table = file.read(columns=wanted, use_threads=False)
            return [_numbers(path, name, table.column(name)) for name in wanted]
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        text = str(error).splitlines()[0][:200]
        refuse(path, f"must be a whole parquet file, but is not ({quote(text)}); write it again")


def _check_type(path: str, field: Any) -> None:
    from pyarrow import types

    if not (types.is_integer(field.type) or types.is_floating(field.type)):
        problem = f"column {quote(field.name)} must hold numbers, but holds {field.type}"
        refuse(path, f"{problem}; choose another dataset.column")


def _numbers(path: str, name: str, values: Any) -> Tensor:
    found = torch.tensor(values.cast("float64").to_numpy())  # NaN where there is none
    if not found.isfinite().all():
        row = int(found.isfinite().logical_not().nonzero()[0]) + 1
        problem = f"row {row} must have a finite number in column {quote(name)}"
        refuse(path, f"{problem}, but has none; fill it in or drop the row")
    return found
