"""Sequences out of a pandas DataFrame in long form: a row for each step of each sequence.

Columns are found by their names: `sequence` says which sequence a row is of, without it there is
one; `time` puts its rows in order, without it they are; `target` is what is asked for, one column
or several; `split` is train, val or test. All others are features. Other names are given by a
mapping, such as {"sequence": "patient", "time": "day", "features": ["a", "b"], "target": "ill"}.

A target that is the same in all rows of each sequence is one target for the sequence. Where a
target is missing, the step does not count. Classes by number of which some are missing need the
type Int64, as floats are numbers.
"""

import sys
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from bptt_lab.tasks.files import MOST, quote
from bptt_lab.tasks.labelled import Found, Refuse

ROLES = ("sequence", "time", "features", "target", "split")


def is_frame(data: Any) -> bool:
    """Whether this is a DataFrame or a Series of pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame | pandas.Series)


def from_long(frame: Any, columns: Mapping[str, Any], refuse: Refuse) -> dict[str, Found]:
    """Return inputs and targets of a frame, with `lengths`, `mask` and `split` where it has them.

    Args:
        frame: a pandas.DataFrame.
        columns: a column by its role, one of ROLES; of features and target there may be a list.
        refuse: raises an error with the sentence that it is given.
    """
    import pandas as pd

    roles = _roles(frame, columns, refuse)
    keys = [roles[role] for role in ("sequence", "time") if role in roles]
    for key in [*keys, *([roles["split"]] if "split" in roles else [])]:
        if frame[key].isna().any():
            refuse(f"column {quote(str(key))} has rows without a value; fill or drop them")
    if "time" in roles and (twice := frame.duplicated(keys).to_numpy()).any():
        row = frame.iloc[int(twice.argmax())]
        where = ", ".join(f"{key}={row[key]}" for key in keys)
        refuse(f"two rows have {where}; drop one, as by drop_duplicates")
    if "time" in roles and (kind := frame[roles["time"]].dtype).kind not in "biufmM":
        problem = f"time must hold numbers or dates, but holds {kind}"
        refuse(f"{problem}; convert it, as by pandas.to_datetime")
    try:
        frame = frame.sort_values(keys, kind="stable") if keys else frame
    except TypeError as error:
        refuse(f"columns {', '.join(map(str, keys))} cannot be sorted ({error}); convert them")
    ids = frame[roles["sequence"]] if "sequence" in roles else pd.Series(0, index=frame.index)
    number, _ = pd.factorize(ids)
    lengths = np.bincount(number)
    step = np.arange(len(frame)) - np.repeat(lengths.cumsum() - lengths, lengths)
    shape = (len(lengths), int(lengths.max(initial=0)))
    if np.prod([*shape, len(roles["features"])], dtype=float) > MOST:
        refuse(f"{shape[0]} sequences of up to {shape[1]} steps are too many; cut the longest")

    def spread(values: Found) -> Found:
        found = np.zeros((*shape, *values.shape[1:]), values.dtype)
        found[number, step] = values
        return found

    features = [_numbers(frame, name, refuse) for name in roles["features"]]
    arrays = {"inputs": spread(np.stack(features, 1)), "lengths": lengths}
    targets, missing = _targets(frame, roles["target"], refuse)
    ends = lengths.cumsum() - 1
    alike = not missing.any() and (targets == targets[ends][number]).all()
    alike = alike and targets.shape[1:] != shape[1:]  # or it would pass for one target a step
    arrays["targets"] = targets[ends] if alike else spread(targets)
    if missing.any():
        arrays["mask"] = spread(~missing)
    if "split" in roles:
        split = frame[roles["split"]].to_numpy()
        if (split != split[ends][number]).any():
            refuse("column 'split' must be the same in all rows of a sequence; correct it")
        arrays["split"] = split[ends]
    return arrays


def _roles(frame: Any, columns: Mapping[str, Any], refuse: Refuse) -> dict[str, Any]:
    if frame.ndim != 2 or not len(frame):
        refuse("must be a DataFrame with rows, but is a Series or empty; give another")
    if not frame.columns.is_unique or frame.columns.nlevels > 1:
        refuse("columns of the frame must have different names in one level; rename them")
    if unknown := set(columns) - set(ROLES):
        refuse(f"columns have the roles {', '.join(ROLES)}, not {unknown.pop()}; correct it")
    named = {role: role for role in ROLES if role in frame.columns and role != "features"}
    roles: dict[str, Any] = {**named, **columns}
    there = ", ".join(quote(str(name)) for name in list(frame.columns)[:10])
    if "target" not in roles:
        refuse(f'must have a column target, or one named by (frame, {{"target": ...}}), and has '
               f"{there}; rename it")  # fmt: skip
    roles["target"] = _listed(roles["target"])
    used = [*roles["target"], *(roles[role] for role in named.keys() | columns.keys()
                                if role in ("sequence", "time", "split"))]  # fmt: skip
    others = [name for name in frame.columns if name not in used]
    roles["features"] = _listed(roles.get("features", others))
    for name in (*used, *roles["features"]):
        if not isinstance(name, Hashable) or name not in frame.columns:
            refuse(f"there is no column {quote(str(name))} among {there}; name another")
    if not roles["features"] or not roles["target"]:
        refuse(f"must have a feature and a target among its columns {there}; add one")
    return roles


def _listed(names: Any) -> list[Any]:
    return list(names) if isinstance(names, list | tuple) else [names]


def _numbers(frame: Any, name: Any, refuse: Refuse) -> Found:
    kind = frame[name].dtype.kind
    if kind not in "biuf":
        problem = f"feature {quote(str(name))} must hold numbers, but holds {frame[name].dtype}"
        refuse(f"{problem}; convert it, or name the features by (frame, {{'features': [...]}})")
    found: Found = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
    return found


def _targets(frame: Any, names: list[Any], refuse: Refuse) -> tuple[Found, Found]:
    """Targets (rows), or (rows, O) of several columns, and where they are missing."""
    missing = frame[names].isna().to_numpy().any(1)
    if len(names) > 1:
        found = np.stack([_numbers(frame, name, refuse) for name in names], 1)
        return np.where(missing[:, None], 0, found), missing
    column = frame[names[0]][~missing]
    if hasattr(column.dtype, "categories"):
        column = column.astype(column.dtype.categories.dtype)
    if (kind := column.dtype.kind) in "biuf":
        values = column.to_numpy(dtype={"b": bool, "u": np.uint64, "f": np.float64}.get(kind, int))
    elif kind == "O" and all(isinstance(value, str) for value in column):
        values = column.to_numpy(dtype=object).astype(str)
    else:
        problem = f"target {quote(str(names[0]))} must hold numbers or text, but holds"
        refuse(f"{problem} {column.dtype}; convert it")
    found = np.zeros(len(frame), values.dtype)
    found[~missing] = values
    return found, missing
