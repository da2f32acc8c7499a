"""Metrics of torchmetrics beside a task's own: over what counts, however it comes."""

from __future__ import annotations

import math

import pytest
import torch
from fleet_runs import QUIET, TASKS, compared
from runs import QUICK, config, job, quick_run
from sklearn import metrics as sklearn
from tasks.samples import write_music
from test_resume import outcome, stop_and_go_on
from torch.nn.functional import one_hot

from bptt_lab import runs
from bptt_lab.config.metrics import METRICS, TARGETS
from bptt_lab.core.validation import ConfigError
from bptt_lab.training.build import build
from bptt_lab.training.measures import Measures
from bptt_lab.training.train import perform

O = 4


def drawn(kind, steps=23, sequences=5):
    draws = torch.Generator().manual_seed(3)
    prediction = torch.randn(steps, sequences, O, generator=draws)
    target = {
        "classes": torch.randint(O, (steps, sequences), generator=draws),
        "labels": (torch.rand(steps, sequences, O, generator=draws) > 0.7).float(),
        "numbers": prediction + torch.randn(steps, sequences, O, generator=draws),
    }[kind]
    mask = torch.rand(steps, sequences, generator=draws) > 0.3
    mask[5:10] = False  # chunks in which nothing counts
    return prediction, target, mask


def by_sklearn(kind, prediction, target):
    """What scikit-learn says of elements (E, O)."""
    if kind == "numbers":
        return {
            "mae": sklearn.mean_absolute_error(target, prediction),
            "rmse": math.sqrt(sklearn.mean_squared_error(target, prediction)),
            "r2": sklearn.r2_score(target, prediction),
            "explained_variance": sklearn.explained_variance_score(target, prediction),
        }
    chances = prediction.softmax(-1) if kind == "classes" else prediction.sigmoid()
    named = prediction.argmax(-1) if kind == "classes" else prediction > 0
    truth = one_hot(target, prediction.shape[-1]) if kind == "classes" else target
    return {
        "f1": sklearn.f1_score(target, named, average="macro"),
        "precision": sklearn.precision_score(target, named, average="macro", zero_division=0),
        "recall": sklearn.recall_score(target, named, average="macro"),
        "auroc": sklearn.roc_auc_score(truth, chances, average="macro"),
        "average_precision": sklearn.average_precision_score(truth, chances, average="macro"),
        **(
            {
                "cohen_kappa": sklearn.cohen_kappa_score(target, named),
                "matthews": sklearn.matthews_corrcoef(target, named),
            }
            if kind == "classes"
            else {}
        ),
    }


@pytest.mark.parametrize("length", [1, 4, 23])
@pytest.mark.parametrize("kind", METRICS)
def test_chunks_make_what_all_that_counts_makes_at_once(kind, length):
    prediction, target, mask = drawn(kind)
    loss = next(loss for loss, of in TARGETS.items() if of == kind)
    measures = Measures([*METRICS[kind]], loss, O)
    measures.add(-prediction, target, mask)  # of a validation before
    measures.begin()
    for begin in range(0, len(mask), length):
        part = slice(begin, begin + length)
        measures.add(prediction[part], target[part], mask[part])
    found = measures.values()
    assert {*found} == {*METRICS[kind]}
    for name, value in by_sklearn(kind, prediction[mask], target[mask]).items():
        assert found[name] == pytest.approx(value, abs=2e-5), name


def test_one_number_is_no_column():
    prediction, target = torch.randn(9, 2, 1), torch.randn(9, 2, 1)
    measures = Measures(["mae", "r2", "pearson"], "mse", 1)
    measures.add(prediction, target, torch.ones(9, 2, dtype=torch.bool))
    r = torch.corrcoef(torch.stack([prediction.flatten(), target.flatten()]))[0, 1]
    assert measures.values()["pearson"] == pytest.approx(float(r), abs=1e-5)


def test_too_few_elements_and_absent_classes_end_no_run():
    measures = Measures(["r2", "mae"], "mse", 1)
    measures.add(torch.ones(1, 1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool))
    found = measures.values()
    assert math.isnan(found["r2"]) and found["mae"] == 1
    classes = Measures([*METRICS["classes"]], "cross_entropy", O)
    assert {*classes.values()} == {*METRICS["classes"]}
    classes.add(torch.randn(3, 1, O), torch.zeros(3, 1, dtype=int), torch.ones(3, 1, dtype=bool))
    assert {*classes.values()} == {*METRICS["classes"]}


RUN = ("dataset.layout=rows", "dataset.batch_size=400", "metrics=[f1,auroc]")


def test_a_run_has_them_in_validation_and_test_and_keeps_its_bits(tmp_path):
    summary = quick_run(tmp_path / "run", *RUN, "dataset.chunk_length=3")
    plain = quick_run(tmp_path / "plain", *RUN[:2], "dataset.chunk_length=3")
    assert summary["parameters_sha256"] == plain["parameters_sha256"]
    names = {f"{stage}/{name}" for stage in ("val", "test") for name in ("f1", "auroc")}
    assert {*summary["metrics"]} == {*plain["metrics"]} | names


def test_they_are_of_the_network_that_is_tested(tmp_path):
    experiment = config(*QUICK, *RUN, "trainer.ema_decay=null")
    perform(experiment, tmp_path, job())
    task, module = build(experiment)
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    module.load_state_dict(saved["state_dict"])
    data = task.sequences("test", 0)
    with torch.no_grad():
        output, _ = module.rnn(task.encode(data.input))
        guess = module.read_out(output)[data.mask]
    expected = by_sklearn("classes", guess, data.target[data.mask])
    found = runs.read_run(tmp_path).metrics
    assert found["test/f1"] == pytest.approx(expected["f1"], abs=1e-5)
    assert found["test/auroc"] == pytest.approx(expected["auroc"], abs=1e-5)


def test_stopped_and_continued_is_as_never_stopped(tmp_path):
    own = config(*QUICK, *RUN, "trainer.max_epochs=2", "trainer.val_check_interval=1")
    perform(own, tmp_path / "whole", job())
    stop_and_go_on(tmp_path / "run", own, 1, 1)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


@pytest.mark.parametrize(("task", "names"), [("echo", "f1,auroc"), ("adding", "mae,r2")])
def test_a_fleet_has_the_same(task, names, tmp_path):
    own = (*TASKS[task], *QUIET, f"metrics=[{names}]")
    assert compared(tmp_path, [(*own, f"seed={seed}") for seed in range(2)]) == 1


def test_labels(tmp_path):
    more = ("dataset=music", f"dataset.path={write_music(tmp_path)}", "metrics=[f1,auroc]")
    assert "test/auroc" in quick_run(tmp_path / "run", *more)["metrics"]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (("metrics=[f2]",), "metrics=f2: there is no such metric; choose from f1, precision, rec"),
        (
            ("metrics=mae",),
            "metrics=mae: does not fit a task of classes; choose from f1",
        ),
        (("metrics=[f1,f1]",), "metrics=[f1,f1]: names f1 twice; leave one out"),
        (("metrics=[f1]", "dataset=adding"), "does not fit a task of numbers; choose from mae"),
        (("metrics=[f1]", "dataset=series"), "does not fit a task of numbers; choose from mae"),
    ],
)
def test_a_metric_that_is_not_for_the_task_is_refused_before_torch(chosen, message, tmp_path):
    if "dataset=series" in chosen:
        (tmp_path / "a.csv").write_text("x\n1\n2\n")
        chosen = (*chosen, f"dataset.path={tmp_path}/a.csv", "dataset.column=x")
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as refused:
        config(*QUICK, *chosen)
    assert message in str(refused.value)


def test_what_is_known_late_is_refused_before_training(tmp_path):
    with pytest.raises(ConfigError, match="metrics=recall: is the task's own already"):
        quick_run(tmp_path, "dataset=copy_memory", "metrics=[recall]")
