"""bptt-predict: the answers of net.predict to a file, as a table."""

from __future__ import annotations

import csv
import gzip
import json
import os
import sys

import numpy as np
import pytest
from runs import quick_run
from tasks.samples import PROSE, SAMPLES, conllu, idx

from bptt_lab import lab
from bptt_lab.commands.predict import answers
from bptt_lab.commands.predict.cli import main
from bptt_lab.tasks.mnist import Mnist, read_idx


class Trained:
    """Small runs on the samples, each made when it is first asked for."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, task, *more):
        run = self.folder / task
        if not run.exists():
            (data := self.folder / f"{task}_data").mkdir()
            path = f"dataset.path={SAMPLES[task](data)}"
            quick_run(run, f"dataset={task}", path, "dataset.batch_size=4", *more)
        return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return Trained(tmp_path_factory.mktemp("predict"))


def predicted(run, file, tmp_path, **kind):
    table = tmp_path / "out.csv"
    assert main([str(run), "--input", str(file), "--output", str(table)]) == 0
    with table.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, **kind))


def column(rows, name):
    return [row[name] for row in rows]


def test_text(trained, tmp_path):
    run = trained("text")
    (file := tmp_path / "some.txt").write_text(PROSE[:130])
    rows = predicted(run, file, tmp_path)
    assert list(rows[0]) == ["sequence", "step", "input", "answer", "chance"]
    assert "".join(column(rows, "input")) == PROSE[:130]
    net = lab.load(run)
    assert "".join(column(rows, "answer")) == "".join(net.predict(PROSE[:130]))
    chances = net.predict_proba(PROSE[:130]).max(-1)
    assert column(rows, "chance") == [f"{chance:.6g}" for chance in chances]
    assert column(rows, "step") == [str(step) for step in range(130)]


def test_a_series_is_forecast_beside_the_rows_that_come(trained, tmp_path):
    run = trained("series")
    values = np.random.default_rng(0).normal(size=20) * 3
    (file := tmp_path / "s.csv").write_text("\n".join(["value", *map(str, values)]))
    rows = predicted(run, file, tmp_path)
    assert column(rows, "step") == [str(step) for step in range(1, 21)]
    assert column(rows, "input") == [*map(str, values[1:]), ""]
    expected = lab.load(run).predict(values)
    assert [float(x) for x in column(rows, "value")] == pytest.approx(expected.tolist(), rel=1e-8)


def test_music(trained, tmp_path):
    run = trained("music")
    pieces = [[[60, 64], [60], []], [[21]]]
    (file := tmp_path / "m.json").write_text(json.dumps(pieces))
    rows = predicted(run, file, tmp_path)
    assert column(rows, "sequence") == ["pieces[0]"] * 3 + ["pieces[1]"]
    net = lab.load(run)
    roll = np.zeros((3, 88))
    roll[[0, 0, 1], [39, 43, 39]] = 1
    named = net.predict(roll)
    expected = [" ".join(str(21 + n) for n in np.flatnonzero(row)) for row in named]
    assert column(rows, "answer")[:3] == expected
    for row in rows:
        assert len(row["chance"].split()) == len(row["answer"].split())
        assert all(float(chance) >= 0.5 for chance in row["chance"].split())
    (tmp_path / "whole.json").write_text(json.dumps({"a": pieces, "b": pieces}))
    assert len(predicted(run, tmp_path / "whole.json", tmp_path)) == 8


def test_tagging_of_a_treebank_without_tags_and_of_plain_lines(trained, tmp_path):
    run = trained("tagging", "model.embedding_size=3")
    sentences = [["I", "see", "Boston"], ["never", "flights"]]
    (tree := tmp_path / "t.conllu").write_text(conllu([[(w, "_") for w in s] for s in sentences]))
    (lines := tmp_path / "t.txt").write_text("I see  Boston\n\nnever flights\n")
    rows = predicted(run, tree, tmp_path)
    assert rows == predicted(run, lines, tmp_path)
    assert column(rows, "input") == [word for sentence in sentences for word in sentence]
    assert column(rows, "sequence") == ["0", "0", "0", "1", "1"]
    expected = [tag for tags in lab.load(run).predict(sentences) for tag in tags]
    assert column(rows, "answer") == expected


@pytest.mark.parametrize("layout", ["rows", "pixels"])
def test_images(layout, tmp_path):
    (data := tmp_path / "data").mkdir()
    SAMPLES["mnist"](data)
    settings = f"dataset.layout={layout}", f"dataset.permuted={layout == 'pixels'}".lower()
    quick_run(run := tmp_path / "run", "dataset=mnist", f"dataset.path={data}", *settings)
    pixels = np.random.default_rng(0).integers(0, 256, 60 * 25, np.uint8)
    (file := tmp_path / "images.gz").write_bytes(gzip.compress(idx((60, 5, 5), pixels.tobytes())))
    rows = predicted(run, file, tmp_path)
    assert list(rows[0]) == ["sequence", "answer", "chance"] and len(rows) == 60
    images = read_idx(file, 3)
    steps = images.flatten(1)
    if layout == "pixels":
        steps = steps[:, Mnist(path=str(data), layout=layout, permuted=True).order]
    steps = steps.view(60, -1, 5 if layout == "rows" else 1)
    assert column(rows, "answer") == [str(n) for n in lab.load(run).predict(steps.numpy())]


def test_several_columns_further_ahead(tmp_path):
    draws = np.random.default_rng(1).normal(size=(300, 3))
    lines = [",".join(map(str, row)) for row in draws]
    (file := tmp_path / "s.csv").write_text("\n".join(["a,b,c", *lines]))
    data = "dataset=series", f"dataset.path={file}", "dataset.horizon=2"
    quick_run(run := tmp_path / "run", *data, "dataset.columns=[a,b]", "dataset.targets=[c,a]")
    (file := tmp_path / "t.csv").write_text("b,a\n1.5,2.5\n3.5,4.5\n5.5,6.5\n")
    rows = predicted(run, file, tmp_path)
    assert column(rows, "step") == ["2", "3", "4"]
    assert column(rows, "input_a") == ["6.5", "", ""] and column(rows, "input_b")[0] == "5.5"
    expected = lab.load(run).predict([[2.5, 1.5], [4.5, 3.5], [6.5, 5.5]])
    found = [[float(row["value_c"]), float(row["value_a"])] for row in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_numbers_of_any_other_task(tmp_path):
    more = "dataset.train_size=8", "dataset.num_steps=6"
    quick_run(run := tmp_path / "adding", "dataset=adding", *more)
    values = np.random.default_rng(0).random((3, 6, 2))
    expected = lab.load(run).predict(list(values))
    np.savez(file := tmp_path / "x.npz", inputs=values)
    found = [float(x) for x in column(predicted(run, file, tmp_path), "value")]
    np.testing.assert_allclose(found, np.ravel(expected), rtol=1e-8)
    np.savez(file, first=values[0], other=values[1])
    rows = predicted(run, file, tmp_path)
    assert column(rows, "sequence") == ["first", "other"]
    assert [float(x) for x in column(rows, "value")] == found[:2]
    np.savez(file, inputs=values, lengths=[6, 6, 2])
    short = lab.load(run).predict(values[2, :2])
    assert float(predicted(run, file, tmp_path)[2]["value"]) == pytest.approx(float(short))
    text = "\n".join(["x,mark", *(f"{x},{mark}" for x, mark in values[0])])
    (file := tmp_path / "x.csv").write_text(text)
    assert [float(x) for x in column(predicted(run, file, tmp_path), "value")] == found[:1]


def test_symbols_as_numbers(tmp_path):
    quick_run(run := tmp_path / "copy", "dataset=copy_memory", "dataset.train_size=8")
    symbols = np.array([[1, 2, 3, 0], [4, 5, 6, 7]])
    np.savez(file := tmp_path / "x.npz", inputs=symbols)
    rows = predicted(run, file, tmp_path)
    assert column(rows, "input") == [str(n) for n in symbols.ravel()]
    expected = np.ravel(lab.load(run).predict(symbols))
    assert column(rows, "answer") == [str(n) for n in expected]


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"inputs": np.zeros(3)}, "inputs must be (sequences, steps, numbers)"),
        ({"inputs": np.zeros((2, 3, 2)), "lengths": [3]}, "lengths must be integers"),
        ({"inputs": np.zeros((2, 3, 2)), "lengths": [0, 3]}, "from 1 to 3"),
        ({"inputs": np.zeros((2, 3, 2)), "lengths": [0.5, 3]}, "lengths must be integers"),
        ({"text": np.array(["a"])}, "'text' must hold rows of numbers"),
        ({"inputs": np.zeros((2, 3, 4))}, "sequence 0: a sequence of shape (3, 4)"),
    ],
)
def test_damaged_numbers(arrays, problem, trained, tmp_path, capsys):
    run = trained.folder / "numbers"
    if not run.exists():
        quick_run(run, "dataset=adding", "dataset.train_size=8")
    capsys.readouterr()
    np.savez(file := tmp_path / "x.npz", **arrays)
    assert main([str(run), "--input", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and problem in err.splitlines()[-1]


def test_a_long_sequence_goes_in_parts_with_the_same_bits(trained, tmp_path, monkeypatch):
    run = trained("text")
    (file := tmp_path / "some.txt").write_text(PROSE[:200])
    whole = predicted(run, file, tmp_path)
    monkeypatch.setattr(answers, "ELEMENTS", 7 * (30 + 30 + 8 + 30))
    lengths = []
    original = lab.Net.advance

    def advance(net, input, hx):
        lengths.append(len(input))
        return original(net, input, hx)

    monkeypatch.setattr(lab.Net, "advance", advance)
    assert predicted(run, file, tmp_path) == whole
    assert max(lengths) == 7 and sum(lengths) == 200


def test_many_sequences_run_side_by_side(trained, tmp_path, monkeypatch):
    run = trained("tagging", "model.embedding_size=3")
    (file := tmp_path / "t.txt").write_text("I see\n" * 50 + "flights to Boston I see\n" * 3)
    rows = predicted(run, file, tmp_path)
    net = lab.load(run)
    alone = [net.predict(s.split()) for s in ["I see"] * 50 + ["flights to Boston I see"] * 3]
    assert column(rows, "answer") == [tag for tags in alone for tag in tags]


def test_stdout_is_the_table(trained, tmp_path, capsys):
    (file := tmp_path / "some.txt").write_text("The")
    assert main([str(trained("text")), "--input", str(file)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "sequence,step,input,answer,chance" and out.count(",") >= 16


def test_a_reader_that_leaves_ends_it_without_a_word(trained, tmp_path, monkeypatch, capsys):
    (file := tmp_path / "some.txt").write_text(PROSE)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert main([str(trained("text")), "--input", str(file)]) == 0
    assert "Broken" not in capsys.readouterr().err


def test_a_refused_sequence_leaves_the_file_as_it_was(trained, tmp_path, capsys):
    (table := tmp_path / "out.csv").write_text("before")
    (file := tmp_path / "some.txt").write_text("The §")
    arguments = [str(trained("text")), "--input", str(file), "--output", str(table)]
    assert main(arguments) == 2
    assert "sequence 0: symbol '§': must be one of" in capsys.readouterr().err
    assert table.read_text() == "before" and sorted(tmp_path.iterdir()) == [table, file]


@pytest.mark.parametrize(
    ("task", "content", "problem"),
    [
        ("series", b"value\n1\nx\n", "line 3 must have a finite number in column 1"),
        ("music", b"[[[60, 200]]]", "pieces[0][0] must hold MIDI numbers"),
        ("music", b"[[]]", "pieces[0] must be a list of one moment or more"),
        ("mnist", b"no image", "must be IDX"),
        (
            "mnist",
            gzip.compress(idx((2, 3, 3), bytes(18)), mtime=0),
            "sequence 0: a sequence of shape",
        ),
        ("tagging", b" \n", "holds no sequence"),
        ("text", b"\xff\xfe", "must be a text in UTF-8"),
    ],
)
def test_damaged_files(task, content, problem, trained, tmp_path, capsys):
    (file := tmp_path / "file").write_bytes(content)
    more = ["model.embedding_size=3"] if task == "tagging" else []
    run = trained(task, *more)
    capsys.readouterr()
    assert main([str(run), "--input", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and problem in err.splitlines()[-1]


def test_a_checkpoint_in_a_run_stands_for_it(trained, tmp_path):
    run = trained("text")
    (file := tmp_path / "some.txt").write_text("The quick")
    rows = predicted(run / "checkpoints" / "last.ckpt", file, tmp_path)
    assert rows == predicted(run, file, tmp_path)


def test_refusals(trained, tmp_path, capsys, monkeypatch):
    run = trained("text")
    (file := tmp_path / "f.txt").write_text("The")
    monkeypatch.chdir(tmp_path)
    known = {
        ("nowhere", "--input", "f.txt"): "nowhere: there is no such run",
        (str(run),): "--input: must name a file",
        (str(run), "--input", "g.txt"): "--input=g.txt: must be an existing file",
        (str(run), "--input", "f.txt", "--output", "f.txt"): "--output=f.txt: is the input",
        (str(run), "--input", "f.txt", "--output", "no/x"): "--output=no/x: must be in a folder",
    }
    for arguments, problem in known.items():
        assert main(list(arguments)) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"bptt-predict: {problem}")
    assert file.read_text() == "The"


def test_a_task_that_may_not_be_named_is_refused(trained, tmp_path, capsys):
    run = trained("text")
    manifest = run / "manifest.json"
    before = manifest.read_text()
    plain = json.loads(before)
    plain["config"]["dataset"]["_target_"] = "os.system"
    manifest.write_text(json.dumps(plain))
    (file := tmp_path / "f.txt").write_text("The")
    try:
        assert main([str(run), "--input", str(file)]) == 2
    finally:
        manifest.write_text(before)
    assert "dataset._target_=os.system" in capsys.readouterr().err


def test_an_unfinished_run_says_so(tmp_path, capsys):
    SAMPLES["text"](tmp_path)
    run = tmp_path / "run"
    quick_run(run, "dataset=text", f"dataset.path={tmp_path / 'text.txt'}", "dataset.batch_size=4")
    (run / "status.json").write_text(json.dumps({"status": "interrupted", "reason": ""}))
    assert main([str(run), "--input", str(tmp_path / "text.txt")]) == 0
    assert "the run is interrupted; this is its latest checkpoint" in capsys.readouterr().err
