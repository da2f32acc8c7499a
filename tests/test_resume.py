"""A run that is stopped and continued ends with the bits of one that was not."""

from __future__ import annotations

import json
import random
import signal

import numpy as np
import pytest
import torch
from runs import QUICK, WATCHED, config, events, job, resumed
from tasks.samples import write_music

from bptt_lab import runs
from bptt_lab.commands.train import cli
from bptt_lab.config.schema import Experiment
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import resume
from bptt_lab.runs.outcome import Interrupted
from bptt_lab.runs.signals import Stop
from bptt_lab.training import checkpoint_io
from bptt_lab.training.callbacks import checkpoints
from bptt_lab.training.train import perform

TEXT = "It was the best of times, it was the worst of times; 1859 (of all years).\n" * 40
DROPOUT = ("model.num_layers=2", "model.dropout=0.5")
ROWS = ("dataset.layout=rows", "dataset.batch_size=100")  # an epoch has 13 batches
RUNS = {
    "digits": (*ROWS, "trainer.max_epochs=3", *DROPOUT),
    "watched": (WATCHED, *ROWS, "trainer.max_epochs=3", *DROPOUT),
    "chunks": (*ROWS, "trainer.max_epochs=2", "dataset.chunk_length=3"),
    "stream": ("dataset=echo", "trainer.max_epochs=2", "dataset.stream_length=300", *DROPOUT),
    "text": ("dataset=text", "trainer.max_epochs=4", "dataset.batch_size=4",
             "dataset.chunk_length=16"),
    "music": ("dataset=music", "trainer.max_epochs=2", "dataset.batch_size=2",
              "dataset.chunk_length=3"),
    "accumulate": (*ROWS, "trainer.max_epochs=2", "trainer.accumulate_grad_batches=3"),
}  # fmt: skip
STRATEGIES = ("full", "truncated", "autograd")
ADAPTIVE = "bptt_lab.gradients.adaptive.Adaptive"
# Each kind of run but the dearest with a strategy; with -m slow each with each.
DEAR = ("watched", "text", "digits", "music")
PAIRS = [
    pytest.param(name, strategy, marks=pytest.mark.slow if name in DEAR or i % 3 != j else ())
    for i, name in enumerate(RUNS)
    for j, strategy in enumerate(STRATEGIES)
]


class StopAfter(Stop):
    """Asks to stop when it has been looked at so many times, once a batch."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        super().__init__()

    def install(self) -> None:
        """Leave pytest its signals."""

    @property
    def asked(self) -> signal.Signals | None:
        self.looks -= 1
        return signal.SIGTERM if self.looks < 0 else None

    @asked.setter
    def asked(self, value: object) -> None:
        assert value is None


def settings(name: str, strategy: str, tmp_path, *more: str, resume=None) -> Experiment:
    overrides = [
        *QUICK,
        f"gradient={strategy}",
        "trainer.log_every_n_steps=4",
        "callbacks.every_n_steps=9",
        *RUNS[name],
        *more,
    ]
    if name == "text":
        (tmp_path / "book.txt").write_text(TEXT)
        overrides.append(f"dataset.path={tmp_path}/book.txt")
    if name == "music":
        overrides.append(f"dataset.path={write_music(tmp_path)}")
    return resumed(config(*overrides), resume) if resume else config(*overrides)


def outcome(folder) -> tuple:
    run = runs.read_run(folder)
    return run.parameters_sha256, run.metrics, run.steps, run.epochs, [*runs.read_metrics(folder)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    known = {}

    def get(name: str, strategy: str) -> tuple:
        if (name, strategy) not in known:
            folder = tmp_path_factory.mktemp("undisturbed")
            perform(settings(name, strategy, folder), folder, job())
            known[name, strategy] = outcome(folder)
            assert known[name, strategy][0]
        return known[name, strategy]

    return get


def stop_and_go_on(folder, config_: Experiment, *looks: int) -> None:
    """Stop after so many batches, several times, then let it end."""
    for times, number in enumerate(looks):
        with pytest.raises(Interrupted):
            attempt = resumed(config_, folder) if times else config_
            perform(attempt, folder, job(), StopAfter(number))
    perform(resumed(config_, folder), folder, job())


@pytest.mark.parametrize(("name", "strategy"), PAIRS)
def test_stopped_and_continued_is_as_never_stopped(
    name, strategy, tmp_path, undisturbed, unpainted
):
    expected = undisturbed(name, strategy)
    # 0: before the first step; then within an epoch, at its end, and within another.
    stop_and_go_on(tmp_path, settings(name, strategy, tmp_path), 0, 2, 8, 5)
    assert outcome(tmp_path) == expected


@pytest.mark.parametrize(
    ("strategy", "more"),
    [
        ("uoro", ()),
        pytest.param("kf_rtrl", (), marks=pytest.mark.slow),
        pytest.param("forward_gradient", (), marks=pytest.mark.slow),
        pytest.param("pes", ("gradient.pairs=2",), marks=pytest.mark.slow),
        pytest.param("artbp", (), marks=pytest.mark.slow),
        pytest.param("rtrl", (), marks=pytest.mark.slow),
        pytest.param("sketched_rtrl", (), marks=pytest.mark.slow),
        pytest.param("sparse_rtrl", (), marks=pytest.mark.slow),
        ("online_bptt", ("gradient.k=40",)),
        pytest.param("snap1", (), marks=pytest.mark.slow),
        pytest.param("adaptive", ("gradient.every=30",), marks=pytest.mark.slow),
        ("credit_clip", ()),
    ],
)
def test_what_a_strategy_draws_and_keeps_goes_on(strategy, more, tmp_path):
    """Influence in the carry, draws by step, and a state of its own."""
    stream = ("model.num_layers=1", "model.dropout=0", *more)
    config_ = settings("stream", strategy, tmp_path, *stream)
    perform(config_, tmp_path / "whole", job())
    stop_and_go_on(tmp_path / "run", config_, 3, 14, 25)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


@pytest.mark.parametrize(
    ("strategy", "more"),
    [
        ("uoro", ()),
        ("adaptive", ("gradient.every=30",)),
        ("feedback_alignment", (f"++gradient.of={{_target_:{ADAPTIVE},every:30}}",)),
    ],
)
def test_a_checkpoint_of_the_old_form_goes_on(strategy, more, tmp_path, monkeypatch):
    """There the carry was (hx, influence), and the strategy kept its estimate."""
    read, seen = checkpoint_io.read, []

    def as_of_old(path, map_location=None):
        checkpoint = read(path, map_location)
        for process in checkpoint["processes"]:
            hx, influence, _, estimate, _ = process["carry"]
            state = {name.lstrip("_"): value for name, value in (estimate or {}).items()}
            seen.append(state)
            process["carry"] = [hx, influence]
            process["gradient"] = {"of": state} if "feedback" in strategy else state
        return checkpoint

    config_ = settings("stream", strategy, tmp_path, "model.num_layers=1", "model.dropout=0", *more)
    perform(config_, tmp_path / "whole", job())
    monkeypatch.setattr(checkpoint_io, "read", as_of_old)
    stop_and_go_on(tmp_path / "run", config_, 17)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    assert all(bool(state) == (strategy != "uoro") for state in seen)
    if strategy != "uoro":
        assert all(state.keys() == {"k", "relative_bias", "period"} for state in seen)


@pytest.mark.parametrize("looks", [11, 12, 13, 14, 25, 26, 27, 38])
def test_every_place_around_an_epochs_end(looks, tmp_path, undisturbed):
    """An epoch has 13 batches; the 40th look comes after the last of three."""
    stop_and_go_on(tmp_path, settings("digits", "full", tmp_path), looks)
    assert outcome(tmp_path) == undisturbed("digits", "full")


def test_without_the_random_state_the_bits_differ(tmp_path, undisturbed, monkeypatch):
    monkeypatch.setattr(checkpoints, "restore_random", lambda saved: None)
    stop_and_go_on(tmp_path, settings("digits", "full", tmp_path), 9)
    assert outcome(tmp_path)[0] != undisturbed("digits", "full")[0]


def test_every_global_generator_goes_on_from_a_file(tmp_path):
    def drawn():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()

    torch.save(checkpoints.random_state(), tmp_path / "state")
    expected = drawn()
    checkpoints.restore_random(torch.load(tmp_path / "state", weights_only=True))
    assert drawn() == expected


@pytest.mark.parametrize("part", ["carry", "watching"])
def test_without_carry_or_windows_the_outcome_differs(part, tmp_path, undisturbed, monkeypatch):
    read = checkpoint_io.read

    def without(path, map_location=None):
        checkpoint = read(path, map_location)
        for process in checkpoint["processes"]:
            process[part] = {"carry": None, "watching": {}}[part]
        return checkpoint

    monkeypatch.setattr(checkpoint_io, "read", without)
    stop_and_go_on(tmp_path, settings("stream", "full", tmp_path), 17)
    assert outcome(tmp_path) != undisturbed("stream", "full")


def test_a_damaged_checkpoint_is_told_and_the_one_before_used(tmp_path, undisturbed, capsys):
    config_ = settings("digits", "full", tmp_path, "checkpoint_seconds=0")
    with pytest.raises(Interrupted):
        perform(config_, tmp_path, job(), StopAfter(20))
    last = tmp_path / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    perform(resumed(config_, tmp_path), tmp_path, job())
    assert "last.ckpt: is not what was written" in capsys.readouterr().err
    assert outcome(tmp_path) == undisturbed("digits", "full")


def test_the_best_parameters_are_those_of_the_least_loss_of_all_attempts(tmp_path):
    rough = ("optimizer=adam", "optimizer.lr=0.3", "dataset.batch_size=130", "model.num_layers=1")
    rough = (*rough, "model.dropout=0", "trainer.ema_decay=null")
    config_ = settings("digits", "full", tmp_path, *rough)
    stop_and_go_on(tmp_path, config_, 25)  # in the last of three epochs of ten steps
    losses = [line["val/loss"] for line in runs.read_metrics(tmp_path) if "val/loss" in line]
    assert losses[0] > losses[1] < losses[2]
    best = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["val/loss"] == pytest.approx(losses[1]) and best["epoch"] == 1


def test_tensorboard_shows_each_point_once(tmp_path):
    config_ = settings("digits", "full", tmp_path)
    stop_and_go_on(tmp_path, config_, 6, 9)
    perform(settings("digits", "full", tmp_path), tmp_path / "whole", job())
    stopped, whole = events(tmp_path), events(tmp_path / "whole")
    assert stopped.Tags() == whole.Tags()
    for tag in whole.Tags()["scalars"]:
        points = [[(e.step, e.value) for e in log.Scalars(tag)] for log in (stopped, whole)]
        assert points[0] == points[1], tag


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("gradient.k=4", r"gradient\.k=4: the run began with 16; give that"),
        ("trainer.log_every_n_steps=9", r"trainer\.log_every_n_steps=9: the run began with 4"),
        (
            "optimizer=sgd",
            r"optimizer\.(_target_|lr)=.*: the run began with .* \(and \d more settings differ\)",
        ),
    ],
)
def test_another_config_is_refused_unless_forced(change, message, tmp_path):
    with pytest.raises(Interrupted):
        perform(settings("digits", "truncated", tmp_path), tmp_path, job(), StopAfter(20))
    other = settings("digits", "truncated", tmp_path, change, resume=str(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=message):
        perform(other, tmp_path, job())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    if "optimizer" not in change:
        perform(resumed(other, tmp_path, force=True), tmp_path, job())
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        assert list(manifest["forced"][0]) == [f"config.{change.partition('=')[0]}"]


def test_other_data_are_refused(tmp_path):
    config_ = settings("text", "full", tmp_path)
    with pytest.raises(Interrupted):
        perform(config_, tmp_path, job(), StopAfter(20))
    (tmp_path / "book.txt").write_text(TEXT.replace("worst", "wurst"))
    with pytest.raises(ConfigError, match=r"data_sha256=.*: the run began with"):
        perform(resumed(config_, tmp_path), tmp_path, job())


def test_another_version_is_refused(tmp_path):
    config_ = settings("digits", "full", tmp_path)
    with pytest.raises(Interrupted):
        perform(config_, tmp_path, job(), StopAfter(20))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["versions"]["torch"] = "2.6.0"
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=r"versions\.torch=.*: the run began with 2\.6\.0"):
        perform(resumed(config_, tmp_path), tmp_path, job())


def test_a_checkpoint_holds_nothing_but_data(tmp_path):
    with pytest.raises(Interrupted):
        perform(settings("stream", "full", tmp_path), tmp_path, job(), StopAfter(20))
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["processes"]


@pytest.mark.parametrize("line", ["a=[", "-m", "seed=1,2", "nonsense=3"])
def test_a_manifest_with_overrides_that_are_none_is_named(line, tmp_path, capsys):
    runs.write_json(tmp_path / "manifest.json", {"overrides": [line], "config": {}})
    assert cli.main([f"resume={tmp_path}"]) == 2
    assert f"{tmp_path}', by its manifest.json)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ({"xyz": 1, "seed": 0}, r"^xyz=1: the run's manifest.json has it, and this version does"),
        ({}, r"^seed=0: the run began without it, by its manifest.json; leave it out, start a new"),
        ({"seed": 1, "xyz": 1}, r"^seed=0: the run began with 1 \(and 1 more settings differ\); g"),
    ],
)
def test_a_manifest_of_another_version_is_called_one(before, message):
    with pytest.raises(ConfigError, match=message):
        resume.compared({"config": before}, {"config": {"seed": 0}})


def test_a_dry_run_shows_how_a_run_stands(tmp_path, capsys):
    lines = (*QUICK, "dataset.layout=rows", "dataset.batch_size=600")
    perform(config(*lines), tmp_path, job(*lines))
    runs.write_status(tmp_path, "completed")
    assert cli.main([f"resume={tmp_path}", "dry_run=true"]) == 0
    assert "completed" in (out := capsys.readouterr().out) and "1 job, 0 steps to do" in out
