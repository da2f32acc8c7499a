"""The forms in which a user has sequences, and has the answers to them back.

One sequence, an array of sequences (M, T, ...), or a list of sequences, which may differ in length.
What one sequence is, the codec says: symbols, or numbers at each step.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bptt_lab.core.validation import ConfigError
from bptt_lab.tasks.codec import Codec

Back = Callable[[list[NDArray[Any]]], Any]  # from each sequence's answers (T, ...) to the user's


def read(inputs: Any, codec: Codec) -> tuple[list[Tensor], Back]:
    """Encode what was given, each sequence (T, I), and return the way back too.

    Raises:
        ConfigError: for what has none of the forms, naming the sequence.
    """
    if not _is_several(inputs, codec):
        return [codec.encode(inputs)], lambda answers: _shaped(answers[0], inputs, codec)
    if not len(inputs):
        raise ConfigError("inputs of 0 sequences: must hold one or more; leave the call out")
    encoded = []
    for number, one in enumerate(inputs):
        try:
            encoded.append(codec.encode(one))
        except ConfigError as error:
            raise ConfigError(f"inputs[{number}]: {error}") from error

    def back(answers: list[NDArray[Any]]) -> Any:
        shaped = [_shaped(a, one, codec) for a, one in zip(answers, inputs, strict=True)]
        alike = codec.at_end or not isinstance(inputs, list | tuple)
        return np.stack(shaped) if alike else shaped

    return encoded, back


def _is_several(inputs: Any, codec: Codec) -> bool:
    """Whether it holds sequences rather than steps."""
    if codec.symbols:
        texts = codec.is_text and isinstance(inputs, list | tuple) and len(inputs)
        return bool(texts and isinstance(inputs[0], str)) or _dimensions(inputs) > 1
    if codec.input_size == 1 and _dimensions(inputs) == 2:
        if not isinstance(inputs, list | tuple):
            return len(inputs.T) != 1
        return any(_dimensions(one) != 1 or len(one) != 1 for one in inputs)
    return _dimensions(inputs) > 2


def _dimensions(value: Any) -> int:
    if isinstance(value, list | tuple):
        return 1 + (_dimensions(value[0]) if value else 0)
    return int(getattr(value, "ndim", 0))


def _shaped(answers: NDArray[Any], given: Any, codec: Codec) -> Any:
    """The answers of one sequence as it was given: a text for a text, one for all its steps."""
    if codec.at_end:
        last = answers[-1]
        return last if last.ndim else last.item()
    named = answers.dtype.kind == "U"
    return "".join(answers) if named and isinstance(given, str) and codec.is_text else answers
