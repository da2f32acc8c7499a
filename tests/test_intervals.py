"""Validation inside an epoch, and one batch of each to see that all runs."""

from __future__ import annotations

import json

import pytest
from fleet_runs import QUIET, TASKS, compared
from runs import QUICK, config, job, quick_run
from test_resume import StopAfter, outcome, stop_and_go_on

from bptt_lab import runs
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs.outcome import Interrupted
from bptt_lab.training import checkpoint_io
from bptt_lab.training.train import perform

ROWS = ("dataset.layout=rows", "dataset.batch_size=100")  # an epoch has 13 batches
CHUNKS = ("dataset=echo", "dataset.stream_length=120", "dataset.chunk_length=7")  # 18
KINDS = {
    "every third batch": (*ROWS, "trainer.val_check_interval=3", "trainer.max_epochs=2"),
    "every batch": (*ROWS, "trainer.val_check_interval=1", "trainer.max_epochs=2"),
    "a share, with influence": (
        *CHUNKS, "gradient=rtrl", "trainer.val_check_interval=0.3", "trainer.max_epochs=2"
    ),
    "inside of windows": (
        *CHUNKS, "trainer.val_check_interval=3", "trainer.accumulate_grad_batches=2",
        "trainer.max_epochs=2", "callbacks=default", "callbacks.every_n_steps=5",
    ),
}  # fmt: skip


def validated(folder):
    """At which steps a run was validated."""
    return [line["step"] for line in runs.read_metrics(folder) if "val/loss" in line]


@pytest.mark.parametrize(
    ("interval", "steps"),
    [("4", [4, 8, 12, 17, 21, 25]), ("0.5", [6, 12, 19, 25]), ("13", [13, 26]), ("null", [13, 26])],
)
def test_validation_comes_after_so_many_batches_of_each_epoch(interval, steps, tmp_path):
    more = ("trainer.max_epochs=2", f"trainer.val_check_interval={interval}")
    quick_run(tmp_path, *ROWS, *more)
    assert validated(tmp_path) == steps


def test_validation_inside_an_epoch_leaves_training_alone(tmp_path, unpainted):
    """The carry, the average and the readings of instruments are those of a run without."""
    own = (*CHUNKS, "callbacks=default", "callbacks.every_n_steps=5", "gradient=rtrl")
    quick_run(tmp_path / "once", *own)
    quick_run(tmp_path / "often", *own, "trainer.val_check_interval=4")

    def learnt(folder):
        rest = [line for line in runs.read_metrics(folder) if "val/loss" not in line]
        return rest, runs.read_run(folder).parameters_sha256

    assert learnt(tmp_path / "once") == learnt(tmp_path / "often")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    known = {}

    def get(kind):
        if kind not in known:
            folder = tmp_path_factory.mktemp("undisturbed")
            perform(config(*QUICK, *KINDS[kind]), folder, job())
            known[kind] = outcome(folder)
        return known[kind]

    return get


PLACES = [(kind, looks) for kind in KINDS for looks in ((0,), (2,), (3, 1), (5, 1, 5), (11, 2))]


@pytest.mark.parametrize(
    ("kind", "looks"),
    [
        pytest.param(*place, marks=() if number == 0 else pytest.mark.slow)
        for number, place in enumerate(PLACES)
    ],
)
def test_stopped_anywhere_it_ends_as_if_it_had_not_been(
    kind, looks, tmp_path, undisturbed, unpainted
):
    stop_and_go_on(tmp_path, config(*QUICK, *KINDS[kind]), *looks)
    assert outcome(tmp_path) == undisturbed(kind)


def test_a_run_is_saved_inside_an_epoch_that_is_validated_after_every_batch(tmp_path):
    with pytest.raises(Interrupted):
        perform(config(*QUICK, *KINDS["every batch"]), tmp_path, job(), StopAfter(4))
    saved = checkpoint_io.read(tmp_path / "checkpoints" / "last.ckpt", "cpu")
    assert saved["global_step"] == len(validated(tmp_path)) == 5


LONGER = {  # epochs of many steps, so that some are taken in a row
    "echo": ("dataset.stream_length=100",),  # 15
    "adding": ("dataset.train_size=160",),  # 10
}


@pytest.mark.parametrize("more", ["trainer.val_check_interval=4", "trainer.fast_dev_run=true"])
@pytest.mark.parametrize("task", ["echo", pytest.param("adding", marks=pytest.mark.slow)])
def test_a_fleet_does_the_same(task, more, tmp_path):
    own = (*TASKS[task], *QUIET, *LONGER[task], more, "trainer.log_every_n_steps=50")
    assert compared(tmp_path, [(*own, f"seed={seed}") for seed in range(2)]) == 1


def test_an_interval_beyond_the_epoch_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="val_check_interval=14: must be at most 13, the batches"):
        quick_run(tmp_path, *ROWS, "trainer.val_check_interval=14")


@pytest.mark.parametrize(
    ("more", "batches"),
    [
        (ROWS, 1),
        (("dataset=adding", "dataset.num_steps=9", "dataset.chunk_length=4"), 3),  # the last counts
        (CHUNKS, 1),
    ],
)
def test_a_fast_dev_run_takes_a_batch_in_which_something_counts(more, batches, tmp_path, capsys):
    summary = quick_run(
        tmp_path, *more, "trainer.fast_dev_run=true", "trainer.max_epochs=5",
        "trainer.val_check_interval=0.5",
    )  # fmt: skip
    assert summary["steps"] == batches and summary["epochs"] == 1 and summary["fast_dev_run"]
    assert "test/loss" in summary["metrics"]
    assert "it all ran, no more" in capsys.readouterr().out
    assert json.loads((tmp_path / "manifest.json").read_text())["config"]["trainer"]["fast_dev_run"]
