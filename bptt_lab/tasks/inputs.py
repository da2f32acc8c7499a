"""What a file asks of a trained network, as its task reads it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from bptt_lab.tasks import npz
from bptt_lab.tasks.columns import read_columns
from bptt_lab.tasks.files import quote, refuse


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


def read_numbers(path: str) -> Inputs:
    """Read sequences of numbers, or of the numbers of symbols.

    In a .npz file they are `inputs` (M, T, I), or (M, T) where I is 1, with `lengths` (M) if they
    are unequal; or each array is one sequence, (T, I) or (T). In a CSV file they are one sequence,
    whose steps are the rows.
    """
    if not path.endswith(".npz"):
        found = read_columns(path)
        return Inputs(numbered([torch.stack(found, 1) if len(found) > 1 else found[0]]))
    arrays = npz.read(path)
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf" or array.ndim < 1:
            refuse(path, f"{quote(name)} must hold rows of numbers, but holds {array.dtype}")
    inputs = arrays.get("inputs")
    if inputs is None:
        return Inputs(list(arrays.items()))
    if inputs.ndim not in (2, 3):
        problem = f"inputs must be (sequences, steps, numbers), but are {inputs.shape}"
        refuse(path, f"{problem}; reshape them, one sequence by inputs[None]")
    lengths = arrays.get("lengths", np.full(len(inputs), inputs.shape[1]))
    fit = lengths.shape == inputs.shape[:1] and lengths.dtype.kind in "iu"
    if not fit or not ((lengths >= 1) & (lengths <= inputs.shape[1])).all():
        refuse(path, f"lengths must be integers from 1 to {inputs.shape[1]}, one a sequence")
    return Inputs(numbered([one[:n] for one, n in zip(inputs, lengths, strict=True)]))
