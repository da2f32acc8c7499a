"""A codec says what a task's numbers mean, without the task's data."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bptt_lab.core.validation import ConfigError
from bptt_lab.tasks.codec import Codec
from bptt_lab.tasks.mackey_glass import MackeyGlass
from bptt_lab.tasks.mnist import Mnist
from bptt_lab.tasks.tagging import Tagging
from bptt_lab.tasks.text import Text
from tasks.samples import write_mnist, write_tagging, write_text


def test_a_text_is_read_and_answered_in_characters(tmp_path: Path) -> None:
    codec = Text(path=str(write_text(tmp_path)), batch_size=4).codec()
    text = "".join(map(str, codec.symbols[:5]))
    input = codec.encode(text)
    assert input.argmax(-1).tolist() == [0, 1, 2, 3, 4]
    assert "".join(codec.answers(input)) == text
    with pytest.raises(ConfigError, match="must be one of"):
        codec.encode("\N{SNOWMAN}")


def test_words_that_training_never_saw_are_one(tmp_path: Path) -> None:
    codec = Tagging(path=str(write_tagging(tmp_path))).codec()
    assert codec.encode(["flights", "helicopters"]).argmax(-1).tolist()[1] == 0
    assert codec.encode(["flights"]).argmax(-1).item() > 0


def test_a_series_is_read_in_its_own_units() -> None:
    task = MackeyGlass(train_size=8, val_size=2, test_size=2)
    codec = task.codec()  # before the series was asked for
    raw = task.series * task.std + task.mean
    input = codec.encode(raw[:20])
    assert torch.allclose(input[:, 0], task.series[:20].float(), atol=1e-6)
    assert np.allclose(codec.answers(input)[:, 0], raw[:20], atol=1e-6)


def test_pixels_are_read_as_in_training(tmp_path: Path) -> None:
    task = Mnist(path=str(write_mnist(tmp_path)))
    input = torch.arange(256, dtype=torch.uint8).view(1, 256, 1)
    codec = Codec(1, 10, "mse", input_std=task.codec().input_std)
    assert torch.equal(codec.encode(input[0]), task.encode(input)[0])


@pytest.mark.parametrize(
    ("sequence", "problem"),
    [
        ([], "0 steps"),
        ([[1.0], [1.0, 2.0]], "all rows alike"),
        (["a"], "real numbers"),
        ([[1.0, 2.0]], "reshape"),
        (np.zeros(3, complex), "real numbers"),
        (np.ma.masked_array([1.0, 2.0], [False, True]), "some are masked"),
        (torch.zeros(3, 1).to_sparse(), "to_dense"),
        (torch.zeros(3, 1, device="meta"), "no data"),
        ([1e300], "single precision"),
    ],
)
def test_what_is_no_sequence_is_refused(sequence: object, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Codec(1, 1, "mse").encode(sequence)


def test_numbers_in_half_precision_are_read() -> None:
    given = torch.tensor([0.5, -2.0])
    for kind in (torch.bfloat16, torch.float16):
        assert Codec(1, 1, "mse").encode(given.to(kind)).squeeze(1).equal(given)
        assert Codec(1, 1, "mse").target(given[0].to(kind)).equal(given[:1])


@pytest.mark.parametrize("sequence", [5, None, 0.5, torch.tensor(1), np.array("a")])
def test_what_is_no_sequence_of_symbols_is_refused(sequence: object) -> None:
    with pytest.raises(ConfigError, match=r"must hold symbols, but is .*in a list"):
        Codec(2, 2, "cross_entropy", symbols=("a", "b")).encode(sequence)


def test_a_right_answer_that_is_too_large_is_refused() -> None:
    with pytest.raises(ConfigError, match="y: must fit single precision"):
        Codec(1, 1, "mse").target(1e300)
