"""CoNLL-U, the format of Universal Dependencies: a word a line in ten columns, sentences apart."""

import io
import sys
from pathlib import Path

from bptt_lab.tasks.files import quote, read_text, refuse

# The universal parts of speech.
TAGS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
NUM_COLUMNS = 10
FORM, TAG = 1, 3

Sentence = list[tuple[str, str]]


def read_conllu(file: Path) -> list[Sentence]:
    """Read sentences of words and their tags; comments, ranges and empty nodes are left out.

    Raises:
        ConfigError: naming the line that is not as it should be.
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
        if columns[TAG] not in TAGS:
            problem = f"line {number} must have a universal tag in column 4, as NOUN, but has"
            refuse(file, f"{problem} {quote(columns[TAG])}; correct it")
        sentence.append((columns[FORM], sys.intern(columns[TAG])))
    if sentence:
        problem = "must end in an empty line, but ends within a sentence, as if cut short"
        refuse(file, f"{problem}, at line {number}; get the file again")
    if not sentences:
        refuse(file, "must hold some sentences, but holds none; give another file")
    return sentences
