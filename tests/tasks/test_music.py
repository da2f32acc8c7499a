import json
import math
from itertools import pairwise

import pytest
import torch

from bptt_lab.tasks import files
from bptt_lab.tasks.music import Music, to_roll
from tasks.damage import DATA, refused
from tasks.predictors import measure
from tasks.samples import write_music

REAL = DATA / "jsb" / "jsb-chorales-quarter.json"
KEYS = {"train": "train", "val": "valid", "test": "test"}


@pytest.fixture
def small(tmp_path):
    file = write_music(tmp_path)
    return Music(path=str(file)), json.loads(file.read_text())


def test_rolls_say_which_keys_are_down():
    roll = to_roll([[21, 108], [], [60, 60]])
    assert roll.shape == (3, 88)
    assert roll.nonzero().tolist() == [[0, 0], [0, 87], [2, 39]]


def test_every_moment_but_the_first_is_named_once(small):
    task, data = small
    for split, key in KEYS.items():
        input, target, mask = task.sequences(split, 0)
        for m, piece in enumerate(data[key]):
            notes = [[int(n) + 21 for n in row.nonzero()] for row in target[mask[:, m], m]]
            read = [[int(n) + 21 for n in row.nonzero()] for row in input[mask[:, m], m]]
            assert (read, notes) == (piece[:-1], piece[1:])
        assert mask.sum() == sum(len(piece) - 1 for piece in data[key])
        assert not input[~mask].any()


def test_references_are_what_counting_reaches(small):
    task, data = small
    moments = [(before, after) for piece in data["train"]
               for before, after in pairwise(piece)]  # fmt: skip
    input, target, _ = task.sequences("test", 0)

    def odds(pitch: int, fits) -> float:
        fitting = [after for before, after in moments if fits(before)]
        count = sum(pitch in after for after in fitting)
        return math.log((count + 1) / (len(fitting) - count + 1))

    pitches = range(21, 109)
    unigram = torch.tensor([odds(p, lambda before: True) for p in pitches])
    down = torch.tensor([odds(p, lambda before, p=p: p in before) for p in pitches])
    up = torch.tensor([odds(p, lambda before, p=p: p not in before) for p in pitches])
    guesses = {"unigram": unigram.expand_as(target), "markov": torch.where(input > 0, down, up)}
    references = task.references()
    assert list(references) == list(guesses)
    for name, guess in guesses.items():
        assert measure(task, guess) == pytest.approx(references[name], rel=1e-5)


def test_accuracy_is_the_share_of_notes_played_and_named(small):
    played, named = to_roll([[60, 64, 67], [60], [], []]), to_roll([[60, 64, 72], [], [50], []])
    score = small[0].score(named[:, None] - 0.5, played[:, None])
    assert score["accuracy"].flatten().tolist() == [2 / 4, 0, 0, 1]


PIECE = [[60, 64], [62], []]
FINE = {"train": [PIECE], "valid": [PIECE], "test": [PIECE]}


def having(train: object) -> str:
    return json.dumps(FINE | {"train": train})


DAMAGED = {
    "truncated": (json.dumps(FINE)[:-9], ": line 1 column "),
    "no JSON": ("train,valid\n", "is not (Expecting value: line 1 column 1"),
    "empty": ("", "the file is empty"),
    "wrong encoding": (json.dumps(FINE).encode("utf-16"), "must be a text in UTF-8, but byte 0 is"),
    "pickle": (b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.", "must be a text in UTF-8, but byte 0 is"),
    "a list": ("[1, 2]", "keys train, valid and test, but has no keys"),
    "no valid": (json.dumps({"train": [PIECE], "test": [PIECE]}), "but has 'train', 'test'"),
    "no pieces": (having([]), "train must be a list of pieces"),
    "pieces in a dict": (having({"1": PIECE}), "train must be a list of pieces"),
    "piece is a number": (having([PIECE, 3]), "train[1] must be a list of two moments"),
    "piece too short": (having([PIECE, [[60]]]), "train[1] must be a list of two moments"),
    "moment is a number": (
        having([[[60], 60]]),
        "train[0][1] must be a list of notes, but is '60'",
    ),
    "moment is null": (
        having([[[60], None]]),
        "train[0][1] must be a list of notes, but is 'None'",
    ),
    "note is a text": (having([[[60], ["60"]]]), "train[0][1] must hold MIDI numbers of 21 to 108"),
    "note is a half": (having([[[60], [60.5]]]), "but holds '60.5'"),
    "note is NaN": (having([[[60], [math.nan]]]), "but holds 'NaN'"),
    "note is true": (having([[[60], [True]]]), "but holds 'true'"),
    "note is a list": (having([[[60], [[60]]]]), "but holds '[60]'"),
    "too low": (having([[[60], [20]]]), "but holds '20'"),
    "too high": (having([[[109], [60]]]), "train[0][0] must hold MIDI numbers of 21 to 108"),
    "huge": (having([[[60], [10**4000]]]), "but holds '1000"),
    "endless digits": ('{"train": [' + "9" * 10**6 + "]}", "is not (Exceeds the limit"),
    "too deep": ("[" * 10**6, "is not (maximum recursion depth"),
    "one long among many": (having([[[]] * 2] * 3000 + [[[]] * 2000]), "GiB of memory, of which 1"),
    "escape codes": (having([[[60], ["\x1b[2J\n"]]]), r"\\u001b[2J\\n"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_refuses_damaged_files(tmp_path, name):
    content, complaint = DAMAGED[name]
    file = tmp_path / "rolls.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(lambda: Music(path=str(file)), file, complaint)


def test_refuses_what_is_not_there(tmp_path):
    refused(lambda: Music(path=str(tmp_path / "no")), tmp_path / "no", "there is none")
    refused(lambda: Music(path=str(tmp_path)), tmp_path, "it is a folder")
    refused(lambda: Music(), "", "must name a file")


def test_largest_split(small, tmp_path, monkeypatch):
    lengths = [len(piece) for piece in small[1]["train"]]
    numbers = 88 * max(lengths) * len(lengths)
    monkeypatch.setattr(files, "MOST", numbers)
    assert write_music(tmp_path) and Music(path=str(tmp_path / "rolls.json"))
    monkeypatch.setattr(files, "MOST", numbers - 1)
    refused(
        lambda: Music(path=str(tmp_path / "rolls.json")), tmp_path / "rolls.json", "train would"
    )


real = pytest.mark.skipif(not REAL.exists(), reason="no chorales here; BPTT_LAB_DATA says where")


@real
def test_the_chorales():
    task = Music(path=str(REAL))
    masks = [task.sequences(split, 0).mask for split in KEYS]
    assert [mask.shape for mask in masks] == [(128, 229), (143, 76), (159, 77)]
    assert [int(mask.sum()) for mask in masks] == [13578, 4526, 4648]
    losses = {name: values["loss"] for name, values in task.references().items()}
    assert 8 < losses["markov"] < losses["unigram"] < 12


@real
def test_damaged_versions_of_the_chorales(tmp_path):
    whole, file = REAL.read_text(), tmp_path / "rolls.json"
    changes = ("72,7200", "[,{", "valid,val", "[],null", "72,7.2", '72,"C"', "}, ", '"test",test')
    changed = [whole.replace(*change.split(","), 1) for change in changes]
    for damaged in (whole[: len(whole) // 2], whole[:-1], whole[1:], whole + "}", *changed):
        assert damaged != whole
        file.write_text(damaged)
        refused(lambda: Music(path=str(file)), file, "must")
