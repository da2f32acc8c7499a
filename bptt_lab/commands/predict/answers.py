"""A network's answers to named sequences, as rows of a table."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bptt_lab.core.validation import ConfigError
from bptt_lab.lab.net import ELEMENTS, Net
from bptt_lab.tasks.inputs import Inputs

Named = tuple[str, Any]
Tell = Callable[[int], object]


class Part(NamedTuple):
    """Some steps of a sequence, and what the network gives after each."""

    name: str
    sequence: Any
    begin: int
    output: Tensor  # (T, O)

    @property
    def end(self) -> int:
        """The first step after it."""
        return self.begin + len(self.output)


def parts(net: Net, sequences: Sequence[Named], tell: Tell) -> Iterator[Part]:
    """Yield the outputs of sequences in order, those of a long one in several parts.

    A sequence's outputs have the bits that they have in `net.predict`, whatever stands beside it.

    Args:
        net: the network.
        sequences: what its codec encodes, by name.
        tell: is told how many steps are done.

    Raises:
        ConfigError: for what the codec refuses, naming the sequence.
    """
    width = net.codec.input_size + net.rnn.input_size + net.rnn.hidden_size + net.codec.output_size
    most, done = max(1, ELEMENTS // width), 0
    for group in _groups(sequences, most):
        hx, longest = net.zeros(len(group)), max(len(sequence) for _, sequence in group)
        for begin in range(0, max(longest, 1), most):
            steps = slice(begin, begin + most)
            encoded = [_encoded(net, name, sequence[steps]) for name, sequence in group]
            output, hx = net.advance(pad_sequence(encoded), hx)
            for n, (name, sequence) in enumerate(group):
                yield Part(name, sequence, begin, output[: len(encoded[n]), n])
            done += sum(map(len, encoded))
            tell(done)


def _groups(sequences: Sequence[Named], most: int) -> Iterator[list[Named]]:
    """Sequences that follow each other and run side by side, padded to `most` steps together."""
    group: list[Named] = []
    longest = 0
    for named in sequences:
        longest = max(longest, len(named[1]))
        if group and longest * (len(group) + 1) > most:
            yield group
            group, longest = [], len(named[1])
        group.append(named)
    if group:
        yield group


def _encoded(net: Net, name: str, sequence: Any) -> Tensor:
    try:
        return net.codec.encode(sequence)
    except ConfigError as error:
        raise ConfigError(f"sequence {name}: {error}") from error


def heads(net: Net, inputs: Inputs) -> list[str]:
    """Return the names of the columns of `rows`."""
    codec = net.codec
    found = ["sequence"] if codec.at_end else ["sequence", "step"]
    found += _shown(net, inputs)
    if _names_classes(net):
        return [*found, "answer", "chance"]
    return [*found, *_named("value", codec.output_size, inputs.values)]


def _named(kind: str, size: int, names: Sequence[str]) -> list[str]:
    """The heads of some columns, one or as many as there are numbers."""
    return [kind] if size == 1 else [f"{kind}_{name}" for name in names or range(size)]


def _names_classes(net: Net) -> bool:
    return net.codec.names_classes or net.codec.loss == "binary_cross_entropy"


def _shown(net: Net, inputs: Inputs) -> list[str]:
    """The heads of what a row repeats of the step that it is about."""
    if net.codec.at_end or not (net.codec.symbols or inputs.ahead):
        return []
    return _named("input", 1 if net.codec.symbols else net.codec.input_size, inputs.names)


def rows(net: Net, inputs: Inputs, tell: Tell) -> Iterator[list[str]]:
    """Yield a row for each answer."""
    shown = len(_shown(net, inputs))
    for part in parts(net, inputs.sequences, tell):
        if net.codec.at_end:
            if part.end == len(part.sequence):
                yield [part.name, *_cells(net, part.output[-1:])[0]]
            continue
        for step, cells in enumerate(_cells(net, part.output), part.begin + inputs.ahead):
            yield [part.name, str(step), *_read(part.sequence, step, shown), *cells]


def _read(sequence: Any, step: int, count: int) -> list[str]:
    """What a sequence holds at a step, in so many cells; empty after its end."""
    if not count or step >= len(sequence):
        return [""] * count
    found = sequence[step]
    return [found] if isinstance(found, str) else [str(x) for x in np.ravel(found).tolist()]


def _number(value: float) -> str:
    return f"{value:.9g}"


def _cells(net: Net, output: Tensor) -> list[list[str]]:
    """What stands in each step's row: numbers, or an answer and its chance, or several of both."""
    codec = net.codec
    answers = codec.answers(output)
    if not _names_classes(net):
        return [list(map(_number, row)) for row in answers]
    chances = codec.chances(output)
    if codec.names_classes:
        return [
            [str(answer), f"{chance:.6g}"]
            for answer, chance in zip(answers.tolist(), chances.max(-1), strict=True)
        ]
    names = np.array(codec.classes or range(codec.output_size)).astype(str)
    return [
        [" ".join(names[named]), " ".join(f"{chance:.6g}" for chance in row[named])]
        for named, row in zip(answers, chances, strict=True)
    ]
