"""What a network's numbers mean: from what its user has to its input, and from its output back.

A codec is plain data. It travels in a run's checkpoints, so that a trained network can be used
where its training data are not.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bptt_lab.core.validation import ConfigError, Ge, check
from bptt_lab.nn.losses import LOSSES

Name = str | int


@dataclass(frozen=True)
class Codec:
    """How a task reads a sequence, and what its answers are called.

    Args:
        input_size: numbers that a network reads at a step, I.
        output_size: numbers that it gives at a step, O.
        loss: what it was trained by, one of bptt_lab.nn.losses.LOSSES.
        symbols: what an input is one of, in the order of one-hot vectors; empty for numbers.
        has_unknown: whether the first symbol stands for all that have no name.
        classes: what an answer is one of, or several of; empty for 0, 1, ... and for numbers.
        input_mean: what is taken off each of I numbers; empty for nothing.
        input_std: what they are then divided by; empty for 1.
        output_mean: what is added to each of O numbers at last; empty for nothing.
        output_std: what they are multiplied by before; empty for 1.
        at_end: whether a sequence has one answer, after its last step.
    """

    input_size: int
    output_size: int
    loss: str
    symbols: tuple[Name, ...] = ()
    has_unknown: bool = False
    classes: tuple[Name, ...] = ()
    input_mean: tuple[float, ...] = ()
    input_std: tuple[float, ...] = ()
    output_mean: tuple[float, ...] = ()
    output_std: tuple[float, ...] = ()
    at_end: bool = False

    def plain(self) -> dict[str, Any]:
        """Return it as plain containers, for JSON and checkpoints."""
        found = dataclasses.asdict(self)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in found.items()}

    @classmethod
    def of(cls, plain: object) -> "Codec":
        """Undo `plain`, whoever wrote it.

        Raises:
            ConfigError: for what is no codec.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(plain, Mapping) or not plain.keys() <= names:
            raise ConfigError(f"codec: must hold {', '.join(sorted(names))}")
        found: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()
        }
        sizes = {"I": found.get("input_size"), "O": found.get("output_size")}
        for name, (hint, size) in _HINTS.items():
            value: Any = found.get(name, getattr(cls, name, None))
            check(f"codec.{name}", value, hint, {})
            if size and len(value) not in (0, 1 if hint is _NUMBERS else 0, sizes[size]):
                problem = f"must hold none or {sizes[size]}"
                raise ConfigError(f"codec.{name} of {len(value)} items: {problem}")
        return cls(**found)

    @cached_property
    def is_text(self) -> bool:
        """Whether an input is one of some characters, so that a sequence is a text."""
        return bool(self.symbols) and all(isinstance(s, str) and len(s) == 1 for s in self.symbols)

    @property
    def gives_numbers(self) -> bool:
        """Whether an answer is O numbers."""
        return not self.names_classes and self.loss != "binary_cross_entropy"

    @property
    def names_classes(self) -> bool:
        """Whether an answer is one class of O."""
        return self.loss in ("cross_entropy", "softmax_mse")

    def encode(self, sequence: Any) -> Tensor:
        """Turn a sequence into a network's input (T, I), in float32.

        Args:
            sequence: T symbols, such as a string where symbols are characters, or where they are
                words one with spaces between them; or (T, I) numbers, or (T) where I is 1.

        Raises:
            ConfigError: for a sequence that is empty or of another form, and for other symbols.
        """
        if self.symbols:
            words = isinstance(sequence, str) and not self.is_text
            sequence = sequence.split() if words else sequence
            if not isinstance(sequence, Iterable) or getattr(sequence, "ndim", 1) == 0:
                problem = f"a sequence: must hold symbols, but is {sequence!r:.40}"
                raise ConfigError(f"{problem}; put one by itself in a list")
            numbers = torch.tensor([self._number(symbol) for symbol in sequence])
            _refuse_empty(numbers)
            return functional.one_hot(numbers, self.input_size).float()
        found = _as_numbers(sequence)
        found = found[:, None] if found.ndim == 1 and self.input_size == 1 else found
        if found.ndim != 2 or found.shape[1] != self.input_size:
            problem = f"must be (steps, {self.input_size}) numbers; reshape it"
            raise ConfigError(f"a sequence of shape {found.shape}: {problem}")
        _refuse_empty(found)
        return _single("a sequence", found, *self._of_input)

    def _number(self, symbol: Any) -> int:
        name = _plain(symbol)
        if isinstance(name, str | int):
            if name in self._numbers:
                return self._numbers[name]
            if self.has_unknown and len(str(name).split()) <= 1:
                return 0
        if self.has_unknown:
            raise ConfigError(f"symbol {name!r:.40}: must be one word; split it")
        first = ", ".join(map(repr, self.symbols[:10]))
        more = ", ..." if len(self.symbols) > 10 else ""
        problem = f"must be one of the {len(self.symbols)} symbols of training, {first}{more}"
        raise ConfigError(f"symbol {name!r:.40}: {problem}; leave it out")

    @cached_property
    def _numbers(self) -> dict[Name, int]:
        return {name: n for n, name in enumerate(self.symbols)}

    @cached_property
    def _of_input(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return np.array(self.input_mean or 0.0), np.array(self.input_std or 1.0)

    @cached_property
    def _of_output(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return np.array(self.output_mean or 0.0), np.array(self.output_std or 1.0)

    @cached_property
    def _names(self) -> NDArray[Any]:
        return np.array(self.classes or range(self.output_size))

    def answers(self, output: Tensor) -> NDArray[Any]:
        """Return what outputs (..., O) say.

        Returns:
            (...) classes by name where one of them is right; (..., O) booleans where several may
            be; or (..., O) numbers in the units of the task's targets.
        """
        if self.names_classes:
            best: NDArray[Any] = self._names[output.argmax(-1).cpu().numpy()]
            return best
        if self.loss == "binary_cross_entropy":
            named: NDArray[Any] = (output > 0).cpu().numpy()
            return named
        mean, std = self._of_output
        values: NDArray[Any] = output.detach().double().cpu().numpy()
        scaled: NDArray[Any] = values * std + mean
        return scaled

    def target(self, answer: Any) -> Tensor:
        """Turn the right answer to one step into what the loss compares with.

        Args:
            answer: as `answers` gives it; one number will do where O is 1.

        Returns:
            The number of the class, (), or (O) numbers in float32.

        Raises:
            ConfigError: for another answer.
        """
        if self.names_classes:
            name = _plain(answer)
            if not isinstance(name, str | int) or name not in self._classes:
                some = ", ".join(map(repr, list(self._classes)[:10]))
                problem = f"must be one of the {self.output_size} classes, {some}"
                raise ConfigError(f"y={name!r:.40}: {problem}{', ...' * (self.output_size > 10)}")
            return torch.tensor(self._classes[name])
        found = np.atleast_1d(_as_numbers(answer))
        if found.shape != (self.output_size,):
            problem = f"must be {self.output_size} numbers; reshape it"
            raise ConfigError(f"y of shape {found.shape}: {problem}")
        return _single("y", found, *self._of_output)

    @cached_property
    def _classes(self) -> dict[Name, int]:
        return {name: n for n, name in enumerate(self.classes or range(self.output_size))}

    def chances(self, output: Tensor) -> NDArray[Any]:
        """Return the probability (..., O) of every class.

        Raises:
            ConfigError: where answers are numbers, which have none.
        """
        if self.gives_numbers:
            problem = "answers are numbers, without chances; use predict"
            raise ConfigError(f"loss={self.loss}: {problem}")
        odds = output.detach().double().cpu()
        # In operations whose bits do not depend on a number's place.
        if self.names_classes:
            found = (odds - odds.amax(-1, keepdim=True)).exp()
            found /= found.cumsum(-1)[..., -1:]
        else:
            found = 1 / (1 + (-odds).exp())
        chances: NDArray[Any] = found.numpy()
        return chances


_NAMES, _NUMBERS = list[str | int], list[float]
# The type of each field, and the size that its length is, if it is a list.
_HINTS: Mapping[str, tuple[Any, str]] = {
    "input_size": (Annotated[int, Ge(1)], ""),
    "output_size": (Annotated[int, Ge(1)], ""),
    "loss": (Literal[tuple(LOSSES)], ""),
    "symbols": (_NAMES, "I"),
    "has_unknown": (bool, ""),
    "classes": (_NAMES, "O"),
    "input_mean": (_NUMBERS, "I"),
    "input_std": (_NUMBERS, "I"),
    "output_mean": (_NUMBERS, "O"),
    "output_std": (_NUMBERS, "O"),
    "at_end": (bool, ""),
}


def _plain(value: Any) -> Any:
    """Return a number of numpy's or torch's as Python's own; anything else as it is."""
    return value.item() if getattr(value, "ndim", 1) == 0 else value


def _as_numbers(sequence: Any) -> NDArray[Any]:
    """Return real numbers in float64."""
    try:
        if isinstance(sequence, Tensor):
            sequence = sequence.detach().cpu()
            sequence = sequence.float() if sequence.dtype == torch.bfloat16 else sequence
            sequence = sequence.numpy()
        if np.ma.is_masked(sequence):
            raise ValueError("some are masked")
        array = np.asarray(sequence)
        if array.dtype.kind not in "biuf":
            raise ValueError(f"it holds {array.dtype}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError("it holds NaN or an infinite value")
    except (ValueError, TypeError, RuntimeError) as error:  # the last two of odd tensors
        problem = "must hold real numbers, none infinite or NaN, all rows alike"
        why = str(error).splitlines()[0]
        raise ConfigError(f"a sequence: {problem} ({why}); correct it") from error
    return array.astype(np.float64, order="C")


def _single(name: str, found: NDArray[Any], mean: NDArray[Any], std: NDArray[Any]) -> Tensor:
    """Normalise, in float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        normalised = ((found - mean) / std).astype(np.float32)
    if not np.isfinite(normalised).all():
        raise ConfigError(f"{name}: must fit single precision once normalised; scale it")
    return torch.from_numpy(normalised)


def _refuse_empty(sequence: Sized) -> None:
    if not len(sequence):
        raise ConfigError("a sequence of 0 steps: must have one or more; leave it out")
