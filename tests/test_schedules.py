"""Schedules of the learning rate, early stopping and the ends of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

import pytest
import torch
from commands import Fresh
from runs import QUICK, config, job, resumed
from test_resume import StopAfter, outcome, stop_and_go_on
from torch.optim import lr_scheduler

from bptt_lab import runs
from bptt_lab.commands import verify
from bptt_lab.commands.train import cli
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs.outcome import Interrupted
from bptt_lab.runs.signals import Stop
from bptt_lab.training import schedules
from bptt_lab.training.callbacks.checkpoints import Checkpoints
from bptt_lab.training.module import SequenceModule
from bptt_lab.training.patience import Patience
from bptt_lab.training.train import perform

SMALL = (
    *QUICK, "dataset=adding", "dataset.num_steps=6", "dataset.train_size=104",
    "dataset.val_size=16", "dataset.test_size=16", "dataset.batch_size=8",
    "trainer.log_every_n_steps=4", "optimizer.lr=0.02",
)  # fmt: skip
# Each has 13 steps an epoch; validation gets worse where the rate is this high.
ROUGH = ("optimizer=adam", "optimizer.lr=0.1", "trainer.ema_decay=null")
RUNS = {
    "cosine": ("schedule=cosine", "schedule.warmup_steps=17", "trainer.max_epochs=3"),
    "step": ("schedule=step", "schedule.warmup_steps=3", "schedule.step_size=7",
             "trainer.max_epochs=3"),
    "exponential": ("schedule=exponential", "schedule.step_size=9", "trainer.max_epochs=3",
                    "optimizer=nadam"),
    "plateau": (*ROUGH, "schedule=plateau", "schedule.patience=1", "schedule.warmup_steps=15",
                "trainer.max_epochs=6"),
    "early": (*ROUGH, "early_stopping.patience=2", "early_stopping.min_delta=0.001",
              "schedule=plateau", "schedule.patience=1", "trainer.max_epochs=9"),
    "max_steps": ("schedule=cosine", "trainer.max_epochs=null", "trainer.max_steps=31"),
    "accumulated": ("schedule=cosine", "schedule.warmup_steps=4", "trainer.max_epochs=4",
                    "trainer.max_steps=9", "trainer.accumulate_grad_batches=5"),
}  # fmt: skip


def slowly(names: Iterable[str], *slow: str) -> list:
    """Every name, some of them marked slow."""
    return [pytest.param(n, marks=pytest.mark.slow if n in slow else ()) for n in names]


def rates(schedule: schedules.Schedule, total: int) -> list[float]:
    return [schedule.factor(step, total) for step in range(1, total + 1)]


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        (schedules.Cosine(), lambda o: lr_scheduler.CosineAnnealingLR(o, 40)),
        (schedules.Cosine(min_factor=0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, 40, 0.1)),
        (schedules.Step(step_size=7, gamma=0.3), lambda o: lr_scheduler.StepLR(o, 7, 0.3)),
        (
            schedules.Exponential(step_size=10, gamma=0.5),
            lambda o: lr_scheduler.ExponentialLR(o, 0.5**0.1),
        ),
        (schedules.Constant(), lambda o: lr_scheduler.ConstantLR(o, 1.0)),
    ],
)
def test_factors_are_torchs(own, theirs):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, expected = theirs(optimizer), []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(own, 40) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", [schedules.Constant, schedules.Cosine, schedules.Plateau])
def test_warm_up_is_linear_and_comes_before(kind):
    whole = rates(kind(warmup_steps=8), 48)
    assert whole[:8] == [step / 8 for step in range(1, 9)]
    assert whole[8:] == rates(kind(), 40)


def test_a_rate_never_grows_again_after_its_end():
    assert schedules.Cosine(min_factor=0.2).factor(90, 50) == pytest.approx(0.2)
    assert schedules.Cosine(warmup_steps=9).factor(9, 5) == 1.0


def test_patience_counts_validations_that_are_no_better():
    own = Patience(metric="val/loss", patience=2, min_delta=0.1)
    assert [own.ends(x) for x in (1.0, 0.95, 0.85, 0.8, math.nan)] == [False] * 4 + [True]
    assert own.best == 0.85 and own.waited == 2
    again = Patience(metric="val/accuracy", patience=3, min_delta=0)
    assert [again.ends(x) for x in (0.1, 0.3, 0.2, 0.3, 0.1)] == [False] * 4 + [True]


def test_a_plateau_reduces_and_waits_anew():
    own = schedules.Plateau(patience=2, gamma=0.5, min_factor=0.2, warmup_steps=3)
    own.observe(0.0, 3)  # in warm-up
    found = []
    for step, value in enumerate([2, 1, 1, 1, 1, 0, 1, 1, 1, 1], 4):
        own.observe(value, step)
        found.append(own.factor(step + 1, 99))
    assert found == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2]
    other = schedules.Plateau(patience=2, gamma=0.5, min_factor=0.2)
    other.load_state_dict(json.loads(json.dumps(own.state_dict())))
    assert other.state_dict() == own.state_dict() and other.factor(1, 9) == 0.2


def once(*lines: str) -> list[str]:
    """The later of two values of a key."""
    return [*{line.partition("=")[0]: line for line in lines}.values()]


def logged(folder) -> dict[int, float]:
    return {line["step"]: line["lr"] for line in runs.read_metrics(folder) if "lr" in line}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    known = {}

    def get(*own: str):
        if own not in known:
            folder = tmp_path_factory.mktemp("undisturbed")
            perform(config(*SMALL, *own), folder, job(*SMALL, *own))
            known[own] = folder
        return known[own]

    return get


def test_every_step_has_its_rate_and_it_is_written_where_it_changes(
    undisturbed, tmp_path, monkeypatch
):
    def told(self, *args):
        own(self, *args)
        seen.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    own, seen = SequenceModule.stepped, []
    monkeypatch.setattr(SequenceModule, "stepped", told)
    perform(config(*SMALL, *RUNS["cosine"]), tmp_path, job())
    cosine = schedules.Cosine(warmup_steps=17)
    assert seen == [0.02 * factor for factor in rates(cosine, 39)]
    assert logged(tmp_path) == {step: seen[step - 1] for step in (1, *range(4, 39, 4))}
    stairs = logged(undisturbed(*RUNS["step"]))
    assert stairs == pytest.approx(
        {1: 0.02 / 3, 4: 0.02, 12: 2e-3, 20: 2e-4, 28: 2e-5, 32: 2e-6}  # not again at 8, 16, 24
    )


def test_without_a_schedule_no_rate_is_written_and_none_is_set(undisturbed):
    assert logged(undisturbed("trainer.max_epochs=2")) == {}
    warm = logged(undisturbed("trainer.max_epochs=2", "schedule.warmup_steps=6"))
    assert warm == {1: 0.02 * (1 / 6), 4: 0.02 * (4 / 6), 8: 0.02}


@pytest.mark.parametrize("name", slowly(RUNS, *{*RUNS} - {"early", "accumulated"}))
def test_stopped_and_continued_is_as_never_stopped(name, tmp_path, undisturbed):
    whole = undisturbed(*RUNS[name])
    stop_and_go_on(tmp_path, config(*SMALL, *RUNS[name]), 0, 5, 11, 8)
    assert outcome(tmp_path) == outcome(whole)


def test_the_runs_above_do_what_they_are_there_for(undisturbed):
    plateau = logged(undisturbed(*RUNS["plateau"]))
    assert min(plateau.values()) < 0.1 == max(plateau.values())
    early = runs.read_run(undisturbed(*RUNS["early"]))
    assert 2 < early.epochs < 9 and min(logged(early.folder).values()) < 0.1
    steps = runs.read_run(undisturbed(*RUNS["max_steps"]))
    assert (steps.steps, steps.epochs) == (31, 3)
    accumulated = runs.read_run(undisturbed(*RUNS["accumulated"]))
    assert (accumulated.steps, accumulated.epochs) == (9, 3)


@pytest.mark.parametrize("state", ["schedule", "patience"])
def test_without_what_validation_has_shown_the_outcome_differs(
    state, tmp_path, undisturbed, monkeypatch
):
    kind = schedules.Plateau if state == "schedule" else Patience
    monkeypatch.setattr(kind, "load_state_dict", lambda *_: None)
    stop_and_go_on(tmp_path, config(*SMALL, *RUNS["early"]), 54)
    assert outcome(tmp_path) != outcome(undisturbed(*RUNS["early"]))


def test_a_run_says_that_it_stopped_early(tmp_path, capsys):
    perform(config(*SMALL, *RUNS["early"]), tmp_path, job())
    assert "stopped early after" in (out := capsys.readouterr().out)
    assert "val/loss was no better than" in out and "for 2 validations" in out


ENDLESS = "trainer.max_epochs=null"
WITHIN = (ENDLESS, "trainer.val_check_interval=4")
MOVED = ("schedule=plateau", "schedule.patience=1", "early_stopping.patience=9", *ROUGH)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (("trainer.max_epochs=2",), ("trainer.max_epochs=4",)),
        ((ENDLESS, "trainer.max_steps=18"), (ENDLESS, "trainer.max_steps=43")),
        ((ENDLESS, "trainer.max_steps=26"), (ENDLESS, "trainer.max_steps=39")),
        (("trainer.max_steps=7", "trainer.max_epochs=3"), ("trainer.max_epochs=3",)),
        # At a validation inside an epoch.
        ((*WITHIN, "trainer.max_steps=8"), (*WITHIN, "trainer.max_steps=21")),
    ],
)
def test_a_run_whose_end_is_moved_is_as_one_that_began_so(first, then, tmp_path, undisturbed):
    perform(config(*SMALL, *MOVED, *first), tmp_path, job())
    before = runs.read_run(tmp_path)
    perform(resumed(config(*SMALL, *MOVED, *then), tmp_path), tmp_path, job())
    now = runs.read_run(tmp_path)
    assert now.steps > before.steps
    assert outcome(tmp_path) == outcome(undisturbed(*MOVED, *then))
    assert now.manifest["end_moved"]


def test_patience_that_ends_where_a_limit_does_ends_a_run_for_good(tmp_path, undisturbed):
    own = (*ROUGH, *WITHIN, "early_stopping.patience=1", "early_stopping.min_delta=9")
    perform(config(*SMALL, *own, "trainer.max_steps=8"), tmp_path, job())
    later = (*own, "trainer.max_steps=21")
    perform(resumed(config(*SMALL, *later), tmp_path), tmp_path, job())
    assert outcome(tmp_path) == outcome(undisturbed(*later))


@pytest.mark.parametrize(
    "own", [RUNS["early"], (*MOVED, "trainer.max_epochs=2", "trainer.max_steps=18")]
)
def test_what_is_stopped_after_its_end_is_tested_and_trained_no_more(
    own, tmp_path, undisturbed, monkeypatch
):
    def stops(*_):
        raise Interrupted(15)

    monkeypatch.setattr(Checkpoints, "on_test_start", stops)
    with pytest.raises(Interrupted):
        perform(config(*SMALL, *own), tmp_path, job())
    monkeypatch.undo()
    perform(resumed(config(*SMALL, *own), tmp_path), tmp_path, job())
    assert outcome(tmp_path) == outcome(undisturbed(*own))


def test_the_end_that_a_cosine_was_made_for_is_not_moved(tmp_path, monkeypatch, capsys):
    lines = once(*SMALL, *RUNS["cosine"])
    assert cli.main([*lines, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    before = (tmp_path / "run/metrics.jsonl").read_text()
    capsys.readouterr()
    assert cli.main([f"resume={tmp_path / 'run'}", "trainer.max_epochs=5"]) == 2
    err = capsys.readouterr().err
    assert "trainer.max_epochs=5: would have changed the learning rates from the first st" in err
    assert err.count("\n") == 1
    assert (tmp_path / "run/metrics.jsonl").read_text() == before
    forced = [f"resume={tmp_path / 'run'}", "trainer.max_epochs=4", "force_resume=true"]
    assert cli.main(forced) == 0
    assert runs.read_run(tmp_path / "run").steps == 52
    assert "forced" in runs.read_run(tmp_path / "run").manifest


@pytest.mark.parametrize(("earlier", "trained"), [("max_epochs=1", 2), ("max_steps=17", 18)])
def test_an_end_is_not_moved_before_what_was_trained(earlier, trained, tmp_path, capsys):
    lines = once(*SMALL, "trainer.max_epochs=3", "trainer.max_steps=18")
    assert cli.main([*lines, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    capsys.readouterr()
    assert cli.main([f"resume={tmp_path / 'run'}", f"trainer.{earlier}"]) == 2
    err = capsys.readouterr().err
    assert f"must be at least {trained}, which the run has trained" in err


class Ticking(Stop):
    """A clock that is so many seconds further at each look."""

    def __init__(self, each: float = 1.0) -> None:
        super().__init__()
        self.time = 0.0

        def clock() -> float:
            self.time += each
            return self.time

        self.clock = clock

    def install(self) -> None:
        """Leave pytest its signals."""


TIMED = (*ROUGH, "schedule=plateau", "schedule.patience=1")


@pytest.mark.parametrize("limit", slowly(["14", "00:00:00:14", "28"], "14", "28"))
def test_a_run_whose_time_is_over_ends_as_others_do(limit, tmp_path, undisturbed):
    lines = (*SMALL, *TIMED, "trainer.max_epochs=4")
    timed = config(*lines, f"trainer.max_time={limit}")
    perform(timed, tmp_path, job(), Ticking())
    first = runs.read_run(tmp_path)
    assert 8 < first.steps < 30 and "test/loss" in first.metrics and first.parameters_sha256
    perform(resumed(timed, tmp_path), tmp_path, job(), Ticking())  # trains no more
    assert outcome(tmp_path)[0] == first.parameters_sha256
    perform(resumed(config(*lines), tmp_path), tmp_path, job())
    assert outcome(tmp_path) == outcome(undisturbed(*TIMED, "trainer.max_epochs=4"))


def test_a_run_may_end_by_the_clock_alone(tmp_path, capsys):
    lines = (*SMALL, "trainer.max_epochs=null", "trainer.max_time=40")
    perform(config(*lines, "trainer.enable_progress_bar=true"), tmp_path, job(), Ticking())
    assert runs.read_run(tmp_path).steps > 13
    runs.write_status(tmp_path, "completed")
    assert verify.main([str(tmp_path)]) == 2
    assert "trainer.max_time=40 ended it, and no other run ends at" in capsys.readouterr().err


def as_of_old(folder) -> None:
    """Take out of a manifest what earlier versions did not write."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for section in ("schedule", "early_stopping"):
        del manifest["config"][section]
    for name in ("max_steps", "max_time"):
        del manifest["config"]["trainer"][name]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_an_old_run_goes_on_and_is_refused_a_schedule(tmp_path, undisturbed):
    lines = (*SMALL, "trainer.max_epochs=2")
    with pytest.raises(Interrupted):
        perform(config(*lines), tmp_path, job(), StopAfter(16))
    as_of_old(tmp_path)
    for typed in ("schedule=cosine", "early_stopping.patience=3", "schedule.warmup_steps=2"):
        with pytest.raises(ConfigError, match=r"the run began with"):
            perform(resumed(config(*lines, typed), tmp_path), tmp_path, job(typed))
    perform(resumed(config(*lines), tmp_path), tmp_path, job())
    assert outcome(tmp_path) == outcome(undisturbed("trainer.max_epochs=2"))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["trainer.max_epochs=null"], "trainer.max_epochs=null: needs trainer.max_steps or"),
        (["trainer.max_time=soon"], "trainer.max_time=soon: must be above 0, in seconds or as DD"),
        (["trainer.max_time=-3"], "trainer.max_time=-3: must be above 0"),
        (["trainer.max_steps=0"], "trainer.max_steps=0: must be at least 1"),
        (
            ["trainer.max_epochs=null", "trainer.max_time=3", "schedule=cosine"],
            "Cosine: depends on the number of steps; give trainer.max_epochs or trainer.max_steps",
        ),
        (["schedule=linear"], "schedule=linear"),
        (["schedule=step", "schedule.gamma=2"], "schedule.gamma=2: must be less than 1"),
        (["early_stopping.metric=train/loss"], "must be a metric of validation; use val/loss"),
        (["schedule=plateau", "schedule.metric=loss"], "must be a metric of validation"),
        (["schedule.warmup_steps=-1"], "schedule.warmup_steps=-1: must be at least 0"),
        (["early_stopping.patience=0"], "early_stopping.patience=0: must be at least 1"),
        (["schedule._target_=torch.optim.lr_scheduler.StepLR"], "must be a Schedule"),
        (["lr_scheduler=cosine"], "did you mean schedule=cosine"),
        (["+warmup=3"], "did you mean schedule.warmup_steps?"),
        (["optimizer._target_=torch.optim.Muon"], "takes matrices only"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(lines, message, capsys):
    assert cli.main([*lines, "dry_run=true"]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1, err


@pytest.mark.parametrize(
    "key", ["early_stopping.metric", "schedule.metric"]
)  # which metrics there are is the task's to say
def test_a_metric_that_is_not_there_is_refused_before_training(key, tmp_path):
    own = (f"{key}=val/recall", "schedule=plateau", "early_stopping.patience=2")
    with pytest.raises(ConfigError, match=rf"{key}=val/recall: must be one of val/accuracy, val/"):
        perform(config(*SMALL, *own), tmp_path, job())


def test_a_dry_run_counts_steps_to_the_first_end(capsys):
    ends = ("trainer.max_steps=50,9999", "trainer.max_epochs=null,6", "dry_run=true")
    lines = [line for line in once(*SMALL) if "max_epochs" not in line]
    assert cli.main(["-m", *lines, *ends]) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows[1:5] == [["0", "50"], ["1", "50"], ["2", "9999"], ["3", "78"]]


def test_help_knows_of_them(tmp_path):
    out, _ = Fresh("bptt_lab.commands.train.cli:main", ("--help",), tmp_path).communicate()
    for word in ("* constant", "plateau", "schedule.patience=5", "trainer.max_time=null",
                 "early_stopping.patience=null", "optimizer=nadam", "duration"):  # fmt: skip
        assert word in out, word


def test_a_plugs_own_schedule_is_one_class_and_one_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_rates.py").write_text(
        "from bptt_lab.training.schedules import Schedule\n"
        "class Sawtooth(Schedule):\n"
        "    def after_warmup(self, index, count):\n"
        "        return 1 - index % 4 / 4\n"
    )
    (tmp_path / "conf/schedule").mkdir(parents=True)
    (tmp_path / "conf/schedule/saw.yaml").write_text("_target_: own_rates.Sawtooth\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = ["--config-dir", "conf", "allow=[own_rates]", "schedule=saw"]
    each = "trainer.log_every_n_steps=1"
    lines = once(*SMALL, each)
    assert cli.main([*own, *lines, "hydra.run.dir=outputs/run"]) == 0, capsys.readouterr().err
    found = logged(tmp_path / "outputs/run")
    assert [found[step] for step in (1, 2, 3, 4, 5)] == [0.02, 0.015, 0.01, 0.005, 0.02]
    assert verify.main(["outputs/run", "--allow", "own_rates"]) == 0
