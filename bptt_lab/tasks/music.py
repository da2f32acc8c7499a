"""Polyphonic music: name the notes of the next moment, any of a piano's 88 at once.

A file is JSON, as the JSB chorales are shared: {"train": [...], "valid": [...], "test": [...]},
each a list of pieces, a piece a list of moments, a moment a list of MIDI note numbers, 67 or 67.0.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor

from bptt_lab.core.validation import Ge, ReadableFile, checked
from bptt_lab.tasks.base import SequenceDataModule, Sequences, Split, best_first
from bptt_lab.tasks.codec import Codec
from bptt_lab.tasks.files import check_size, pad, quote, read_text, refuse
from bptt_lab.tasks.inputs import Inputs, Settings, numbered

LOWEST, HIGHEST = 21, 108  # MIDI numbers of a piano's keys
NUM_NOTES = HIGHEST - LOWEST + 1
MOST_JSON = 2**25  # bytes; Python makes up to 24 times as many of brackets
KEYS: Mapping[Split, str] = {"train": "train", "val": "valid", "test": "test"}


def read_rolls(path: str) -> dict[Split, Sequences]:
    """Read the pieces of every split as `Sequences` that predict the next moment from this one."""
    data = _read_json(path)
    if not isinstance(data, dict) or not set(KEYS.values()) <= data.keys():
        there = ", ".join(map(quote, list(data)[:5])) if isinstance(data, dict) else "no keys"
        refuse(path, f"must have the keys train, valid and test, but has {there}; name them so")
    return {split: _sequences(path, key, data[key]) for split, key in KEYS.items()}


def _read_json(path: str) -> Any:
    text = read_text(path, MOST_JSON)
    try:
        return json.loads(text)
    except (RecursionError, ValueError) as error:  # nested too deep; no JSON, or endless digits
        refuse(path, f"must be JSON of lists of numbers, but is not ({error}); get another file")


def _rolls(path: str, key: str, pieces: Any, fewest: int) -> list[Tensor]:
    if not isinstance(pieces, list) or not pieces:
        refuse(path, f"{key} must be a list of pieces; give another file")
    for number, piece in enumerate(pieces):
        if not isinstance(piece, list) or len(piece) < fewest:
            least = "two moments or more" if fewest == 2 else "one moment or more"
            refuse(path, f"{key}[{number}] must be a list of {least}; leave it out")
        for moment, notes in enumerate(piece):
            _check_notes(path, f"{key}[{number}][{moment}]", notes)
    check_size(path, key, NUM_NOTES * len(pieces) * max(map(len, pieces)))
    return [to_roll(piece) for piece in pieces]


def _sequences(path: str, key: str, pieces: Any) -> Sequences:
    rolls = _rolls(path, key, pieces, fewest=2)
    input, mask = pad([roll[:-1] for roll in rolls])
    return Sequences(input, pad([roll[1:] for roll in rolls])[0], mask)


def _check_notes(path: str, place: str, notes: Any) -> None:
    if not isinstance(notes, list):
        refuse(path, f"{place} must be a list of notes, but is {quote(repr(notes))}; correct it")
    for note in notes:
        whole = type(note) is int or (type(note) is float and note.is_integer())
        if not whole or not LOWEST <= note <= HIGHEST:
            problem = f"{place} must hold MIDI numbers of {LOWEST} to {HIGHEST}, but holds"
            refuse(path, f"{problem} {quote(json.dumps(note))}; correct it")


def to_roll(piece: list[list[float]]) -> Tensor:
    """Turn a piece into a roll (T, 88): 1 where a key is down, 0 elsewhere."""
    roll = torch.zeros(len(piece), NUM_NOTES)
    for step, notes in enumerate(piece):
        roll[step, [int(note) - LOWEST for note in notes]] = 1
    return roll


class Music(SequenceDataModule):
    """Name the notes of the next moment, at every moment of a piece but the last.

    The splits are the file's. The loss is the sum over the 88 notes, in nats a moment; pieces
    about as long go together, padded to the longest of them, and the padding does not count.

    Reference: Boulanger-Lewandowski, Bengio and Vincent (2012), "Modeling temporal dependencies in
    high-dimensional sequences".

    Args:
        path: a JSON file of pieces; see the module.
        batch_size: pieces in a batch, over all processes together.
        settings: as SequenceDataModule has them.

    Raises:
        ConfigError: where the file is missing, damaged or not of this form.
    """

    unequal = True
    input_size = NUM_NOTES
    output_size = NUM_NOTES
    loss = "binary_cross_entropy"

    @checked
    def __init__(
        self,
        *,
        path: Annotated[str, ReadableFile()] = "",
        batch_size: Annotated[int, Ge(1)] = 16,
        **settings: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **settings)
        self.splits = read_rolls(path)

    def sequences(self, split: Split, epoch: int) -> Sequences:
        """Return the pieces of a split, the same in every epoch."""
        return self.splits[split]

    def score(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Of the notes played or named at a moment, the share that is both; 1 in silence."""
        named, played = prediction > 0, target > 0
        either = (named | played).sum(-1)
        both = (named & played).sum(-1)
        return {"accuracy": torch.where(either > 0, both / either.clamp(min=1), 1.0)}

    def codec(self) -> Codec:
        """Return a codec whose classes are MIDI numbers."""
        notes = tuple(range(LOWEST, HIGHEST + 1))
        return Codec(self.input_size, self.output_size, self.loss, classes=notes)

    @classmethod
    def read_inputs(cls, path: str, settings: Settings) -> Inputs:
        """Read the pieces of every key of a JSON file, or of the list that it is."""
        data = _read_json(path)
        parts = data if isinstance(data, dict) else {"pieces": data}
        rolls = {key: _rolls(path, key, pieces, fewest=1) for key, pieces in parts.items()}
        return Inputs([named for key in rolls for named in numbered(rolls[key], key)])

    def references(self) -> Mapping[str, Mapping[str, float]]:
        """Each note as often as in training: always, or after it was down and after it was not."""
        before, after, mask = self.splits["train"]
        down, again = (before[mask] > 0).double(), after[mask].double()
        always = _log_odds(again.sum(0), len(again))
        if_down = _log_odds((again * down).sum(0), down.sum(0))
        if_up = _log_odds((again * (1 - down)).sum(0), (1 - down).sum(0))
        input, target, mask = self.splits["test"]
        guesses = {
            "unigram": always.expand(input.shape),
            "markov": torch.where(input > 0, if_down, if_up),
        }
        target = target.double()
        return best_first({name: self.measured(g, target, mask) for name, g in guesses.items()})


def _log_odds(count: Tensor, total: Tensor | int) -> Tensor:
    return ((count + 1) / (total - count + 1)).log()  # of a chance of (count + 1) / (total + 2)
