"""A whole run: what it leaves behind, that it repeats, and that processes share it fairly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import ranks
import torch
from gradients.test_contract import OPTIONS, made
from runs import QUICK, WATCHED, config, job, quick_run, state_dict
from tasks.samples import SAMPLES

from bptt_lab.core.validation import ConfigError
from bptt_lab.training import processes
from bptt_lab.training.build import build
from bptt_lab.training.callbacks.run_card import flat_settings
from bptt_lab.training.train import train

CONF = Path(__file__).parents[1] / "conf"
RULES = {name: made(section) for name, section in OPTIONS.items()}
STRATEGIES = sorted(RULES)
ONE_LAYER = {name for name, rule in RULES.items() if rule.max_layers == 1}
# Each process draws for itself, or clips credit of a loss that its share has scaled.
OWN_WAYS = {name for name, rule in RULES.items() if rule.claim == "unbiased"} | {"credit_clip"}
TASKS = sorted(path.stem for path in (CONF / "dataset").glob("*.yaml"))
OPTIMIZERS = sorted(path.stem for path in (CONF / "optimizer").glob("*.yaml"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, quick_run(folder, "dataset=digits", "gradient=truncated")


def test_run_folder_holds_its_papers(finished):
    folder, summary = finished
    assert summary["steps"] == 41 and summary["epochs"] == 1 and summary["seconds"] > 0
    assert set(summary["metrics"]) == {"val/loss", "val/accuracy", "test/loss", "test/accuracy"}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["seed"] == 0 and manifest["threads"] == 1 and manifest["device"] == "cpu"
    assert manifest["command"] == "bptt-train dataset=digits gradient=truncated"
    assert manifest["versions"]["torch"] == torch.__version__
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    logged = {tag: line[tag] for line in lines for tag in line}
    for tag, value in summary["metrics"].items():
        assert logged[tag] == pytest.approx(value)


def test_checkpoints_hold_plain_containers_only(finished):
    folder, _ = finished
    for name in ("best", "last"):
        checkpoint = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        module = build(config(*QUICK)).module
        module.load_state_dict(checkpoint["state_dict"])


def test_same_config_and_seed_give_the_same_parameters(finished, tmp_path):
    _, summary = finished
    again = quick_run(tmp_path / "again", "dataset=digits", "gradient=truncated")
    other = quick_run(tmp_path / "other", "dataset=digits", "gradient=truncated", "seed=1")
    assert again["parameters_sha256"] == summary["parameters_sha256"]
    assert other["parameters_sha256"] != summary["parameters_sha256"]


def test_what_ran_before_in_the_process_leaves_no_trace(finished, tmp_path):
    _, summary = finished
    torch.manual_seed(1234)
    torch.rand(17)
    dropout = ("model.num_layers=2", "model.dropout=0.5")
    first = quick_run(tmp_path / "first", *dropout)
    torch.rand(5)
    assert (
        quick_run(tmp_path / "second", *dropout)["parameters_sha256"]
        == (first["parameters_sha256"])
    )
    again = quick_run(tmp_path / "again", "dataset=digits", "gradient=truncated")
    assert again["parameters_sha256"] == summary["parameters_sha256"]


def test_exact_strategies_train_alike(tmp_path):
    precise = ("trainer.precision=64-true", "dataset.chunk_length=20")
    folders = [tmp_path / name for name in ("full", "autograd")]
    for folder in folders:
        quick_run(folder, f"gradient={folder.name}", *precise)
    full, reference = map(state_dict, folders)
    for name in full:
        torch.testing.assert_close(full[name], reference[name], rtol=0, atol=1e-9)


# Every strategy and its task once, but for the dearest task; with -m slow each with each.
PAIRS = [
    pytest.param(
        task,
        strategy,
        marks=pytest.mark.slow if task == "mnist1d" or (j - i) % len(TASKS) else (),
    )
    for i, task in enumerate(TASKS)
    for j, strategy in enumerate(STRATEGIES)
]


@pytest.mark.parametrize(("task", "strategy"), PAIRS)
def test_every_task_trains_under_every_strategy(task, strategy, tmp_path, unpainted):
    if task == "mnist1d":
        pytest.importorskip("mnist1d")
    path = [f"dataset.path={SAMPLES[task](tmp_path)}"] if task in SAMPLES else []
    small = ("dataset.stream_length=40", "dataset.eval_length=20") if task == "chaos" else ()
    own = (f"dataset={task}", f"gradient={strategy}", *path, *small)
    summary = quick_run(tmp_path / "run", WATCHED, *own)
    assert all(torch.isfinite(torch.tensor(v)) for v in summary["metrics"].values())
    assert "recurrence/omega" in (tmp_path / "run" / "metrics.jsonl").read_text()


LIGHTNING = {
    "clip-norm": ("trainer.gradient_clip_val=0.01",),
    "clip-value": ("trainer.gradient_clip_val=0.001", "trainer.gradient_clip_algorithm=value"),
    "accumulate": ("trainer.accumulate_grad_batches=3",),
    "bf16": ("trainer.precision=bf16-mixed", "model.num_layers=2", "model.dropout=0.2"),
    "stack": ("model.num_layers=2", "model.leak=0.5", "model.dropout=0.2"),
}


# Each feature and each strategy; with -m slow each with each.
FEATURES = [
    pytest.param(strategy, feature, marks=() if i % len(LIGHTNING) == j else pytest.mark.slow)
    for i, strategy in enumerate(STRATEGIES)
    for j, feature in enumerate(LIGHTNING)
]


@pytest.mark.parametrize(("strategy", "feature"), FEATURES)
def test_lightning_features_work_for_every_strategy(strategy, feature, tmp_path):
    rows = (
        "dataset.layout=rows",
        "optimizer=sgd",
        "dataset.batch_size=130",
        f"gradient={strategy}",
    )
    options = LIGHTNING[feature]
    plain = quick_run(tmp_path / "plain", *rows)
    if strategy in ONE_LAYER and "model.num_layers=2" in options:
        with pytest.raises(ConfigError, match=r"num_layers=2: must be 1, .*use gradient=full"):
            quick_run(tmp_path / "refused", *rows, *options)
        options = tuple(o for o in options if o.startswith(("trainer.", "model.leak")))
    summary = quick_run(tmp_path / "featured", *rows, *options)
    assert summary["parameters_sha256"] != plain["parameters_sha256"]
    assert torch.isfinite(torch.tensor(summary["metrics"]["test/loss"]))
    for tensor in state_dict(tmp_path / "featured").values():
        assert tensor.dtype == torch.float32


@pytest.mark.parametrize(
    "optimizer",
    [pytest.param(o, marks=() if o in ("adam", "sgd") else pytest.mark.slow) for o in OPTIMIZERS],
)
def test_every_optimizer_learns(optimizer, tmp_path):
    rows = ("dataset.layout=rows", "model.hidden_size=32", "trainer.max_epochs=3")
    summary = quick_run(tmp_path, *rows, f"optimizer={optimizer}")
    assert summary["metrics"]["test/loss"] < 2.0  # chance is 2.30


def test_clipping_bounds_the_step(tmp_path):
    config_ = config(*QUICK, "optimizer=sgd", "optimizer.lr=1", "trainer.gradient_clip_val=0.001",
                     "dataset.batch_size=2000")  # fmt: skip
    before = {k: v.clone() for k, v in build(config_).module.state_dict().items()}
    train(config_, tmp_path, job())
    moved = sum((state_dict(tmp_path)[k] - before[k]).square().sum() for k in before)
    assert float(moved) ** 0.5 == pytest.approx(0.001, rel=1e-3)


SHARED = [
    pytest.param(s, marks=() if s == "rtrl" else pytest.mark.slow)
    for s in STRATEGIES
    if s not in OWN_WAYS
]


@pytest.mark.parametrize("strategy", SHARED)
def test_two_processes_train_as_one(strategy, tmp_path):
    """Shares of 156 and 155, then 27 and 26 images: means must weigh by count to agree."""
    options = (f"gradient={strategy}", "trainer.precision=64-true", "dataset.batch_size=311")
    options += ("dataset.layout=rows", "dataset.chunk_length=3")
    if strategy == "truncated":  # windows of 3, then of 2 chunks
        options += ("trainer.accumulate_grad_batches=3",)
    quick_run(tmp_path / "one", *options)
    (tmp_path / "two").mkdir()
    two = config(*QUICK, *options, "device=ddp_cpu")
    processes.launch(ranks.train_and_keep, (two, tmp_path / "two", job(*options)), 2)
    joined, shared = state_dict(tmp_path / "one"), state_dict(tmp_path / "two")
    for name in joined:
        torch.testing.assert_close(joined[name], shared[name], rtol=0, atol=1e-12)
    a, b = (torch.load(tmp_path / "two" / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a)
    summaries = [json.loads((tmp_path / n / "summary.json").read_text()) for n in ("one", "two")]
    assert summaries[0]["metrics"] == pytest.approx(summaries[1]["metrics"], abs=1e-6)


def test_a_process_that_fails_ends_the_run(tmp_path):
    with pytest.raises(RuntimeError, match="process 1 of 2 ended with exit code 1"):
        processes.launch(ranks.fail_on_one, (tmp_path / "stderr",), 2)
    assert "one is broken" in (tmp_path / "stderr").read_text()


def test_flat_settings_are_plain_and_named_by_choice():
    settings = dict(flat_settings(config("gradient=truncated").plain(), {"gradient": "truncated"}))
    assert settings["gradient"] == "truncated" and settings["gradient.k"] == 16
    assert settings["optimizer.betas"] == "[0.9, 0.999]"
    assert "gradient._target_" not in settings and "gradient.k1" not in settings
    assert all(isinstance(value, bool | int | float | str) for value in settings.values())


def test_run_folder_is_all_that_is_written(finished):
    folder, _ = finished
    names = {p.name for p in folder.iterdir() if not p.name.startswith("events.out")}
    assert names == {
        "checkpoints",
        "hparams.yaml",
        "manifest.json",
        "metrics.jsonl",
        "summary.json",
    }


def test_a_constructors_refusal_names_the_full_key(tmp_path):
    text = tmp_path / "short.txt"
    text.write_text("too short")
    with pytest.raises(ConfigError, match=r"^dataset\.path=.*must hold at least"):
        build(config("dataset=text", f"dataset.path={text}"))


def test_a_loss_in_segments_trains_as_the_whole(tmp_path):
    options = ("dataset=echo", "dataset.chunk_length=50", "trainer.precision=64-true")
    whole = quick_run(tmp_path / "whole", *options)
    parts = quick_run(tmp_path / "parts", *options, "segment_length=7")
    a, b = state_dict(tmp_path / "whole"), state_dict(tmp_path / "parts")
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-10)
    assert parts["metrics"] == pytest.approx(whole["metrics"], abs=1e-6)
