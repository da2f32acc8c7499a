"""Runs side by side in one process: each has the bits that it has by itself."""

from __future__ import annotations

import json

import pytest
import torch
from fleet_runs import APART, QUIET, TASKS, compared, left, side_by_side
from lightning.pytorch import Callback
from runs import config, job
from tasks.samples import write_music, write_tagging

from bptt_lab.config import fleets
from bptt_lab.gradients import Full, SnAp1
from bptt_lab.tasks.base import ChunkLoader
from bptt_lab.tasks.echo import Echo
from bptt_lab.training.callbacks.writers import write_scalars
from bptt_lab.training.fleet.fused import Fused
from bptt_lab.training.job import attempt

FUSED = ("full", "truncated gradient.k=3", "artbp", "snap1", "uoro", "rtrl", "sparse_rtrl",
         "sketched_rtrl", "online_bptt")  # fmt: skip
ALONE = ("truncated gradient.k=3 gradient.mode=lag", "checkpointed", "credit_clip")


FIRST = ("full", "artbp", "snap1", "sketched_rtrl", "credit_clip")  # of each kind of strategy


@pytest.mark.parametrize(
    "strategy",
    [pytest.param(s, marks=() if s in FIRST else pytest.mark.slow) for s in FUSED + ALONE],
)
def test_every_replica_has_the_bits_of_its_own_run(tmp_path, strategy):
    chosen = f"gradient={strategy}".split()
    jobs = [(*TASKS["echo"], *QUIET, *chosen, *apart) for apart in APART]
    share = compared(tmp_path, jobs)
    assert share == 1 if strategy in FUSED else share < 0.6
    status = json.loads((tmp_path / "fleet/3/status.json").read_text())
    assert status["status"] in ("diverged", "completed")


# A task in one chunk, and one step by step; with -m slow each with each.
LEARNT = [
    pytest.param(task, strategy, marks=() if i == j == 0 else pytest.mark.slow)
    for i, task in enumerate(("adding", "echo_by_step", "digits"))
    for j, strategy in enumerate(("full", "snap1", "rflo"))
]


@pytest.mark.parametrize(("task", "strategy"), [*LEARNT, ("chaos", "snap1")])
def test_every_task_is_learnt_as_alone(tmp_path, task, strategy):
    jobs = [(*TASKS[task], *QUIET, f"gradient={strategy}", f"seed={seed}") for seed in range(3)]
    assert compared(tmp_path, jobs) == 1


def test_dropout_between_layers_draws_what_it_draws_alone(tmp_path):
    more = ("model.num_layers=2", "model.dropout=.4")
    jobs = [(*TASKS["echo"], *QUIET, *more, f"seed={seed}") for seed in range(2)]
    compared(tmp_path, jobs, draws=True)


def test_runs_of_unequal_lengths_leave_the_others_as_they_are(tmp_path):
    jobs = [
        (*TASKS["adding"], *QUIET[:1], f"trainer.max_epochs={epochs}", *QUIET[2:], f"seed={epochs}")
        for epochs in (1, 3, 2)
    ]
    compared(tmp_path, jobs)


def test_a_last_checkpoint_holds_the_generators_of_its_own_run(tmp_path):
    jobs = [(*TASKS["echo"], *QUIET, f"seed={seed}") for seed in range(2)]
    compared(tmp_path, jobs)
    for number in "01":
        found = [
            torch.load(tmp_path / how / number / "checkpoints/last.ckpt")["processes"][0]["random"]
            for how in ("fleet", "alone")
        ]
        assert torch.equal(found[0]["torch"], found[1]["torch"])


@pytest.mark.slow
def test_runs_that_go_on_at_different_steps_validate_as_alone(tmp_path):
    """Each validates in two batches, at the ends of its own epochs."""
    task = (*TASKS["adding"], "dataset.val_size=32")

    def lasting(epochs: int, seed: int) -> tuple[str, ...]:
        return (*task, *QUIET[:1], f"trainer.max_epochs={epochs}", *QUIET[2:], f"seed={seed}")

    for seed, epochs in enumerate((2, 2, 1)):
        own = lasting(epochs, seed)
        attempt(config(*own), tmp_path / "fleet" / str(seed), job(*own))
    jobs = [lasting(4, seed) for seed in range(4)]
    side_by_side(tmp_path / "fleet", jobs, resume=True)
    for seed, own in enumerate(jobs):
        attempt(config(*own), tmp_path / "alone" / str(seed), job(*own))
        assert left(tmp_path / "fleet" / str(seed)) == left(tmp_path / "alone" / str(seed))


def test_double_precision_and_other_optimizers(tmp_path):
    jobs = [
        (*TASKS["echo"], *QUIET, f"optimizer={name}", "trainer.precision=64-true", f"seed={seed}")
        for name in ("sgd", "rmsprop")
        for seed in range(2)
    ]
    compared(tmp_path, jobs)


@pytest.mark.parametrize("average", [pytest.param("null", marks=pytest.mark.slow), ".9"])
def test_jobs_that_now_and_then_have_chunks_of_one_length_keep_their_numbers(tmp_path, average):
    task = ("dataset=tagging", f"dataset.path={write_tagging(tmp_path)}", "dataset.batch_size=2")
    averages = ("null", "null", average)
    jobs = [
        (*task, *QUIET, f"seed={n}", f"trainer.ema_decay={average}")
        for n, average in enumerate(averages, 1)
    ]
    assert 0 < compared(tmp_path, jobs, alone=2) < 1


@pytest.mark.slow
def test_losses_and_metrics_that_are_no_exact_operations_round_as_alone(tmp_path):
    music = ("dataset=music", f"dataset.path={write_music(tmp_path)}", "trainer.max_epochs=1")
    for precision in ("32-true", "64-true"):
        more = ("dataset.batch_size=1", "dataset.chunk_length=3", f"trainer.precision={precision}")
        jobs = [(*music, *QUIET[:1], *QUIET[2:], *more, f"seed={seed}") for seed in range(2)]
        compared(tmp_path / precision, jobs)


def test_a_metric_may_depend_on_the_data_of_its_job(tmp_path):
    sizes = (f"dataset.{part}_size=8" for part in ("train", "val", "test"))
    task = ("dataset=mackey_glass", *sizes, "dataset.batch_size=4")
    compared(tmp_path, [(*task, *QUIET, f"seed={seed}") for seed in range(2)])


class Halved(SnAp1):
    """Replaces what the fast way of its parent leaves out, and draws without asking."""

    def advance(self, chunk, influence):
        after, kept = super().advance(chunk, influence)
        return after * torch.rand(()), kept


class Reservoir(Full):
    """Has no gradient for the recurrent weights, which no optimizer then touches."""

    def assign(self, stack):
        return [swept._replace(grad_weight_hh=None) for swept in super().assign(stack)]


class Counting(Callback):
    """Wants to know of every batch."""

    seen = 0

    def on_validation_batch_end(self, *_):
        self.seen += 1

    def on_train_epoch_end(self, trainer, pl_module):
        write_scalars(trainer, {"seen": float(self.seen)}, trainer.global_step)


class Watched(Echo):
    """A task that shows something of itself."""

    def callbacks(self):
        return [Counting()]


class Plain(ChunkLoader):
    """A loader whose iterator is a plain one."""

    def __iter__(self):
        yield from list(super().__iter__())


class Listed(Echo):
    """A task that has its own loader."""

    def train_dataloader(self):
        return Plain(self, "train")

    def val_dataloader(self):
        return Plain(self, "val")


class Doubled(Echo):
    """A task that changes its batches on their way."""

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch._replace(input=2 * batch.input)


class Drawn(Echo):
    """A task whose metric draws without asking."""

    def score(self, prediction, target):
        scores = super().score(prediction, target)
        return {name: value * torch.rand(()) for name, value in scores.items()}


class Hooking(Callback):
    """Has torch call it."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            pl_module.readout.weight.register_hook(lambda grad: grad * 0.5)
            trainer.optimizers[0].register_step_post_hook(self.halve)

    def halve(self, optimizer, *_):
        with torch.no_grad():
            optimizer.param_groups[0]["params"][0].mul_(0.5)


class Hooked(Echo):
    """A task whose callback changes what torch does, from the second epoch on."""

    def callbacks(self):
        return [Hooking()]


@pytest.mark.parametrize(
    "own",
    [
        "dataset._target_=Doubled",
        "dataset._target_=Drawn",
        "gradient._target_=Reservoir",
        *(
            pytest.param(own, marks=pytest.mark.slow)
            for own in (
                "dataset._target_=Hooked",
                "gradient._target_=Halved",
                "dataset._target_=Watched",
                "dataset._target_=Listed",
            )
        ),
    ],
)
def test_plug_ins_do_what_they_do_alone(tmp_path, own):
    own = (own.replace("=", f"={__name__}."), f"allow=[{__name__}]", "optimizer.weight_decay=.1")
    jobs = [
        (*TASKS["echo_by_step"], *QUIET, "gradient=snap1", *own, f"seed={seed}")
        for seed in range(2)
    ]
    compared(tmp_path, jobs, draws=True)


def test_what_fails_together_is_told_and_done_one_by_one(tmp_path, monkeypatch, capsys):
    def fails(*_):
        raise ArithmeticError("meant to fail")

    monkeypatch.setattr(Fused, "gradients", fails)
    jobs = [(*TASKS["adding"], *QUIET, f"seed={seed}") for seed in range(2)]
    assert compared(tmp_path, jobs) < 1
    told = [line for line in capsys.readouterr().err.splitlines() if "one by one" in line]
    assert told and all("2 jobs" in line and "meant to fail" in line for line in told)


def plain(*overrides: str) -> dict[str, object]:
    return config(*TASKS["echo"], *overrides).plain()


def test_jobs_share_a_fleet_where_they_differ_in_numbers_only():
    numbers = ("seed=1", "optimizer.lr=.5", "model.leak=.5", "trainer.gradient_clip_val=1")
    alike = [plain("gradient=truncated", f"gradient.k={k}", *numbers[:k]) for k in range(1, 5)]
    others = [
        plain("gradient=full"),
        plain("gradient=truncated", "gradient.mode=lag"),
        plain("gradient=truncated", "model.hidden_size=9"),
        plain("gradient=truncated", "dataset.chunk_length=3"),
        plain("gradient=truncated", "optimizer=sgd"),
        plain("gradient=truncated", "trainer.max_epochs=2"),
    ]
    places = fleets.place([*alike, *others], processes=1, memory=2**40)
    assert [place.fleet for place in places] == [0] * 4 + [None] * 6
    assert {place.why for place in places[4:]} == {"no other job is of its kind"}


def test_what_cannot_share_a_process_says_why():
    reasons = {
        "gradient=autograd": "Autograd builds a graph",
        "trainer.precision=bf16-mixed": "casts at every step",
        "device=ddp_cpu": "more than one CPU process",
        "num_threads=2": "shares out one job's batch",
    }
    for setting, reason in reasons.items():
        places = fleets.place([plain(setting, f"seed={n}") for n in range(3)], 1, 2**40)
        assert all(place.fleet is None and reason in place.why for place in places)


def test_fleets_are_as_many_as_processes_and_as_large_as_memory_and_replicas_allow():
    jobs = [plain(f"seed={seed}") for seed in range(10)]

    def sizes(*args):
        found = [place.fleet for place in fleets.place(jobs, *args)]
        return sorted(found.count(number) for number in {*found} - {None})

    assert sizes(1, 2**40) == [10]
    assert sizes(2, 2**40) == [5, 5]
    assert sizes(2, 2**40, 3) == [2, 2, 3, 3]
    assert sizes(1, 4 * fleets.replica_bytes(jobs[0])) == [3, 3, 4]
    assert sizes(1, 2**40, 1) == []
    jobs = jobs[:6]
    assert sizes(2, 2**40, 2) == [2, 2, 2]
    lone = fleets.place(jobs, 1, 2**40, 1)
    assert {place.why for place in lone} == {"hydra.launcher.replicas=1 leaves no place"}
    assert {place.why for place in fleets.place(jobs, 1, 1)} == {"memory is short"}
