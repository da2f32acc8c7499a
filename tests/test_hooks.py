"""A user's callback is told what Lightning tells one, alone and in a sweep of fleets."""

from __future__ import annotations

from collections import Counter

import pytest
from fleet_runs import QUIET, TASKS, compared
from lightning.pytorch import Callback
from runs import config, quick_run

from bptt_lab.config import fleets
from bptt_lab.core.validation import ConfigError

HOOKS = [name for name in vars(Callback) if name.startswith("on_") or name in ("setup", "teardown")]
# What no run does: another kind of evaluation, or an end by an error.
NEVER = {"on_exception", *(hook for hook in HOOKS if "predict" in hook or "sanity_check" in hook)}
OF_STEPS = {"on_train_batch_start", "on_train_batch_end", "on_before_optimizer_step"}
TOLD: Counter[str] = Counter()


class Every(Callback):
    """Has all hooks."""


for hook in HOOKS:
    setattr(Every, hook, lambda self, *args, hook=hook, **more: TOLD.update([hook]))

LOGGED = "trainer.log_every_n_steps=1"
OWN = (
    "dataset.layout=rows", "dataset.batch_size=400",
    "+callbacks.own._target_=test_hooks.Every", "allow=[test_hooks]",
)  # fmt: skip


def test_every_hook_is_called(tmp_path):
    TOLD.clear()
    quick_run(tmp_path, *OWN, "trainer.max_epochs=2", "trainer.val_check_interval=2", LOGGED)
    assert {*TOLD} == {*HOOKS} - NEVER - {"on_load_checkpoint"}
    assert {TOLD[hook] for hook in OF_STEPS} == {8}
    assert TOLD["on_validation_end"] == 4
    assert TOLD["on_train_epoch_end"] == 2


def test_a_job_with_one_stays_outside_of_fleets_and_is_the_same_inside(tmp_path):
    placed = fleets.place([config(*OWN, f"seed={n}").plain() for n in (0, 1)], 1, 2**40)
    assert [place.why for place in placed] == ["callbacks.own may want to see every batch"] * 2
    jobs = [(*TASKS["echo"], *QUIET, *OWN[2:], f"seed={seed}") for seed in range(2)]
    TOLD.clear()
    compared(tmp_path, jobs)
    assert all(count % 2 == 0 for count in TOLD.values())  # as often in the fleet as alone


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LambdaCallback", "needs functions; name a class of your own"),
        ("BasePredictionWriter", "writes predictions, of which a run makes none; leave it out"),
    ],
)
def test_one_that_could_do_nothing_is_refused(name, message):
    with pytest.raises(ConfigError, match=f"{name}: {message}"):
        config(f"+callbacks.x._target_=lightning.pytorch.callbacks.{name}")


def test_a_summary_that_was_asked_for_is_told(tmp_path, caplog):
    summary = "+callbacks.x._target_=lightning.pytorch.callbacks.ModelSummary"
    quick_run(tmp_path, *OWN[:2], summary, LOGGED)
    assert "VanillaRNN" in caplog.text
