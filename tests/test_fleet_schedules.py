"""Jobs of a fleet with schedules and early stopping of their own: each has its own bits."""

from __future__ import annotations

import json

import pytest
from fleet_runs import compared, left, side_by_side
from runs import config, job
from test_fleet_stretches import LONG, taken  # noqa: F401  # a fixture
from test_schedules import slowly

from bptt_lab import runs
from bptt_lab.config import fleets
from bptt_lab.training.fleet import stretch
from bptt_lab.training.job import attempt

SCHEDULES = {
    "cosine": ("schedule=cosine", "schedule.warmup_steps=13", "optimizer.lr=3e-3"),
    "step": ("schedule=step", "schedule.step_size=5", "schedule.gamma=.7"),
    "exponential": ("schedule=exponential", "schedule.step_size=9", "seed=3"),
    "plateau": ("schedule=plateau", "schedule.patience=1", "optimizer.lr=.1", "seed=4"),
    "constant": (),
    "warm": ("schedule.warmup_steps=30", "optimizer.lr=2e-3"),
}


def test_schedules_of_all_kinds_share_a_fleet_and_its_stretches(tmp_path, taken):  # noqa: F811
    jobs = [(*LONG, "trainer.max_epochs=3", *own) for own in SCHEDULES.values()]
    placed = fleets.place([config(*own).plain() for own in jobs], 1, 1 << 40)
    assert {place.fleet for place in placed} == {0}
    assert compared(tmp_path, jobs) == 1
    assert sum(number for number, _ in taken) + sum(ready for _, ready in taken) == 72
    assert max(number for number, _ in taken) == 9  # as without schedules
    found = [{line["lr"] for line in runs.read_metrics(tmp_path / f"fleet/{n}") if "lr" in line}
             for n in range(len(jobs))]  # fmt: skip
    assert [len(rates) for rates in found] == [8, 8, 8, 2, 0, 4]


def test_rates_that_were_those_of_the_first_step_would_show(tmp_path, monkeypatch):
    def late(stack, counted, wants, numbers):
        own(stack, counted, wants, [1 for _ in numbers])

    own = stretch._step
    monkeypatch.setattr(stretch, "_step", late)
    with pytest.raises(AssertionError, match="dataset=adding"):
        compared(tmp_path, [(*LONG, *SCHEDULES["cosine"], f"seed={seed}") for seed in range(2)])


@pytest.mark.parametrize(
    "optimizer", slowly(["sgd", "nadam", "radam", "adamax"], "nadam", "radam", "adamax")
)
def test_steps_in_which_nothing_counts_have_their_place_in_a_schedule(
    tmp_path,
    optimizer,
    taken,  # noqa: F811
):
    own = ("dataset.chunk_length=3", f"optimizer={optimizer}", "trainer.gradient_clip_val=.1")
    jobs = [(*LONG, *own, *SCHEDULES[name]) for name in ("cosine", "step", "warm")]
    assert compared(tmp_path, jobs) == 1
    assert max(number for number, _ in taken) > 4  # in stretches, as without a schedule


@pytest.mark.slow
def test_jobs_that_stop_early_leave_the_others_as_they_are(tmp_path):
    early = ("trainer.max_epochs=5", "trainer.ema_decay=null", "early_stopping.patience=1")
    jobs = [
        (*LONG, *early, f"optimizer.lr={rate}", "schedule=plateau", "schedule.patience=1")
        for rate in (1e-3, 0.3, 3e-3, 0.1)
    ]
    compared(tmp_path, jobs)
    epochs = [json.loads((tmp_path / f"fleet/{n}/summary.json").read_text())["epochs"]
              for n in range(4)]  # fmt: skip
    assert epochs == [4, 3, 2, 4]


def test_jobs_that_gather_gradients_have_their_rates_too(tmp_path):
    own = ("trainer.accumulate_grad_batches=3", "trainer.max_epochs=2")
    compared(tmp_path, [(*LONG, *own, *SCHEDULES[name]) for name in ("cosine", "exponential")])


@pytest.mark.parametrize("steps", [pytest.param(3, marks=pytest.mark.slow), 13, 30])
def test_an_end_by_steps_within_an_epoch(tmp_path, steps):
    own = ("trainer.max_epochs=null", f"trainer.max_steps={steps}")
    compared(tmp_path, [(*LONG, *own, *SCHEDULES[name]) for name in ("cosine", "plateau")])


@pytest.mark.slow
def test_runs_whose_ends_are_moved_go_on_in_a_fleet(tmp_path):
    jobs = [(*LONG, "trainer.max_epochs=3", *SCHEDULES[name]) for name in ("step", "plateau")]
    for number, own in enumerate(jobs):
        short = (*own, "trainer.max_steps=31")
        attempt(config(*short), tmp_path / "fleet" / str(number), job(*short))
        attempt(config(*own), tmp_path / "alone" / str(number), job(*own))
    side_by_side(tmp_path / "fleet", jobs, resume=1)
    for number in "01":
        assert left(tmp_path / "fleet" / number) == left(tmp_path / "alone" / number)
