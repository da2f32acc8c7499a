"""bptt-sample: what a network writes, reproducibly."""

from __future__ import annotations

import os
import sys

import pytest
import torch
from runs import quick_run
from tasks.samples import PROSE, write_series, write_text
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bptt_lab import lab
from bptt_lab.commands.sample import main
from bptt_lab.core.random import generator
from bptt_lab.tasks.text import as_code, go_on


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    data = "dataset=text", f"dataset.path={write_text(folder)}", "dataset.batch_size=4"
    quick_run(folder / "run", *data, "seed=3")
    return folder / "run"


def written(capsys, run, *arguments):
    capsys.readouterr()
    assert main([str(run), *arguments]) == 0
    return capsys.readouterr().out


def test_the_board_has_the_same_passage(run, capsys):
    """Same first character, seed, network and temperature."""
    events = EventAccumulator(str(run), size_guidance={"tensors": 0})
    events.Reload()
    (event,) = events.Tensors("text/sample/text_summary")
    passage = event.tensor_proto.string_val[0].decode()
    assert as_code(written(capsys, run, "--prime", PROSE[0], "--seed", "3")) == passage


def test_seeds_and_lengths(run, capsys):
    first = written(capsys, run, "--prime", "The", "--length", "40")
    assert first == written(capsys, run, "--prime", "The", "--length", "40")
    assert first != written(capsys, run, "--prime", "The", "--length", "40", "--seed", "1")
    assert first.startswith("The") and first.endswith("\n")
    assert len(first.removesuffix("\n")) in (42, 43)  # or the last character is a new line
    longer = written(capsys, run, "--prime", "The", "--length", "50")
    assert longer.startswith(first.removesuffix("\n"))


def test_temperature_zero_writes_the_likeliest(run, capsys):
    text = written(capsys, run, "--prime", "The q", "--length", "30", "--temperature", "0")
    text = text.removesuffix("\n")
    answers = "".join(lab.load(run).predict(text))
    assert text[5:] == answers[4:-1]


def test_a_low_temperature_is_near_it_and_none_is_too_low(run, capsys):
    cold = [
        written(capsys, run, "--prime", "The", "--length", "30", "--temperature", t)
        for t in ("0", "1e-9", "5e-324")
    ]
    assert len(set(cold)) == 1
    assert cold[0] != written(capsys, run, "--prime", "The", "--length", "30")


def test_each_character_is_drawn_by_its_chance(run):
    net = lab.load(run)
    read = net.codec.encode("T").argmax(-1)
    drawn = [next(go_on(net, read, 1, generator(0, "sample", n), 0.5)) for n in range(600)]
    with torch.no_grad():
        logits = net(net.codec.encode("T")[:, None])[0, 0].double()
    expected = torch.softmax(logits / 0.5, -1)
    found = torch.bincount(torch.tensor(drawn), minlength=len(expected)) / 600
    assert (found - expected).abs().max() < 0.06


def test_refusals(run, capsys, tmp_path):
    known = {
        ("--prime", "Thé"): "--prime: symbol 'é': must be one of",
        ("--prime", ""): "--prime: a sequence of 0 steps",
        ("--length", "0"): "--length=0: must be at least 1",
        ("--temperature", "-1"): "--temperature=-1: must be at least 0",
    }
    for arguments, problem in known.items():
        assert main([str(run), *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.splitlines()[-1].startswith(f"bptt-sample: {problem}")
    quick_run(tmp_path / "run", "dataset=series", f"dataset.path={write_series(tmp_path)}")
    capsys.readouterr()
    assert main([str(tmp_path / "run")]) == 2
    assert "of a network that names no characters" in capsys.readouterr().err


def test_a_reader_that_leaves_ends_it_without_a_word(run, monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert main([str(run), "--length", "20"]) == 0
    assert "Broken" not in capsys.readouterr().err


def test_a_terminal_only_shows_what_it_would_obey(monkeypatch, capsys):
    from bptt_lab.commands import trained

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    trained.stdout().write("a\x1b[31m\tb\n")
    assert capsys.readouterr().out == "a\\x1b[31m\tb\n"
