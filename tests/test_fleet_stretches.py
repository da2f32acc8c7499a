"""Steps that a fleet takes in a row: whoever is not told of each has the same notes in the end."""

from __future__ import annotations

import io
import json
import signal

import pytest
import torch
from fleet_runs import QUIET, TASKS, compared, left, side_by_side
from lightning.pytorch import Callback
from runs import config, job

from bptt_lab.runs.outcome import Interrupted
from bptt_lab.runs.signals import Stop
from bptt_lab.tasks.adding import Adding
from bptt_lab.training.callbacks import stretch
from bptt_lab.training.callbacks.bundle import Bundle
from bptt_lab.training.callbacks.probe import Instrument, Reading
from bptt_lab.training.callbacks.training_loss import TrainingLoss
from bptt_lab.training.callbacks.writers import Periodic, write_scalars
from bptt_lab.training.fleet import lockstep
from bptt_lab.training.fleet import stretch as steps
from bptt_lab.training.fleet.fused import Fused
from bptt_lab.training.fleet.lockstep import Lockstep, Replica
from bptt_lab.training.job import attempt

LONG = (
    *TASKS["adding"], "dataset.train_size=192", "dataset.batch_size=8", *QUIET[:3],
    "trainer.log_every_n_steps=10", "model.hidden_size=7",
)  # fmt: skip


@pytest.fixture
def taken(monkeypatch):
    """How many steps each stretch had, and whether a gradient without a step came after it."""
    found = []

    def train(*args):
        told, error = own(*args)
        found.append((told[0].steps, told[0].ready))
        return told, error

    own = steps.train
    monkeypatch.setattr(steps, "train", train)
    return found


def seeds(*own: str, count: int = 3) -> list[tuple[str, ...]]:
    return [(*LONG, *own, f"seed={seed}") for seed in range(count)]


@pytest.mark.parametrize(
    "strategy",
    ["full", "uoro", *(pytest.param(s, marks=pytest.mark.slow) for s in ("artbp", "snap1"))],
)
def test_most_steps_are_taken_in_stretches_with_the_bits_of_each_run(tmp_path, taken, strategy):
    jobs = seeds(f"gradient={strategy}", "trainer.ema_decay=.9", "trainer.gradient_clip_val=.1")[:2]
    assert compared(tmp_path, jobs) == 1
    whole = sum(number for number, _ in taken)
    assert whole + sum(ready for _, ready in taken) == 48
    assert whole > 30
    assert max(number for number, _ in taken) == 9  # the tenth step is written


@pytest.mark.parametrize(
    ("strategy", "ahead"),
    [
        pytest.param("rtrl", 1, marks=pytest.mark.slow),
        ("full", 0),
        pytest.param("rtrl", 0, marks=pytest.mark.slow),
        pytest.param("full", 1, marks=pytest.mark.slow),
    ],
)
def test_chunks_in_which_nothing_counts_are_no_optimizer_steps(tmp_path, taken, strategy, ahead):
    """A loss at the last chunk of three; a run that is ahead begins other sequences than others."""
    compared(tmp_path, seeds("dataset.chunk_length=3", f"gradient={strategy}"), alone=ahead)
    assert max(number for number, _ in taken) > 4


@pytest.mark.parametrize("divergence", ["stop", "record"])
def test_a_gradient_that_is_not_finite_is_told_at_its_step(
    tmp_path, taken, monkeypatch, divergence
):
    def sequences(self, split, epoch):
        data = original(self, split, epoch)
        if split == "train" and self.seed == 1:
            data.input[0, 100] = torch.inf  # of one sequence, so of one step somewhere
        return data

    original = Adding.sequences
    monkeypatch.setattr(Adding, "sequences", sequences)
    jobs = seeds(f"divergence={divergence}", "model.nonlinearity=relu", "trainer.max_epochs=1")
    compared(tmp_path, jobs)
    status = json.loads((tmp_path / "fleet/1/status.json").read_text())
    assert status["status"] == ("diverged" if divergence == "stop" else "completed")
    assert any(ready for _, ready in taken)


class Counting(Callback):
    """Hears of every step, and says nothing of steps that it need not hear of."""

    seen = 0

    def on_train_batch_end(self, *_):
        self.seen += 1

    def on_train_epoch_end(self, trainer, pl_module):
        write_scalars(trainer, {"seen": float(self.seen)}, trainer.global_step)


class Thorough(Instrument):
    """An instrument that hears of every step, beside what it measures."""

    seen = 0

    def read(self, moment):
        return Reading({"seen": float(self.seen)})

    def on_before_optimizer_step(self, *_):
        self.seen += 1


@pytest.mark.parametrize(
    ("kind", "settings"), [("Counting", ()), ("Thorough", ("+callbacks.own.every_n_steps=7",))]
)
def test_who_must_hear_of_every_step_does(tmp_path, taken, kind, settings):
    own = (f"+callbacks.own._target_={__name__}.{kind}", *settings, f"allow=[{__name__}]")
    compared(tmp_path, seeds(*own, count=2))
    assert {number for number, _ in taken} == {0}
    lines = (tmp_path / "fleet/0/metrics.jsonl").read_text().splitlines()
    assert max(json.loads(line).get("seen", 0) for line in lines) == 48


def test_a_class_that_writes_a_hook_speaks_for_itself():
    class Silent(Periodic):
        def on_train_batch_end(self, *_):
            pass

    class Spoken(Silent):
        idle_steps = Periodic.idle_steps

    class Again(Spoken):
        def on_before_optimizer_step(self, *_):
            pass

    class Rhythmic(Spoken):
        def is_due(self, step):
            return step % 2 == 0

    class Each(Callback):
        def on_train_batch_start(self, *_):
            pass

    class Before(Each, Spoken):
        pass

    class After(Spoken, Each):
        pass

    every = {"every_n_steps": 3}
    for kind in (Rhythmic, Before, After):
        assert stretch.noting([kind(**every)]) is None
    own, spoken = Callback(), Spoken(**every)
    assert stretch.noting([own, spoken]) == [spoken]
    assert stretch.noting([spoken, Silent(**every)]) is None
    assert stretch.noting([Again(**every)]) is None
    loss = TrainingLoss(**every)
    assert stretch.noting([Bundle([own, loss])]) is not None
    assert Bundle([Silent(**every), loss]).idle_steps(None) == 0


@pytest.mark.parametrize("last", [9, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4))])
def test_what_fails_within_a_stretch_goes_on_by_itself_from_there(tmp_path, monkeypatch, last):
    calls = []

    def fails(self, *args):
        calls.append(self)
        if len(calls) > last:
            raise ArithmeticError("meant to fail")
        return own(self, *args)

    own = Fused.gradients
    monkeypatch.setattr(Fused, "gradients", fails)
    jobs = seeds("gradient=artbp", count=2)
    side_by_side(tmp_path / "fleet", jobs)
    monkeypatch.undo()
    for number, each in enumerate(jobs):
        attempt(config(*each), tmp_path / "alone" / str(number), job(*each))
        assert left(tmp_path / "fleet" / str(number)) == left(tmp_path / "alone" / str(number))


def test_a_stretch_ends_in_time_for_a_run_to_save_or_stop(tmp_path, taken, monkeypatch):
    monkeypatch.setattr(lockstep, "LONGEST", 0)
    compared(tmp_path, seeds(count=2))
    assert {number for number, _ in taken} == {0, 1}


def test_within_a_stretch_a_signal_is_heard_and_whoever_watches_is_told():
    heard, stop = [], Stop()
    stop.patient = True

    def compute(waiting, goes_on):
        heard.append(goes_on())
        stop.asked = signal.SIGINT
        heard.append(goes_on())

    told = []
    replica = Replica(lambda: replica.ask("a step"), io.StringIO(), stop, draws=False)
    Lockstep([replica], compute, stop, lambda _: None, told.append).run()
    assert heard == [True, False]
    assert told.count(None) == 3  # before all of it, and at each look


def test_a_second_signal_within_a_stretch_ends_every_run(tmp_path, monkeypatch):
    def told_again(*_):
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr(steps, "train", told_again)
    with pytest.raises(Interrupted):
        side_by_side(tmp_path, seeds(count=2))
    for number in "01":
        status = json.loads((tmp_path / number / "status.json").read_text())
        assert (status["status"], status["reason"]) == ("interrupted", "interrupted by SIGINT")


def test_batches_to_come_can_be_looked_at():
    task = Adding(num_steps=5, train_size=10, batch_size=4, chunk_length=2)
    loader = task.train_dataloader()
    known, batches = list(loader), iter(loader)
    assert [len(batches.ahead(count)) for count in (1, 2, 9)] == [1, 2, 2]  # the third is shorter
    assert loader.state_dict() == {"next": 0}
    for index, expected in enumerate(known, 1):
        following = batches.ahead(9)
        shapes = [batch.target.shape for batch in following]
        assert shapes and set(shapes) == {expected.target.shape}
        batch = next(batches)
        assert all(map(torch.equal, batch[:3], expected[:3]))
        assert loader.state_dict() == {"next": index % len(known)}
    assert batches.ahead(3) == [] and next(batches, None) is None
