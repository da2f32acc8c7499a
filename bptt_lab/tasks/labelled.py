"""Sequences with their targets as plain arrays: what each array means, and whether all fit.

M sequences of up to T steps of I numbers; O numbers or one class as a target.

    inputs   (M, T, I) numbers, or (M, T) where I is 1
    targets  a class or O numbers of each sequence, (M) or (M, O), due after its last step;
             or of each step, (M, T) or (M, T, O). Integers, booleans and text are classes, floats
             are numbers. Where O is T, (M, T) is a target of each step.
    mask     (M, T) booleans: the steps whose targets count; or, where a sequence has one target,
             the steps that there are
    lengths  (M) steps of each sequence
    split    (M) of "train", "val" and "test", or of 0, 1 and 2
    classes  (K) names of the classes 0 to K - 1

The last four may be left out. What comes after the last step that counts may be anything.
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from bptt_lab.tasks.base import SPLITS
from bptt_lab.tasks.codec import Name
from bptt_lab.tasks.files import quote

Refuse = Callable[[str], NoReturn]
Found = NDArray[Any]
REQUIRED = ("inputs", "targets")
MOST_CLASSES = 2**14  # the network's output has one number for each
FITTING = {  # by name, which kinds of types fit, and their words
    "inputs": ("biuf", "numbers"),
    "targets": ("biufUS", "numbers or text"),
    "mask": ("biuf", "true and false"),
    "lengths": ("iu", "integers"),
    "split": ("iuUS", "integers or text"),
    "classes": ("iuUS", "integers or text"),
}
NAMES = tuple(FITTING)
# By the kind of a type that does not fit, the way out.
OTHERWISE = {
    "O": "give numbers or text of one type",
    "c": "give real and imaginary parts as two features",
    "M": "give times as numbers, such as seconds since the first",
    "m": "give durations as numbers, such as seconds",
    "U": "number them, or give one-hot vectors",
    "S": "number them, or give one-hot vectors",
    "V": "give each column as a feature, in one array of numbers",
    "f": "convert them by .astype(int)",
}


class Labelled(NamedTuple):
    """Sequences and targets that fit each other; zeros where nothing counts."""

    inputs: Found  # (M, T, I) numbers
    targets: Found  # classes (M) or (M, T), or float64 (M, O) or (M, T, O)
    mask: Found  # (M, T): the steps after which a target is due
    steps: Found  # (M) steps up to the last one that counts
    split: Found | None  # (M) of 0, 1 and 2
    classes: tuple[Name, ...]  # names in order; none where targets are numbers
    at_end: bool  # whether a sequence has one target


def check(arrays: Mapping[str, Found], refuse: Refuse, per_step: bool | None = None) -> Labelled:
    """Return what arrays of these names mean.

    Args:
        arrays: by name; see the module.
        refuse: raises an error with the sentence that it is given.
        per_step: whether each step has its target; None is by the shapes.
    """
    _check_names(arrays, refuse)
    for name, array in arrays.items():
        kinds, words = FITTING[name]
        if array.dtype.kind not in kinds:
            way_out = OTHERWISE.get(array.dtype.kind, "convert them")
            refuse(f"{name} must hold {words}, but holds {array.dtype}; {way_out}")
    inputs = _inputs(arrays["inputs"], refuse)
    size = inputs.shape[:2]
    at_end = _is_at_end(arrays["targets"].shape, size, per_step, refuse)
    there = _there(arrays, size, refuse)
    steps = np.where(there.any(1), size[1] - there[:, ::-1].argmax(1), 0)
    mask = there
    if at_end:
        gaps = np.flatnonzero((there.sum(1) != steps) | (steps == 0))
        if len(gaps):
            problem = f"mask[{gaps[0]}] must be true up to the last step of the sequence"
            refuse(f"{problem}, which has one target; give lengths in its place")
        mask = np.arange(size[1]) == steps[:, None] - 1
    if not mask.any():
        refuse("mask must be true somewhere, but nothing counts; correct it")
    inputs = _finite("inputs", inputs, np.arange(size[1]) < steps[:, None], refuse)
    due = np.ones(len(inputs), bool) if at_end else mask
    targets, classes = _targets(arrays, due, refuse)
    split = _split(arrays["split"], len(inputs), refuse) if "split" in arrays else None
    return Labelled(inputs, targets, mask, steps, split, classes, at_end)


def _check_names(arrays: Mapping[str, Found], refuse: Refuse) -> None:
    there = ", ".join(quote(name) for name in list(arrays)[:8]) or "nothing"
    if missing := [name for name in REQUIRED if name not in arrays]:
        problem = f"must hold arrays named inputs and targets, but holds {there}"
        refuse(f"{problem}; name the {missing[0]} so, as numpy.savez(FILE, {missing[0]}=...)")
    for name in arrays:
        if name not in NAMES:
            close = difflib.get_close_matches(name, NAMES, n=1)
            way_out = f"did you mean {close[0]}?" if close else f"leave it out of {there}"
            refuse(f"holds {quote(name)}, and takes {', '.join(NAMES)}; {way_out}")


def _inputs(inputs: Found, refuse: Refuse) -> Found:
    if inputs.ndim not in (2, 3):
        problem = "inputs must be (sequences, steps, features), or (sequences, steps), but are"
        refuse(f"{problem} {inputs.shape}; reshape them, one series by inputs[None, :, None]")
    inputs = inputs[..., None] if inputs.ndim == 2 else inputs
    if not inputs.size:
        what = ("sequence", "step", "feature")[inputs.shape.index(0)]
        refuse(f"inputs hold no {what}, being {inputs.shape}; give at least one")
    return inputs


def _is_at_end(
    shape: tuple[int, ...], size: tuple[int, int], per_step: bool | None, refuse: Refuse
) -> bool:
    """Whether targets of a shape are one for each sequence."""
    count, length = size
    if not shape or len(shape) > 3 or shape[0] != count:
        if shape[:1] == (length,) or shape[:2] == (length, count):
            way_out = "put sequences first, as by inputs.swapaxes(0, 1)"
        else:
            way_out = "give (M), (M, O), (M, T) or (M, T, O) of M sequences of T steps"
        refuse(f"targets are {shape}, and inputs {count} sequences of {length} steps; {way_out}")
    of_steps = shape[1:2] == (length,)
    if len(shape) == 3 and not of_steps:
        problem = f"targets have {shape[1]} steps, and inputs {length}"
        refuse(f"{problem}; give a target for each step, and a mask of those that count")
    if per_step and not of_steps:
        refuse(f"per_step=true needs targets of {length} steps, but they are {shape}; give false")
    if per_step is False and len(shape) == 3:
        refuse(f"per_step=false needs targets (M) or (M, O), but they are {shape}; give true")
    return not of_steps or per_step is False


def _there(arrays: Mapping[str, Found], size: tuple[int, int], refuse: Refuse) -> Found:
    """The steps (M, T) that are there, of lengths and mask."""
    there = np.ones(size, bool)
    if "lengths" in arrays:
        lengths = arrays["lengths"]
        if lengths.shape != size[:1]:
            refuse(f"lengths must be {size[:1]}, one a sequence, but are {lengths.shape}; reshape")
        if len(wrong := np.flatnonzero((lengths < 1) | (lengths > size[1]))):
            problem = f"lengths[{wrong[0]}] must be 1 to {size[1]}, but is {lengths[wrong[0]]}"
            refuse(f"{problem}; correct it, or leave the sequence out")
        there &= np.arange(size[1]) < lengths[:, None]
    if "mask" in arrays:
        mask = arrays["mask"]
        if mask.shape != size:
            refuse(f"mask must be {size}, as sequences and steps, but is {mask.shape}; reshape it")
        if not ((mask == 0) | (mask == 1)).all():
            refuse("mask must hold true and false, or 1 and 0, but holds others; give mask != 0")
        there &= mask.astype(bool)
    return there


def _finite(name: str, values: Found, counts: Found, refuse: Refuse) -> Found:
    """Return numbers with zeros where they do not count; refuse NaN where they do."""
    if values.dtype.kind == "f":
        wrong = ~np.isfinite(values) & counts[..., None]
        if wrong.any():
            place = np.unravel_index(int(wrong.argmax()), wrong.shape)
            where = ", ".join(map(str, place))
            problem = f"{name}[{where}] must be a finite number, but is {values[place]}"
            others = "end before it by lengths" if name == "inputs" else "mask the step"
            refuse(f"{problem}; fill it in, leave the sequence out, or {others}")
    return values if counts.all() else np.where(counts[..., None], values, 0)


def _targets(
    arrays: Mapping[str, Found], due: Found, refuse: Refuse
) -> tuple[Found, tuple[Name, ...]]:
    """Return classes by number with their names, or numbers (..., O); zeros where not due."""
    targets, names = arrays["targets"], arrays.get("classes")
    wide = targets.ndim > due.ndim
    if targets.dtype.kind == "f":
        if names is not None:
            refuse("classes name integers, but targets are floats; convert them by .astype(int)")
        numbers = targets if wide else targets[..., None]
        if not numbers.shape[-1]:
            refuse(f"targets hold no number, being {targets.shape}; give at least one")
        return _finite("targets", numbers.astype(np.float64), due, refuse), ()
    if wide and targets.shape[-1] != 1:
        problem = f"targets are {targets.shape} {targets.dtype}, and there is one class at a time"
        refuse(f"{problem}; give classes {due.shape}, or numbers by .astype(float)")
    found = targets[..., 0] if wide else targets
    if found.dtype.kind == "S":
        found = _decoded("targets", found, refuse)
    counted = found[due]
    if names is None:
        known = np.unique(counted)
    else:
        known = _decoded("classes", names, refuse) if names.dtype.kind == "S" else names
        if known.ndim != 1 or len(np.unique(known)) != len(known):
            refuse("classes must be different names in one row; correct them")
    if not 2 <= len(known) <= MOST_CLASSES:
        problem = f"targets must be of 2 to {MOST_CLASSES} classes, but are of {len(known)}"
        refuse(f"{problem}; give numbers as floats, by .astype(float)")
    by_number = names is not None and found.dtype.kind in "biu"
    values = np.arange(len(known)) if by_number else known
    if (values.dtype.kind == "U") != (found.dtype.kind == "U"):
        refuse(f"classes are {known.dtype}, and targets {found.dtype}; give both as text")
    order = np.argsort(values)
    places = order[np.searchsorted(values[order], found).clip(max=len(values) - 1)]
    if len(unknown := counted[values[places[due]] != counted]):
        what = quote(str(unknown[0]))
        refuse(f"targets hold {what}, and there are {len(known)} classes; name it in classes")
    return np.where(due, places, 0), tuple(known.tolist())


def _decoded(name: str, texts: Found, refuse: Refuse) -> Found:
    try:
        return np.char.decode(texts, "utf-8")
    except UnicodeDecodeError as error:
        refuse(f"{name} must be text in UTF-8, but are not ({error}); give them as str")


def _split(split: Found, count: int, refuse: Refuse) -> Found:
    names: Found = np.array(SPLITS)
    given = _decoded("split", split, refuse) if split.dtype.kind == "S" else split
    values = names if given.dtype.kind == "U" else np.arange(len(SPLITS))
    if given.shape != (count,) or not np.isin(given, values).all():
        problem = f"split must say of each of {count} sequences one of {', '.join(SPLITS)}"
        refuse(f"{problem}, or 0, 1 and 2; correct it")
    found: Found = (given[:, None] == values).argmax(1)
    return found
