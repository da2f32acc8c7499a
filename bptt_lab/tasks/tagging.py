"""Tagging: name the part of speech of every word as it is read, from a treebank by path.

It is in CoNLL-U, the format of Universal Dependencies: a word a line in ten columns, sentences
apart.
"""

import io
import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from bptt_lab.core.validation import ReadablePath, checked
from bptt_lab.tasks.base import Sequences, Split
from bptt_lab.tasks.codec import Codec
from bptt_lab.tasks.files import check_size, list_folder, pad, quote, read_text, refuse, usable
from bptt_lab.tasks.inputs import Inputs, Settings, numbered
from bptt_lab.tasks.kinds import Classification

# The universal parts of speech.
TAGS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
NUM_COLUMNS = 10
FORM, TAG = 1, 3
PARTS: Mapping[Split, str] = {"train": "train", "val": "dev", "test": "test"}
# A treebank's name, the split and, where a split is in several files, which of them.
PIECE = re.compile(r"([-_]([^\W\d_]|\d+))+")  # -a, -2 and -a-1, not -old
FILE = re.compile(r"(?P<name>.*)(?P<part>train|dev|test)(?P<piece>[-_]\w[-\w]*)?\.conllu")
FEWER = "give a smaller dataset.batch_size or dataset.chunk_length"
UNKNOWN = 0  # the number of a word that training never or rarely saw

Sentence = list[tuple[str, str]]  # words and tags


def find_files(path: str) -> dict[Split, list[Path]]:
    """Find a treebank's files by its folder or one of them: of each split one, or its pieces."""
    entries, folder, prefix = list_folder(path), path, None
    if entries is None:
        file = Path(path).expanduser()
        named = FILE.fullmatch(file.name)
        if named is None:
            problem = "must be the folder of a treebank or one of its files, named"
            refuse(path, f"{problem} ...train.conllu, ...dev.conllu or ...test.conllu; rename it")
        folder, prefix = str(file.parent), named["name"]
        entries = list_folder(folder) or []
    matches = {entry: match for entry in entries if (match := FILE.fullmatch(entry.name))}
    found: dict[Split, list[Path]] = {}
    for split, part in PARTS.items():
        own = [entry for entry, match in matches.items() if match["part"] == part]
        fitting = [entry for entry in own if prefix in (None, matches[entry]["name"])]
        whole = [entry for entry in fitting if not matches[entry]["piece"]]
        files = usable(whole) or fitting
        names = {matches[entry]["name"] for entry in files}
        for entry in fitting if whole else ():
            if matches[entry]["name"] in names and PIECE.fullmatch(matches[entry]["piece"] or ""):
                refuse(entry, f"may be a piece of {files[0].name}, or a copy; take one away")
        if len(names) != 1 or (whole and len(files) > 1):
            problem = f"must hold one file whose name ends in {part}.conllu, but holds {len(files)}"
            refuse(folder, f"{problem}; give a folder of one treebank, or one of its files")
        found[split] = files
    return found


def read_conllu(file: Path, *, tagged: bool = True) -> list[Sentence]:
    """Read sentences of words and their tags; comments, ranges and empty nodes are left out.

    Where they need not be `tagged`, any text may stand for a tag.
    """
    number, sentences = 0, list[Sentence]()
    sentence: Sentence = []
    for number, line in enumerate(io.StringIO(read_text(file), newline="\n"), start=1):
        line = line.removesuffix("\n").removesuffix("\r")
        if not line and sentence:
            sentences.append(sentence)
            sentence = []
        if not line or line.startswith("#"):
            continue
        if (width := line.count("\t") + 1) != NUM_COLUMNS:
            problem = f"line {number} must have {NUM_COLUMNS} columns between tabs, but has"
            refuse(file, f"{problem} {width}; correct it, or get the file again")
        columns = line.split("\t")
        if "-" in columns[0] or "." in columns[0]:
            continue
        if columns[0] != str(len(sentence) + 1):
            problem = f"line {number} must be word {len(sentence) + 1} of its sentence, but is"
            refuse(file, f"{problem} {quote(columns[0])}; correct it, or get the file again")
        if not columns[FORM]:
            refuse(file, f"line {number} must have a word in column 2, but has none; correct it")
        if tagged and columns[TAG] not in TAGS:
            problem = f"line {number} must have a universal tag in column 4, as NOUN, but has"
            refuse(file, f"{problem} {quote(columns[TAG])}; correct it")
        sentence.append((columns[FORM], sys.intern(columns[TAG])))
    if sentence:
        problem = "must end in an empty line, but ends within a sentence, as if cut short"
        refuse(file, f"{problem}, at line {number}; get the file again")
    if not sentences:
        refuse(file, "must hold some sentences, but holds none; give another file")
    return sentences


class Tagging(Classification):
    """Name the tag of every word of a sentence, knowing the words up to it.

    A word is a one-hot vector. Words that training saw once, or never, share one: so it learns
    from training's rare words what to make of words it has not seen. Sentences about as long
    go together, padded to the longest of them, and the padding does not count.

    Reference: Nivre et al. (2020), "Universal Dependencies v2: an evergrowing multilingual treebank
    collection".

    Args:
        path: a folder that holds one treebank: ...train.conllu, ...dev.conllu and ...test.conllu,
            or ...train-a.conllu, ...train-b.conllu where it is split; or one of these files.
        settings: as SequenceDataModule has them; sentences are the sequences.

    Raises:
        ConfigError: where a file is missing or damaged.
    """

    unequal = True
    output_size = len(TAGS)
    loss = "cross_entropy"

    @checked
    def __init__(self, *, path: Annotated[str, ReadablePath()] = "", **settings: Any) -> None:
        super().__init__(**settings)
        files = find_files(path)
        self.sentences = {
            split: [sentence for file in pieces for sentence in read_conllu(file)]
            for split, pieces in files.items()
        }
        counts = Counter(word for sentence in self.sentences["train"] for word, _ in sentence)
        words = sorted(word for word, count in counts.items() if count > 1)
        self.numbers = {word: number for number, word in enumerate(words, start=UNKNOWN + 1)}
        self.input_size = len(words) + 1
        for split, pieces in files.items():
            own = self.sentences[split]
            longest = max(map(len, own))
            check_size(pieces[0], f"{split} with its padding", longest * len(own))
            numbers = min(longest, self.chunk_length or longest) * self.batch_size
            check_size(path, "a batch of its longest sentences", numbers * self.input_size, FEWER)

    def sequences(self, split: Split, epoch: int) -> Sequences:
        """Return the sentences of a split, the same in every epoch."""
        sentences = self.sentences[split]
        input, mask = pad([self._words(sentence) for sentence in sentences])
        target, _ = pad([torch.tensor([TAGS.index(tag) for _, tag in s]) for s in sentences])
        return Sequences(input, target, mask)

    def _words(self, sentence: Sentence) -> Tensor:
        return torch.tensor([self.numbers.get(word, UNKNOWN) for word, _ in sentence])

    def codec(self) -> Codec:
        """Return a codec of words and tags; the first symbol is any other word."""
        symbols = ("", *self.numbers)
        known = self.input_size, self.output_size, self.loss
        return Codec(*known, symbols, has_unknown=True, classes=TAGS)

    @classmethod
    def read_inputs(cls, path: str, settings: Settings) -> Inputs:
        """Read the words of a CoNLL-U file, or of one with a sentence a line."""
        if path.endswith(".conllu"):
            found = read_conllu(Path(path), tagged=False)
            return Inputs(numbered([[word for word, _ in sentence] for sentence in found]))
        lines = (line.split() for line in read_text(path).splitlines())
        return Inputs(numbered([words for words in lines if words]))

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
        logs = {name: guess.double().log()[None] for name, guess in guesses.items()}
        return {name: self.measured(log, target) for name, log in logs.items()}


def _frequencies(tags: Counter[str], prior: Tensor) -> Tensor:
    counts = torch.tensor([tags[tag] for tag in TAGS]) + prior
    return counts / counts.sum()
