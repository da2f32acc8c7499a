"""Tagging: name the part of speech of every word as it is read, from a CoNLL-U treebank by path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bptt_lab.core.validation import checked
from bptt_lab.nn.losses import cross_entropy
from bptt_lab.tasks.base import Sequences, Split
from bptt_lab.tasks.conllu import TAGS, Sentence, read_conllu
from bptt_lab.tasks.files import check_size, list_folder, pad, refuse
from bptt_lab.tasks.kinds import Classification

ENDS: Mapping[Split, str] = {
    "train": "train.conllu",
    "val": "dev.conllu",
    "test": "test.conllu",
}
UNKNOWN = 0  # the number of a word that training never or rarely saw


def find_files(path: str) -> dict[Split, Path]:
    """Find a treebank's three files in its folder.

    Raises:
        ConfigError: where there is not one of each.
    """
    files = list_folder(path)
    if files is None:
        refuse(path, "must be the folder of a treebank, but is a file; give its folder")
    found: dict[Split, Path] = {}
    for split, end in ENDS.items():
        fitting = [file for file in files if file.name.endswith(end)]
        if len(fitting) != 1:
            problem = f"must hold one file whose name ends in {end}, but holds {len(fitting)}"
            refuse(path, f"{problem}; give a folder of one treebank")
        found[split] = fitting[0]
    return found


class Tagging(Classification):
    """Name the tag of every word of a sentence, knowing the words up to it.

    A word is a one-hot vector. Words that training saw once, or never, share one: so it learns
    from training's rare words what to make of words it has not seen. Sentences are padded to the
    longest, and the padding does not count.

    Reference: Nivre et al. (2020), "Universal Dependencies v2: an evergrowing multilingual treebank
    collection".

    Args:
        path: a folder that holds one treebank: ...train.conllu, ...dev.conllu and ...test.conllu.
        settings: as SequenceDataModule has them; sentences are the sequences.

    Raises:
        ConfigError: where a file is missing or damaged.
    """

    input_size: int
    output_size = len(TAGS)
    loss = "cross_entropy"

    @checked
    def __init__(self, *, path: str = "", **settings: Any) -> None:
        super().__init__(**settings)
        files = find_files(path)
        self.sentences = {split: read_conllu(file) for split, file in files.items()}
        counts = Counter(word for sentence in self.sentences["train"] for word, _ in sentence)
        words = sorted(word for word, count in counts.items() if count > 1)
        self.numbers = {word: number for number, word in enumerate(words, start=UNKNOWN + 1)}
        self.input_size = len(words) + 1
        for split, file in files.items():
            own = self.sentences[split]
            check_size(file, "it", max(map(len, own)) * len(own))

    def sequences(self, split: Split, epoch: int) -> Sequences:
        """Return the sentences of a split, the same in every epoch."""
        sentences = self.sentences[split]
        input, mask = pad([self._words(sentence) for sentence in sentences])
        target, _ = pad([torch.tensor([TAGS.index(tag) for _, tag in s]) for s in sentences])
        return Sequences(input, target, mask)

    def _words(self, sentence: Sentence) -> Tensor:
        return torch.tensor([self.numbers.get(word, UNKNOWN) for word, _ in sentence])

    def references(self) -> Mapping[str, Mapping[str, float]]:
        """The commonest tag of each word, of those training saw once too, and the commonest of all.

        Frequencies of training, to which those of all words together add one.
        """
        train = [pair for sentence in self.sentences["train"] for pair in sentence]
        test = [pair for sentence in self.sentences["test"] for pair in sentence]
        target = torch.tensor([TAGS.index(tag) for _, tag in test])[None]
        overall = _frequencies(Counter(tag for _, tag in train), torch.ones(len(TAGS)))
        counts: dict[str, Counter[str]] = {}
        for word, tag in train:
            counts.setdefault(word, Counter())[tag] += 1
        chances = {word: _frequencies(tags, overall) for word, tags in counts.items()}
        by_word = torch.stack([chances.get(word, overall) for word, _ in test])
        guesses = {"most_frequent_tag": by_word, "majority": overall.expand_as(by_word)}
        return {name: self._reference(guess[None], target) for name, guess in guesses.items()}

    def _reference(self, chances: Tensor, target: Tensor) -> dict[str, float]:
        values = {"loss": cross_entropy(chances.log(), target), **self.score(chances, target)}
        return {name: value.double().mean().item() for name, value in values.items()}


def _frequencies(tags: Counter[str], prior: Tensor) -> Tensor:
    counts = torch.tensor([tags[tag] for tag in TAGS]) + prior
    return counts / counts.sum()
