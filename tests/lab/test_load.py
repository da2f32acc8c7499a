"""A run folder's network, whatever became of the folder, and whoever wrote the checkpoint."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gradients.test_contract import STRATEGIES
from lightning.pytorch import Trainer
from runs import quick_run
from tasks.samples import write_tagging, write_text
from torch.utils.data import DataLoader

from bptt_lab import lab
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients import RTRL, Truncated
from bptt_lab.tasks.adding import Adding
from bptt_lab.training import checkpoint_io, manifest, network
from bptt_lab.training.module import SequenceModule
from lab.nets import Kind, make

ADDING = ("dataset=adding", "dataset.num_steps=6", "dataset.train_size=8", "dataset.batch_size=4")
TASK = Adding(num_steps=6, train_size=8, batch_size=4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    quick_run(folder, *ADDING, "trainer.max_epochs=2", "gradient=truncated", "gradient.k=3")
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    return checkpoint_io.read(folder / "checkpoints" / f"{name}.ckpt")


def test_the_network_that_training_ended_with(run: Path) -> None:
    net = lab.load(run)
    summary = json.loads((run / "summary.json").read_text())
    assert manifest.parameter_hash(net.state_dict()) == summary["parameters_sha256"]
    assert net.rnn.gradient.k == 3 and isinstance(net.rnn.gradient, Truncated)
    assert not net.training
    best = lab.load(run, checkpoint="best").state_dict()
    assert manifest.parameter_hash(best) == manifest.parameter_hash(
        checkpoint(run, "best")["state_dict"]
    )


def test_it_needs_nothing_but_the_checkpoint(run: Path, tmp_path: Path) -> None:
    inputs = TASK.sequences("test", 0).input.transpose(0, 1).numpy()
    expected = lab.load(run).predict(inputs)
    assert expected.shape == (len(inputs),)
    alone = tmp_path / "alone.ckpt"
    shutil.copy(run / "checkpoints" / "last.ckpt", alone)
    assert np.array_equal(lab.load(alone).predict(inputs), expected)


def test_a_text_is_answered_by_a_text(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    path = write_text(data)
    more = ("dataset.batch_size=2", "model.embedding_size=4", "trainer.ema_decay=0.9")
    quick_run(tmp_path / "run", "dataset=text", f"dataset.path={path}", *more)
    shutil.rmtree(data)
    net = lab.load(tmp_path / "run")
    answer = net.predict("The quick")
    assert isinstance(answer, str) and len(answer) == 9
    assert net.predict(["The quick", "fox"])[0] == answer
    stream = net.stream()
    assert "".join(stream.predict_one(letter) for letter in "The quick") == answer
    assert net.predict_proba("fox").shape == (3, net.codec.output_size)
    with pytest.raises(ConfigError, match=r"inputs\[1\]: symbol '~': must be one of"):
        net.predict(["fox", "~"])


def test_words_are_tagged_by_name(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    quick_run(tmp_path / "run", "dataset=tagging", f"dataset.path={write_tagging(data)}")
    net = lab.load(tmp_path / "run")
    tags = net.predict("I see helicopters")
    assert tags.tolist() == net.predict(["I", "see", "helicopters"]).tolist()
    assert set(tags) <= set(net.codec.classes)
    both = net.predict([["I", "see"], ["flights"]])
    assert [len(one) for one in both] == [2, 1]
    with pytest.raises(ConfigError, match="must be one word; split it"):
        net.predict(["I see", "flights"])


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        (np.zeros((4, 3)), (4,)),
        (np.zeros((5, 4, 3)), (5, 4)),
        (torch.zeros(5, 4, 3), (5, 4)),
        ([[0.0, 0.0, 0.0]] * 4, (4,)),
        ([np.zeros((4, 3)), np.zeros((2, 3))], [(4,), (2,)]),
        ([[[0, 0, 0]], [[0, 0, 0], [1, 1, 1]]], [(1,), (2,)]),
    ],
)
def test_answers_have_the_form_of_the_inputs(given: Any, shape: Any) -> None:
    answers = make(Kind(output_size=1)).predict(given)
    assert shape == ([a.shape for a in answers] if isinstance(answers, list) else answers.shape)


@pytest.mark.parametrize(
    ("given", "shape"),
    [([0.1, 0.2], (2,)), (np.zeros((2, 1)), (2,)), (np.zeros((4, 2)), (4, 2)), (0.5, None)],
)
def test_one_number_a_step_needs_no_axis(given: Any, shape: Any) -> None:
    net = make(Kind(input_size=1, output_size=1))
    if shape is None:
        with pytest.raises(ConfigError, match=r"a sequence of shape \(\): must be \(steps, 1\)"):
            net.predict(given)
    else:
        assert net.predict(given).shape == shape


def test_sequences_of_one_number_a_step_come_in_any_order() -> None:
    net = make(Kind(input_size=1, output_size=1))
    for given in ([[0.1], [0.2, 0.3]], [np.ones(1), np.ones(2)], [[0.2, 0.3], [0.1]]):
        assert [len(one) for one in net.predict(given)] == [len(one) for one in given]
    with pytest.raises(ConfigError, match=r"inputs\[1\]: a sequence of shape \(\)"):
        net.predict([[0.1], 0.2])


@pytest.mark.parametrize("given", [[], [[]], np.zeros((0, 4, 3)), [np.zeros((0, 3))], None, "abc"])
def test_what_is_no_sequence_is_refused_in_one_line(given: Any) -> None:
    with pytest.raises(ConfigError) as error:
        make(Kind()).predict(given)
    assert "\n" not in str(error.value)


def without_description(folder: Path) -> Path:
    path = folder / "checkpoints" / "last.ckpt"
    saved = checkpoint_io.read(path)
    del saved[network.KEY]
    checkpoint_io.write(saved, path)
    return path


def test_of_an_earlier_version_it_needs_manifest_and_data(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    path, folder = write_text(data), tmp_path / "run"
    quick_run(folder, "dataset=text", f"dataset.path={path}", "dataset.batch_size=2")
    expected = lab.load(folder).predict("The quick")
    old = without_description(folder)
    assert lab.load(folder).predict("The quick") == expected
    with pytest.raises(ConfigError, match=r"use lab\.load\(run_folder\)"):
        SequenceModule.load_from_checkpoint(old)
    path.write_text(path.read_text() * 2)
    with pytest.raises(ConfigError, match="the data is not that of training; put that back"):
        lab.load(folder)
    path.unlink()
    with pytest.raises(ConfigError, match=r"dataset\.path=.*must be an existing file"):
        lab.load(folder)


def test_folders_that_hold_no_network(run: Path, tmp_path: Path) -> None:
    def refused(folder: Path, problem: str, **how: Any) -> None:
        with pytest.raises(ConfigError, match=problem) as error:
            lab.load(folder, **how)
        assert "\n" not in str(error.value)

    refused(tmp_path / "none", "is no folder; give one out of outputs/")
    refused(tmp_path, "holds no run")
    refused(run, "checkpoint=newest: must be one of last, best", checkpoint="newest")
    best = run / "checkpoints" / "best.ckpt"
    best.unlink()
    refused(run, r"no checkpoint checkpoints/best\.ckpt.*use checkpoint='last'", checkpoint="best")
    last = run / "checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    last.write_bytes(whole[:-100])
    refused(run, "is not what was written.*there is no other one|previous")
    last.unlink()
    last.symlink_to(tmp_path)
    refused(run, "cannot be read")
    last.unlink()
    os.mkfifo(last)
    refused(run, "cannot be read")
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    jobs = [{"folder": f"00{n}_seed={n}", "overrides": [f"seed={n}"]} for n in range(9)]
    (sweep / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    refused(sweep, "is a sweep; give the folder of one of its runs: 000_seed=0, .*, ...$")


def test_a_run_at_work_gives_its_latest_checkpoint(run: Path) -> None:
    last = run / "checkpoints" / "last.ckpt"
    last.rename(run / "checkpoints" / "previous.ckpt")  # as while it saves
    (run / "status.json").write_text('{"status": "running", "reason": ""}')
    lab.load(run)


def test_other_parameters_than_the_summarys_are_refused(run: Path) -> None:
    (run / "status.json").write_text('{"status": "completed", "reason": ""}')
    lab.load(run)
    saved = checkpoint(run)
    saved["state_dict"]["readout.bias"] += 1
    checkpoint_io.write(saved, run / "checkpoints" / "last.ckpt")
    with pytest.raises(ConfigError, match=r"are not those of summary\.json"):
        lab.load(run)


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch canary",)


def put(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(saved: dict[str, Any]) -> None:
        *most, last = path
        for key in most:
            saved = saved[key]
        saved[last] = value

    return change


HUGE = torch.zeros(1).expand(10**6, 10**6)
NET, STATE = network.KEY, "state_dict"
HOSTILE = {
    "no form": (put(NET, "form", value=2), "form=2: .* knows 1 only"),
    "no description": (put(NET, value=[]), "must say what the network is like"),
    "no state": (put(STATE, value=None), "must say what the network is like"),
    "huge": (put(NET, "model", "hidden_size", value=10**9), "not those of the network"),
    "many layers": (put(NET, "model", "num_layers", value=10**9), "their number is another"),
    "no size": (put(NET, "model", "hidden_size", value="8"), "must be an integer"),
    "leak": (put(NET, "model", "leak", value=0.0), "must be greater than 0"),
    "leak nan": (put(NET, "model", "leak", value=float("nan")), "finite"),
    "another key": (put(NET, "model", "device", value="cuda"), "there is no such setting"),
    "system": (put(NET, "gradient", "_target_", value="os.system"), "is not in bptt_lab"),
    "a task": (put(NET, "gradient", "_target_", value="bptt_lab.tasks.text.Text"), "must be a"),
    "a foreign rule": (put(NET, "gradient", "_target_", value="mypkg.My"), "add allow="),
    "inner": (put(NET, "gradient", "k", value={"_target_": "os.system"}), "is not in bptt_lab"),
    "k": (put(NET, "gradient", "k", value=-1), "gradient.k=-1: must be at least 1"),
    "no rule": (put(NET, "gradient", value=None), "must be a section"),
    "no codec": (put(NET, "codec", value=None), "codec: must hold"),
    "codec key": (put(NET, "codec", "path", value="/"), "codec: must hold"),
    "loss": (put(NET, "codec", "loss", value="evil"), "codec.loss=evil: must be one of"),
    "classes": (put(NET, "codec", "classes", value=["a"] * 99), "classes of 99 items"),
    "symbols": (put(NET, "codec", "symbols", value=[[]]), "codec.symbols"),
    "inputs": (put(NET, "codec", "input_size", value=10**12), "not those of the network"),
    "mean": (put(NET, "codec", "input_mean", value=[float("inf")]), "finite"),
    "shape": (put(STATE, "readout.weight", value=torch.zeros(2, 2)), "of another shape"),
    "no tensor": (put(STATE, "readout.weight", value=3), "of another shape"),
    "sparse": (put(STATE, "readout.bias", value=torch.zeros(1).to_sparse()), "another way"),
    "whole numbers": (put(STATE, "readout.bias", value=torch.zeros(1).int()), "in float32"),
    "expanded": (put(STATE, "readout.weight", value=HUGE), "of another shape"),
    "one more": (put(STATE, "evil", value=torch.zeros(1)), "their number is another"),
}


def test_what_a_run_was_opened_with_is_allowed(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rule = (
        "from bptt_lab.gradients.truncated import Truncated\n\n\nclass Mine(Truncated):\n    pass\n"
    )
    (tmp_path / "mine_of_a_run.py").write_text(rule)
    monkeypatch.syspath_prepend(str(tmp_path))
    saved = checkpoint(run)
    put(NET, "gradient", "_target_", value="mine_of_a_run.Mine")(saved)
    checkpoint_io.write(saved, run / "checkpoints" / "last.ckpt")
    with pytest.raises(ConfigError, match="is not in bptt_lab"):
        lab.load(lab.Run(run))
    for allow in (["mine_of_a_run"], "mine_of_a_run"):
        net = lab.load(lab.Run(run, allow))
        assert type(net.rnn.gradient).__name__ == "Mine"
        assert isinstance(opened := lab.open(run, allow), lab.Run)
        assert type(opened.rnn.gradient).__name__ == "Mine"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_checkpoint_is_refused_in_one_line(
    name: str, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    change, problem = HOSTILE[name]
    saved = copy.deepcopy(checkpoint(run))
    change(saved)
    path = tmp_path / "hostile.ckpt"
    torch.save(saved, path)
    with pytest.raises(ConfigError, match=problem) as error:
        lab.load(path)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=problem):
        SequenceModule.load_from_checkpoint(path)
    assert not (tmp_path / "canary").exists()


def test_no_pickle_and_no_packed_one_is_read(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hostile.ckpt"
    problem = "is no checkpoint of plain tensors and numbers"
    torch.save({**checkpoint(run), "evil": Evil()}, path)
    with pytest.raises(ConfigError, match=problem):
        lab.load(path)
    content = io.BytesIO()
    torch.save({STATE: torch.zeros(10**6)}, content)
    with zipfile.ZipFile(content) as source, zipfile.ZipFile(path, "w", 8) as packed:
        for part in source.infolist():
            packed.writestr(part.filename, source.read(part))
    for hostile in (path.read_bytes(), pickle.dumps(Evil())):
        path.write_bytes(hostile)
        checksum = checkpoint_io.hashlib.sha256(hostile).hexdigest()
        (tmp_path / "checksums.json").write_text(json.dumps({checksum: {"name": path.name}}))
        with pytest.raises(ConfigError, match=problem):
            lab.load(path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())
def test_every_strategy_comes_back_from_its_section(strategy: Any) -> None:
    again = network.strategy_of(network.section(strategy))
    assert repr(again) == repr(strategy)
    assert network.section(again) == network.section(strategy)


@pytest.mark.filterwarnings("ignore:.*num_workers.*", "ignore:.*GPU available.*")
def test_in_lightning(run: Path, tmp_path: Path) -> None:
    module = SequenceModule.load_from_checkpoint(run / "checkpoints" / "last.ckpt")
    net, data = lab.load(run), TASK.sequences("test", 0)
    torch.testing.assert_close(module(data.input), net(data.input))
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "barebones": False}
    quiet |= {"enable_checkpointing": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(default_root_dir=tmp_path, **quiet)
    chunked = Adding(num_steps=6, train_size=8, batch_size=1024, chunk_length=4)
    parts = trainer.predict(module, datamodule=chunked)
    assert parts is not None
    torch.testing.assert_close(torch.cat(parts), net(data.input))
    (whole,) = trainer.predict(module, DataLoader([data.input], batch_size=None)) or ()
    torch.testing.assert_close(whole, net(data.input))
    pairs = DataLoader([[data.input, data.target]], batch_size=None)
    (first,) = trainer.predict(module, pairs) or ()
    torch.testing.assert_close(first, whole)


def test_hostile_learners_are_refused_in_one_line(tmp_path: Path) -> None:
    one = make(Kind()).learner(gradient=RTRL(), optimizer=torch.optim.Adam)
    one.learn_one(np.ones(3), np.ones(2))
    one.save(tmp_path / "whole.pt")
    whole = torch.load(tmp_path / "whole.pt", weights_only=True)
    path = tmp_path / "hostile.pt"
    bad_state = {**whole["optimizer_state"], "param_groups": [{"lr": "x", "params": []}]}
    rates = copy.deepcopy(whole["optimizer_state"])
    rates["param_groups"][0]["lr"] = "x"
    hx, influence, draw, estimate, rule = whole["carry"]
    for change in (
        {"carry": None},
        {"carry": [hx[:, :, :4], influence, draw, estimate, rule]},
        {"carry": [hx, influence[:, :1], draw, estimate, rule]},
        {"carry": [hx, influence, "x", estimate, rule]},
        {"carry": [hx, influence, draw, estimate, "UORO in a net"]},
        {"optimizer": "SGD"},
        {"optimizer_state": bad_state},
        {"optimizer_state": rates},
        {"frozen": 3},
        {network.KEY: None},
    ):
        torch.save({**whole, **change}, path)
        with pytest.raises(ConfigError) as error:
            lab.load_learner(path, optimizer=torch.optim.Adam)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="optimizer=NoneType: must be 'Adam'"):
        lab.load_learner(tmp_path / "whole.pt", optimizer=None)
    with pytest.raises(ConfigError, match="cannot be read"):
        lab.load_learner(tmp_path / "none.pt", optimizer=None)
    with pytest.raises(ConfigError, match="cannot be written"):
        one.save(tmp_path / "none" / "learner.pt")


def test_reading_the_package_imports_no_torch() -> None:
    code = "import sys; from bptt_lab import lab; dir(lab); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
