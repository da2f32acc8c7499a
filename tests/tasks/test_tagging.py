from collections import Counter

import pytest
import torch

from bptt_lab.tasks import files
from bptt_lab.tasks.tagging import TAGS, Tagging, read_conllu
from tasks.damage import DATA, refused
from tasks.predictors import logits, measure
from tasks.samples import conllu, write_tagging

REAL = DATA / "ud_atis"
PARTS = {"train": "train", "val": "dev", "test": "test"}


@pytest.fixture
def small(tmp_path):
    write_tagging(tmp_path)
    found = {part: read_conllu(tmp_path / f"en_small-ud-{part}.conllu") for part in PARTS.values()}
    return Tagging(path=str(tmp_path)), found


def test_reads_words_and_tags_and_nothing_else(tmp_path):
    file = tmp_path / "some.conllu"
    word = "{}\t{}\t_\t{}\t_\t_\t0\troot\t_\t_\r\n".format
    file.write_bytes(
        ("# text = zum #\r\n" + word("1-2", "zum", "_") + word(1, "zu", "ADP")
         + word(2, "dem", "DET") + word("2.1", "nichts", "_") + "\r\n\r\n" + word(1, "#", "SYM")
         + "\r\n").encode()
    )  # fmt: skip
    assert read_conllu(file) == [[("zu", "ADP"), ("dem", "DET")], [("#", "SYM")]]


def test_every_word_is_tagged_once(small):
    task, found = small
    for split, part in PARTS.items():
        input, target, mask = task.sequences(split, 0)
        assert mask.shape[1] == len(found[part])
        for m, sentence in enumerate(found[part]):
            own = mask[:, m]
            assert own.sum() == len(sentence)
            assert [TAGS[number] for number in target[own, m]] == [tag for _, tag in sentence]
            expected = [task.numbers.get(word, 0) for word, _ in sentence]
            assert input[own, m].tolist() == expected


def test_rare_and_unseen_words_are_one(small):
    task, found = small
    counts = Counter(word for sentence in found["train"] for word, _ in sentence)
    assert counts["only_train"] == 1
    assert set(task.numbers) == {word for word, count in counts.items() if count > 1}
    assert sorted(task.numbers.values()) == list(range(1, task.input_size))
    encoded = task.encode(task.sequences("val", 0).input)
    assert torch.equal(encoded.argmax(-1), task.sequences("val", 0).input)
    assert (encoded.sum(-1) == 1).all()


def test_references_are_what_counting_reaches(small):
    task, found = small
    train = [pair for sentence in found["train"] for pair in sentence]
    tags, pairs, words = Counter(t for _, t in train), Counter(train), Counter(w for w, _ in train)
    overall = [(tags[tag] + 1) / (len(train) + len(TAGS)) for tag in TAGS]
    shape = task.sequences("test", 0).mask.shape
    by_word = torch.zeros(*shape, len(TAGS))
    for m, sentence in enumerate(found["test"]):
        for step, (word, _) in enumerate(sentence):
            by_word[step, m] = torch.tensor([
                (pairs[word, tag] + overall[place]) / (words[word] + 1)
                for place, tag in enumerate(TAGS)
            ])  # fmt: skip
    guesses = {"most_frequent_tag": by_word, "majority": torch.tensor(overall).expand_as(by_word)}
    references = task.references()
    assert list(references) == list(guesses)
    for name, guess in guesses.items():
        assert measure(task, logits(guess)) == pytest.approx(references[name], rel=1e-5)


FINE = conllu([[("I", "PRON"), ("see", "VERB")], [("flights", "NOUN")]])
LINE = "2\tsee\t_\tVERB\t_\t_\t0\troot\t_\t_"
DAMAGED = {
    "truncated in a line": (FINE[: FINE.index(LINE) + 9], "line 3 must have 10 columns between"),
    "truncated after a line": (FINE[: FINE.index(LINE) + len(LINE) + 1], "ends within a sentence"),
    "empty": ("", "the file is empty"),
    "only comments": ("# nothing\n\n", "must hold some sentences"),
    "wrong encoding": (FINE.replace("see", "säh").encode("latin-1"), "must be a text in UTF-8"),
    "wide encoding": (FINE.encode("utf-16"), "must be a text in UTF-8, but byte 0 is"),
    "compressed": (b"\x1f\x8b\x08" + bytes(40), "must be a text in UTF-8, but byte 1 is 0x8b"),
    "spaces for tabs": (
        FINE.replace("\t", " "),
        "line 2 must have 10 columns between tabs, but has",
    ),
    "a column too many": (FINE.replace(LINE, LINE + "\t_"), "line 3 must have 10 columns"),
    "two columns": (
        "I\tPRON\nsee\tVERB\n\n",
        "line 1 must have 10 columns between tabs, but has 2",
    ),
    "no numbers": (FINE.replace("2\tsee", "x\tsee"), "line 3 must be word 2 of its sentence"),
    "a word missing": (FINE.replace("2\tsee", "3\tsee"), "line 3 must be word 2 of its sentence"),
    "no word": (FINE.replace("see", ""), "line 3 must have a word in column 2"),
    "no tag": (FINE.replace("VERB", "_"), "line 3 must have a universal tag in column 4, as NOUN"),
    "another tag set": (FINE.replace("VERB", "VBP"), "but has 'VBP'"),
    "escape codes": (FINE.replace("VERB", "\x1b[2J" * 20), r"but has '\x1b[2J"),
    "endless line": ("x" * 10**7, "line 1 must have 10 columns between tabs, but has 1"),
}


@pytest.mark.parametrize("part", ["train", "dev"])
@pytest.mark.parametrize("name", DAMAGED)
def test_refuses_damaged_files(tmp_path, part, name):
    write_tagging(tmp_path)
    content, complaint = DAMAGED[name]
    file = tmp_path / f"en_small-ud-{part}.conllu"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(lambda: Tagging(path=str(tmp_path)), file, complaint)


def test_refuses_what_is_not_there(tmp_path):
    refused(lambda: Tagging(path=str(tmp_path / "no")), tmp_path / "no", "there is none")
    refused(lambda: Tagging(), "''", "must name a folder")
    write_tagging(tmp_path)
    file = tmp_path / "en_small-ud-test.conllu"
    (tmp_path / "de_small-ud-test.conllu").write_text(FINE)
    refused(lambda: Tagging(path=str(tmp_path)), tmp_path, "ends in test.conllu, but holds 2")
    for extra in tmp_path.glob("*test*"):
        extra.unlink()
    refused(lambda: Tagging(path=str(tmp_path)), tmp_path, "ends in test.conllu, but holds 0")
    file.mkdir()
    refused(lambda: Tagging(path=str(tmp_path)), file, "it is a folder")


def test_largest_split(small, tmp_path, monkeypatch):
    lengths = [len(sentence) for sentence in small[1]["train"]]
    monkeypatch.setattr(files, "MOST", max(lengths) * len(lengths))
    Tagging(path=str(tmp_path), batch_size=1)
    refused(lambda: Tagging(path=str(tmp_path)), tmp_path, "a smaller dataset.batch_size")
    monkeypatch.setattr(files, "MOST", max(lengths) * len(lengths) - 1)
    file = tmp_path / "en_small-ud-train.conllu"
    refused(lambda: Tagging(path=str(tmp_path), batch_size=1), file, "GiB of memory")


real = pytest.mark.skipif(not REAL.exists(), reason="no treebank here; BPTT_LAB_DATA says where")


@real
def test_the_atis_treebank():
    task = Tagging(path=str(REAL))
    masks = [task.sequences(split, 0).mask for split in PARTS]
    assert [mask.shape[1] for mask in masks] == [4274, 572, 586]
    assert len({tag for s in task.sentences["train"] for _, tag in s}) == 13
    assert task.references()["most_frequent_tag"]["accuracy"] == pytest.approx(0.960, abs=0.001)


@real
def test_damaged_versions_of_the_treebank(tmp_path):
    for file in REAL.glob("*.conllu"):
        (tmp_path / file.name).symlink_to(file)
    file = tmp_path / "en_atis-ud-dev.conllu"
    whole = file.read_text()
    file.unlink()
    changes = (
        ("\n\n", "\n"), ("PRON", "PRN"), ("\t", " "), ("\n3\t", "\n4\t"), ("\n2\t", "\n\t"),
        ("\n2\twould", "\n2\t"), ("\n2\t", "\n\n2\t"), ("\n2\t", "\t"), ("\tAUX", ""),
    )  # fmt: skip
    changed = [whole.replace(*change, 1) for change in changes]
    for damaged in (whole[: len(whole) // 2], whole[:-1], whole[40:], "\n" * 99, *changed):
        assert damaged != whole
        file.write_text(damaged)
        refused(lambda: Tagging(path=str(tmp_path)), file, "must")
