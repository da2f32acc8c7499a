"""bptt-export: onnxruntime and torch.nn.RNN give the network's own numbers."""

from __future__ import annotations

import importlib
import json
import stat

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from runs import quick_run
from sampling import pairwise
from tasks.samples import write_series
from torch import nn

from bptt_lab import VanillaRNN, lab
from bptt_lab.commands.export import main
from bptt_lab.core.validation import ConfigError
from bptt_lab.lab.net import Net
from bptt_lab.lab.onnx_model import IR_VERSION, OPSET, onnx_model
from bptt_lab.lab.torch_file import loading_lines, torch_content
from bptt_lab.runs import files
from bptt_lab.tasks.codec import Codec
from bptt_lab.training.network import Network

I, H, O = 4, 12, 3
CODECS = {
    "numbers": Codec(I, O, "mse"),
    "scaled": Codec(
        *(I, O, "mse"),
        input_mean=(1e6, 0.0, 2.0, 3.0),
        input_std=(1.0, 2.0, 1.0, 1.0),
        output_mean=(5.0,),
        output_std=(2.0, 3.0, 4.0),
    ),
    "symbols": Codec(I, O, "cross_entropy", tuple("abcd"), classes=tuple("xyz")),
}


def network(codec, phi="tanh", num_layers=1, bias=True, leak=1.0, embedding=None, **kind):
    torch.manual_seed(1)
    rnn = VanillaRNN(embedding or I, H, num_layers, phi, bias, leak=leak, **kind)
    table = None if embedding is None else nn.Linear(I, embedding, bias=False, **kind)
    return Net(Network(rnn, nn.Linear(H, O, **kind), table, CODECS[codec]))


def drawn(codec, steps, batch):
    """Inputs of a model, and of a network."""
    draws = np.random.default_rng(0)
    if codec == "symbols":
        places = draws.integers(0, I, (steps, batch))
        encoded = [CODECS[codec].encode(["abcd"[n] for n in column]) for column in places.T]
        return places, torch.stack(encoded, 1)
    numbers = draws.normal(size=(steps, batch, I)) + np.array([1e6, 0, 2, 3])
    if codec == "numbers":
        numbers = (numbers - [1e6, 0, 2, 3]).astype(np.float32)
    encoded = [CODECS[codec].encode(numbers[:, n]) for n in range(batch)]
    return numbers, torch.stack(encoded, 1)


def farthest(net, codec, lengths, batch):
    """How far onnxruntime is from the network, over chunks whose state is handed on."""
    session = onnxruntime.InferenceSession(onnx_model(net).SerializeToString())
    shape = net.rnn.num_layers, batch, H
    h, hx = np.zeros(shape, np.float32), torch.zeros(shape).to(net.readout.weight)
    apart = []
    for steps in lengths:
        read, encoded = drawn(codec, steps, batch)
        output, h = session.run(None, {"input": read, "initial_h": h})
        with torch.no_grad():
            x = encoded.to(hx) if net.embedding is None else net.embedding(encoded.to(hx))
            states, hx = net.rnn(x, hx)
            expected = net.readout(states)
        known = expected.numpy() if codec == "symbols" else net.codec.answers(expected)
        assert output.shape == (steps, batch, O) and h.shape == shape
        apart += [np.abs(output - known).max(), np.abs(h - hx.numpy()).max()]
    return max(apart)


@pytest.mark.parametrize(
    ("codec", "phi", "num_layers", "bias", "leak", "embedding", "batch"),
    pairwise(
        *(CODECS, ("tanh", "relu", "identity", "sigmoid"), (1, 2, 3), (True, False)),
        *((1.0, 0.3), (None, 5), (1, 3)),
    ),
)
def test_onnxruntime_agrees(codec, phi, num_layers, bias, leak, embedding, batch):
    net = network(codec, phi, num_layers, bias, leak, embedding)
    assert farthest(net, codec, (1, 7, 30), batch) < 2e-6


@pytest.mark.slow
@pytest.mark.parametrize("leak", [1.0, 0.3])
@pytest.mark.parametrize("phi", ["tanh", "relu", "identity", "sigmoid"])
def test_onnxruntime_agrees_over_two_thousand_steps(phi, leak):
    assert farthest(network("scaled", phi, 3, leak=leak), "scaled", (2000, 1, 2000), 2) < 1e-5


def test_a_model_of_a_float64_network_is_in_float32():
    assert farthest(network("scaled", dtype=torch.float64), "scaled", (20,), 2) < 1e-5


def test_a_model_says_what_it_is():
    model = onnx_model(net := network("symbols"))
    assert (model.opset_import[0].version, model.ir_version) == (OPSET, IR_VERSION)
    known = {entry.key: entry.value for entry in model.metadata_props}
    assert Codec.of(json.loads(known["codec"])) == net.codec
    assert json.loads(known["classes"]) == ["x", "y", "z"]
    assert [node.op_type for node in model.graph.node if node.op_type == "RNN"] == ["RNN"]
    names = [value.name for value in (*model.graph.input, *model.graph.output)]
    assert names == ["input", "initial_h", "output", "Y_h"]


@pytest.mark.parametrize("embedding", [None, 5])
@pytest.mark.parametrize("kind", [{}, {"dtype": torch.float64, "bias": False, "phi": "relu"}])
def test_the_lines_for_torch_are_true(kind, embedding, tmp_path):
    net = network("numbers", num_layers=2, embedding=embedding, **kind)
    file = tmp_path / "net.pt"
    lab.export(net, file, to="torch")
    names = {"torch": torch}
    exec("\n".join(loading_lines(net, str(file))), names)
    assert type(names["rnn"]) is nn.RNN
    input = torch.randn(9, 2, I).to(net.readout.weight)
    x = names["embedding"](input) if embedding else input
    torch.testing.assert_close(names["readout"](names["rnn"](x)[0]), net(input))
    assert Codec.of(names["saved"]["codec"]) == net.codec


@pytest.mark.parametrize("kind", [{"leak": 0.5}, {"phi": "sigmoid"}, {"phi": "identity"}])
def test_what_torch_has_not_is_refused(kind):
    with pytest.raises(ConfigError, match=r"model\..*torch.nn.RNN has none; use --to onnx"):
        torch_content(network("numbers", **kind))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    quick_run(folder / "run", "dataset=series", f"dataset.path={write_series(folder)}")
    return folder / "run"


def test_a_name_of_lab_is_not_hidden_by_its_module(run):
    importlib.import_module("bptt_lab.lab.load")
    assert callable(lab.load) and callable(lab.export)


def test_the_command_writes_a_model_that_says_whose_it_is(run, capsys):
    assert main([str(run), "--to", "onnx"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in out[3:7]] == [
        "input float64 (steps, batch, 1) numbers in the units of the data",
        "initial_h float32 (1, batch, 8) zeros, or Y_h of the steps before",
        "output float64 (steps, batch, 1) numbers in the units of the targets",
        "Y_h float32 (1, batch, 8) the state after the last step",
    ]
    model = onnx.load(run / "net.onnx")
    known = {entry.key: entry.value for entry in model.metadata_props}
    summary = json.loads((run / "summary.json").read_text())
    assert known["parameters_sha256"] == summary["parameters_sha256"]
    session = onnxruntime.InferenceSession(run / "net.onnx")
    x = np.sin(np.arange(50.0))[:, None, None]
    output, _ = session.run(None, {"input": x, "initial_h": np.zeros((1, 1, 8), np.float32)})
    np.testing.assert_allclose(output[:, 0, 0], lab.load(run).predict(x[:, 0]), atol=1e-5)


def test_the_command_writes_state_dicts_and_the_lines(run, capsys, tmp_path):
    file = tmp_path / "mine.pt"
    file.write_text("from before")
    assert main([str(run), "--to", "torch", "--output", str(file)]) == 0
    names = {"torch": torch}
    exec(capsys.readouterr().out.partition("\n\n")[2], names)
    net = lab.load(run)
    x = np.sin(np.arange(50.0))
    output = names["readout"](names["rnn"](net.codec.encode(x)[:, None])[0])
    answers = net.codec.answers(output)[:, 0, 0]
    np.testing.assert_allclose(answers, net.predict(x), atol=1e-5)
    assert stat.S_IMODE(file.stat().st_mode) & 0o111 == 0
    assert list(tmp_path.iterdir()) == [file]


def test_the_model_of_a_checkpoint_goes_into_the_runs_folder(run, capsys):
    (run / "net.onnx").unlink(missing_ok=True)
    assert main([str(run / "checkpoints" / "best.ckpt")]) == 0
    assert (run / "net.onnx").is_file()


def test_what_was_there_stays_where_writing_fails(run, tmp_path, monkeypatch):
    file = tmp_path / "net.onnx"
    file.write_text("from before")

    def full(*_):
        raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr(files.os, "replace", full)
    assert main([str(run), "--to", "onnx", "--output", str(file)]) == 1
    assert file.read_text() == "from before"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("nowhere", "--to", "onnx"), "nowhere: there is no such run"),
        ((".", "--to", "onnx"), ".: holds no run"),
        ((".", "--to", "tensorflow"), "--to=tensorflow: must be one of onnx, torch"),
        ((".", "--to", "onnx", "--output", "/dev/null"), "--output=/dev/null: must name a file"),
        ((".", "--to", "onnx", "--output", "link"), "--output=link: must name a file"),
        ((".", "--to", "onnx", "--output", "no/x.onnx"), "--output=no/x.onnx: must be in a folder"),
    ],
)
def test_refusals(arguments, problem, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("elsewhere")
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[-1].startswith(f"bptt-export: {problem}")


def test_without_the_package_onnx_one_line_says_what_to_install(run, capsys, monkeypatch):
    monkeypatch.setattr("bptt_lab.core.validation.importlib.util.find_spec", lambda name: None)
    assert main([str(run), "--to", "onnx"]) == 2
    assert "pip install 'bptt_lab[onnx]'" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"pip install 'bptt_lab\[onnx\]'"):
        lab.export(network("numbers"), run / "x.onnx")
