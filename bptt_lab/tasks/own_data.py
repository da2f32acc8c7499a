"""From what a Python user holds to the arrays of a .npz file that `dataset=arrays` reads."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch

from bptt_lab.core.validation import ConfigError
from bptt_lab.tasks.files import MOST, quote
from bptt_lab.tasks.frames import from_long, is_frame
from bptt_lab.tasks.labelled import NAMES, Found, check

ITEMS = int | float | complex | str | bytes | bool | np.generic  # entries of an array

DEEPEST = 3  # lists in lists


def to_arrays(data: Any, per_step: bool | None = None) -> dict[str, Found]:
    """Return plain arrays, by the names that bptt_lab.tasks.labelled says, for `npz.save`.

        >>> import numpy as np
        >>> arrays = to_arrays(([np.zeros((5, 2)), np.ones((3, 2))], ["calm", "storm"]))
        >>> arrays["inputs"].shape, arrays["lengths"].tolist(), arrays["targets"].tolist()
        ((2, 5, 2), [5, 3], ['calm', 'storm'])

    Args:
        data: (inputs, targets), (inputs, targets, mask), or a mapping of these and `lengths`,
            `split` and `classes` by name. Each is an array, a tensor or a list of them, of which
            those of sequences may be unequal. Or a pandas DataFrame in long form, alone or as
            (frame, columns); see bptt_lab.tasks.frames.
        per_step: whether each step has its target; None is by the shapes.

    Raises:
        ConfigError: where something is missing, does not fit the rest, or is no number.
    """
    if is_frame(data):
        parts = from_long(data, {}, _refuse)
    elif isinstance(data, tuple) and len(data) == 2 and is_frame(data[0]) and _is_dict(data[1]):
        parts = from_long(data[0], data[1], _refuse)
    elif _is_dict(data):
        parts = dict(data)
    elif type(data) is tuple and len(data) in (2, 3):
        parts = dict(zip(NAMES, data, strict=False))
    else:
        size = f" of {len(data)}" if isinstance(data, tuple | list) else ""
        problem = f"must be (inputs, targets) or a DataFrame, but is a {type(data).__name__}{size}"
        _refuse(f"{problem}; put both in a tuple")
    found = {str(name): _gathered(str(name), part) for name, part in parts.items()
             if part is not None}  # fmt: skip
    for name, part in parts.items():  # a list has no padding
        if isinstance(part, list | tuple) and _is_of_steps(found[name], found.get("inputs")):
            found[name] = Ragged([*found[name]])
    arrays = _padded(found)
    check(arrays, _refuse, per_step)
    return arrays


def described(arrays: Mapping[str, Found]) -> str:
    """Say in a line how arrays are read.

        >>> described(to_arrays((np.zeros((4, 5, 2)), [0, 1, 0, 1])))
        '4 sequences of 5 steps, 2 numbers a step; one of 2 classes for each sequence'

    Raises:
        ConfigError: as `to_arrays` does.
    """
    found = check(arrays, _refuse)
    (count, _, inputs), steps = found.inputs.shape, found.steps
    shortest, longest = int(steps.min()), int(steps.max())
    length = f"{longest}" if shortest == longest else f"{shortest} to {longest}"
    outputs = found.targets.shape[-1]
    answer = f"one of {len(found.classes)} classes" if found.classes else _numbers(outputs)
    each = "sequence" if found.at_end else "step"
    sequences = f"{count} sequence{'s' * (count > 1)} of {length} steps"
    return f"{sequences}, {_numbers(inputs)} a step; {answer} for each {each}"


def _numbers(count: int) -> str:
    return "1 number" if count == 1 else f"{count} numbers"


def _refuse(problem: str) -> NoReturn:
    raise ConfigError(" ".join(f"data: {problem}".split()))


def _is_dict(data: Any) -> bool:
    return isinstance(data, Mapping)


@dataclasses.dataclass
class Ragged:
    """Arrays of unequal length, one for each sequence."""

    items: list[Found]

    @property
    def lengths(self) -> list[int]:
        """Steps of each."""
        return [len(item) for item in self.items]

    def padded(self, name: str, steps: int) -> Found:
        """Put them side by side, zeros or empty text after each."""
        inner = self.items[0].shape[1:]
        dtype = np.result_type(*{item.dtype for item in self.items})
        if len(self.items) * steps * np.prod(inner, dtype=float) > MOST:
            shape = (len(self.items), steps, *inner)
            _refuse(f"{name} would be {shape} with padding, more than {MOST} numbers; cut them")
        result = np.zeros((len(self.items), steps, *inner), dtype)
        for row, item in zip(result, self.items, strict=True):
            row[: len(item)] = item
        return result


def _is_of_steps(part: Found | Ragged, inputs: Found | Ragged | None) -> bool:
    """Whether a part has as many steps in each sequence as the longest of unequal inputs."""
    if not isinstance(inputs, Ragged) or isinstance(part, Ragged) or part.ndim < 2:
        return False
    return bool(part.shape[1] == max(inputs.lengths))


def _gathered(name: str, part: Any) -> Found | Ragged:
    """Return a part as an array, or as several where their lengths differ."""
    if isinstance(part, torch.Tensor):
        return _plain(name, _of_tensor(name, part))
    if isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part):
        _refuse(f"{name} is a masked array; fill it, and give a mask of the steps that count")
    if isinstance(part, set | Mapping):
        _refuse(f"{name} must be an array or a list, but is a {type(part).__name__}; convert it")
    if not isinstance(part, list | tuple):
        array = np.asarray(part)
        if array.dtype.kind != "O" or array.ndim != 1:
            return _plain(name, array)
        part = array.tolist()
    if not len(part):
        _refuse(f"{name} hold nothing; give at least one")
    if all(isinstance(item, ITEMS) for item in part):
        return _plain(name, _of_items(name, part))
    if name.count("[") == DEEPEST:
        _refuse(f"{name} is nested deeper than sequences, steps and features; flatten it")
    items = [_gathered(f"{name}[{number}]", item) for number, item in enumerate(part)]
    whole = [item for item in items if isinstance(item, np.ndarray)]
    if len(whole) < len(items):
        _refuse(f"{name} must be lists of equal rows within a sequence; correct them")
    _refuse_mixed(name, whole)
    if len({item.shape for item in whole}) == 1:
        return np.stack(whole)
    inner = whole[0].shape[1:]
    for number, item in enumerate(whole):
        if item.ndim == 0 or item.shape[1:] != inner or not len(item):
            wanted = ("steps", *inner)
            problem = f"{name}[{number}] must be ({', '.join(map(str, wanted))}), with one step or"
            _refuse(f"{problem} more, as {name}[0] is, but is {item.shape}; correct it")
    return Ragged(whole)


def _of_tensor(name: str, tensor: torch.Tensor) -> Found:
    try:
        tensor = tensor.detach().cpu()
        found: Found = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        problem = f"{name} must be a dense tensor, but {str(error).splitlines()[0]}"
        _refuse(f"{problem[:200]}; convert it by .to_dense()")
    return found


def _of_items(name: str, items: Sequence[Any]) -> Found:
    """One row of numbers or of text."""
    texts = [isinstance(item, str | bytes) for item in items]
    if any(texts) and not all(texts):
        number = texts.index(not texts[0])
        _refuse(f"{name}[{number}] is {quote(repr(items[number]))} among others; give one kind")
    found = np.asarray(items)
    if found.dtype.kind in "fO" and all(isinstance(item, int | np.integer) for item in items):
        _refuse(f"{name} hold integers too large for an array; number them")
    return found


def _refuse_mixed(name: str, items: Sequence[Found]) -> None:
    """Refuse items of which no one array can be made."""
    texts = [item.dtype.kind in "US" for item in items]
    mixed = texts.index(not texts[0]) if len(set(texts)) > 1 else None
    try:
        np.result_type(*{item.dtype for item in items})
    except TypeError:
        mixed = next(n for n, item in enumerate(items) if item.dtype != items[0].dtype)
    if mixed is not None:
        _refuse(f"{name}[{mixed}] is of another kind than those before; give text or numbers")


def _plain(name: str, array: Found) -> Found:
    """Return an array in this machine's byte order, in rows, of a type that every file has."""
    if array.dtype.kind == "O":
        kinds = {type(item).__name__ for item in array.flat}
        if kinds <= {"str"}:
            return array.astype(str)
        listed = ", ".join(sorted(kinds)[:4])
        _refuse(f"{name} must hold numbers or text of one type, but holds {listed}; convert them")
    if array.dtype.kind == "T":
        array = array.astype(str)
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        array = array.astype(np.float32 if array.dtype.itemsize == 2 else np.float64)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(array.shape)


def _padded(parts: Mapping[str, Found | Ragged]) -> dict[str, Found]:
    """Put sequences of unequal length side by side, with their lengths."""
    inputs = parts.get("inputs")
    arrays = {name: part for name, part in parts.items() if isinstance(part, np.ndarray)}
    if isinstance(inputs, Ragged):
        if "lengths" in parts:
            _refuse("lengths are those of the inputs, which are unequal; leave them out")
        arrays["inputs"] = inputs.padded("inputs", max(inputs.lengths))
        arrays["lengths"] = np.array(inputs.lengths)
    for name, part in parts.items():
        if name != "inputs" and isinstance(part, Ragged):
            if not isinstance(inputs, Ragged):
                _refuse(f"{name} are of unequal length, and inputs are not; give as many")
            if len(part.items) != len(inputs.items):
                problem = f"{name} are of {len(part.items)} sequences, and inputs of"
                _refuse(f"{problem} {len(inputs.items)}; give as many")
            for number, (own, wanted) in enumerate(zip(part.lengths, inputs.lengths, strict=True)):
                if own != wanted:
                    problem = f"{name}[{number}] has {own} steps, and inputs[{number}] has {wanted}"
                    _refuse(f"{problem}; give one for each step, or one for each sequence")
            arrays[name] = part.padded(name, max(inputs.lengths))
    return arrays
