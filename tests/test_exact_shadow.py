"""ExactShadow's readings are those worked out by hand, in any company, and change no run."""

from __future__ import annotations

import copy
from math import sqrt

import pytest
import torch
from fleet_runs import QUIET, TASKS, compared
from runs import QUICK, config, job, quick_run
from test_fleet_stretches import taken  # noqa: F401  # a fixture
from test_resume import stop_and_go_on

from bptt_lab import runs
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients import RTRL, SnAp1, history
from bptt_lab.training.build import build
from bptt_lab.training.callbacks import exact_shadow
from bptt_lab.training.module import SequenceModule
from bptt_lab.training.train import perform

ONLINE = ("callbacks=online", "callbacks.exact_shadow.every_n_steps=1")
EVERY = (*ONLINE, "callbacks.exact_shadow.every_n_sequences=1")
SERIES = (
    "dataset=adding", "dataset.num_steps=11", "dataset.train_size=32", "dataset.batch_size=8",
    "dataset.val_size=4", "dataset.test_size=4", "dataset.chunk_length=1",
)  # fmt: skip
ECHO = ("dataset=echo", "dataset.stream_length=24", "dataset.batch_size=4")
DOUBLE = ("trainer.precision=64-true", "optimizer=adam", "optimizer.lr=.01")


def readings(folder) -> list[dict[str, float]]:
    lines = runs.read_metrics(folder)
    return [line for line in lines if any(name.startswith("exact_shadow/") for name in line)]


@pytest.fixture
def seen(monkeypatch):
    """What each step of training began with, what the shadow compared, and the latest strategy."""
    steps, found = [], []

    def training_step(module, batch, batch_idx):
        steps.append((batch, copy.deepcopy(module.state_dict())))
        return step(module, batch, batch_idx)

    def compare(own, exact):
        found.extend(zip(own.clone(), exact.clone(), strict=True))
        return compared_there(own, exact)

    step, compared_there = SequenceModule.training_step, exact_shadow._compared
    monkeypatch.setattr(SequenceModule, "training_step", training_step)
    monkeypatch.setattr(exact_shadow, "_compared", compare)
    return steps, found


def replayed(steps, experiment, strategy) -> list[torch.Tensor]:
    """The gradients that a strategy finds along the same trajectory."""
    module = build(experiment).module.double()
    module.rnn.gradient, carry, found = strategy, None, []
    for batch, state in steps:
        module.load_state_dict(state)
        module.carry = None if batch.is_first else carry
        before = module.carry_before(batch)
        output, carry = strategy.unroll(module.rnn, batch.input.double(), before)
        module.zero_grad()
        total, _ = module.loss_sum(output, batch._replace(target=batch.target))
        (total / batch.mask.sum()).backward()
        found.append(torch.cat([p.grad.flatten() for p in module.rnn.parameters()]))
    return found


@pytest.mark.parametrize(("length", "leak"), [(1, 1), (5, 0.4)])
def test_readings_are_those_worked_out_by_hand(tmp_path, seen, length, leak):
    own = (*QUICK, *ECHO, *DOUBLE, *EVERY, f"dataset.chunk_length={length}", f"model.leak={leak}",
           "gradient=snap1", "trainer.gradient_clip_val=1e-3")  # fmt: skip
    quick_run(tmp_path, *own)
    steps, found = seen
    exact, trained = (replayed(steps, config(*own), s) for s in (RTRL(), SnAp1()))
    cosines, ratios, errors = [], [], []
    for (own_there, exact_there), g, m in zip(found, exact, trained, strict=True):
        torch.testing.assert_close(exact_there, g, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(own_there, m, rtol=1e-9, atol=1e-12)
        cosines.append(sum(g * m) / sqrt(sum(g * g)) / sqrt(sum(m * m)))
        ratios.append(sqrt(sum(m * m)) / sqrt(sum(g * g)))
        errors.append(sqrt(sum((m - g) ** 2)) / sqrt(sum(g * g)))
    (line,) = readings(tmp_path)
    assert line["step"] == len(steps) == len(cosines)
    for name, values in (("cosine", cosines), ("norm_ratio", ratios), ("relative_error", errors)):
        mean = float(sum(values)) / len(values)
        assert line[f"exact_shadow/{name}"] == pytest.approx(mean, rel=1e-9), name
    assert line["exact_shadow/cosine"] < 0.99


@pytest.mark.parametrize("strategy", ["rtrl", pytest.param("full", marks=pytest.mark.slow)])
def test_an_exact_strategy_points_where_the_exact_one_does(tmp_path, strategy):
    chunk = "dataset.chunk_length=24" if strategy == "full" else "dataset.chunk_length=2"
    quick_run(
        tmp_path, *ECHO, *DOUBLE, *EVERY, chunk, "trainer.max_epochs=2", f"gradient={strategy}"
    )
    found = readings(tmp_path)
    assert len(found) == 2
    for line in found:
        assert line["exact_shadow/cosine"] == pytest.approx(1, abs=1e-9)
        assert line["exact_shadow/norm_ratio"] == pytest.approx(1, abs=1e-9)
        assert line["exact_shadow/relative_error"] < 1e-9
        assert line.get("exact_shadow/influence_error", 0) < 1e-9
        assert ("exact_shadow/influence_error" in line) == (strategy == "rtrl")


def test_the_influence_is_compared_with_the_exact_one(tmp_path, monkeypatch):
    def exact(past):
        kept.append(influence(past))
        return kept[-1]

    kept, influence = [], history.influence
    monkeypatch.setattr(history, "influence", exact)
    quick_run(tmp_path, *ECHO, *DOUBLE, *EVERY, "gradient=snap1", "dataset.chunk_length=1")
    (line,), (M,), (mine,) = readings(tmp_path), kept, [carried(tmp_path)]
    off = sqrt(float(((mine - M) ** 2).sum() / (M**2).sum()))
    assert line["exact_shadow/influence_error"] == pytest.approx(off, rel=1e-12)
    assert 0.1 < off < 1


def carried(folder):
    """SnAp-1's matrix, from the influence of each unit on itself in a run's last checkpoint."""
    saved = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    own_NHJ = saved["processes"][0]["carry"][1]
    return torch.diag_embed(own_NHJ.transpose(1, 2)).permute(0, 2, 3, 1)


@pytest.mark.parametrize(
    "own",
    [
        (*ECHO, "gradient=snap1", "dataset.chunk_length=1", "model.leak=.5"),
        pytest.param((*SERIES, "gradient=truncated", "dataset.chunk_length=4",
                      "trainer.ema_decay=.9"), marks=pytest.mark.slow),
        pytest.param((*ECHO, "gradient=full", "segment_length=3", "dataset.chunk_length=8"),
                     marks=pytest.mark.slow),
        pytest.param((*ECHO, "gradient=full", "model.embedding_size=3"), marks=pytest.mark.slow),
        pytest.param((*ECHO, "gradient=kf_rtrl", "trainer.precision=bf16-mixed"),
                     marks=pytest.mark.slow),
    ],
    ids=str,
)  # fmt: skip
def test_nothing_in_training_changes(tmp_path, own):
    watched, alone = (
        quick_run(tmp_path / name, *own, *more) for name, more in (("w", ONLINE), ("a", ()))
    )
    assert readings(tmp_path / "w")
    assert watched["parameters_sha256"] == alone["parameters_sha256"]


STEPS = (
    "gradient=snap1", "dataset.chunk_length=1", *ONLINE, "trainer.log_every_n_steps=99",
    "callbacks.exact_shadow.every_n_sequences=2", "model.hidden_size=7", "checkpoint_seconds=3600",
)  # fmt: skip


def test_a_fleet_reads_what_a_run_alone_does_and_takes_the_rest_in_stretches(
    tmp_path,
    taken,  # noqa: F811
):
    jobs = [(*SERIES, *QUIET, *STEPS, f"seed={seed}") for seed in range(2)]
    assert compared(tmp_path, jobs) == 1
    # Of two in four sequences all steps but the first, and the epoch's last one, in two epochs.
    assert sum(number for number, _ in taken) == 2 * (10 + 9)
    assert [line["step"] for line in readings(tmp_path / "fleet/0")] == [11, 33, 55, 77]


@pytest.mark.slow
def test_sequences_of_unequal_lengths_are_counted_in_a_fleet(tmp_path):
    own = ("dataset.chunk_length=2", "callbacks.exact_shadow.every_n_sequences=3")
    jobs = [(*TASKS["adding"], *QUIET, *STEPS, *own, f"seed={seed}") for seed in range(2)]
    compared(tmp_path, jobs)
    assert readings(tmp_path / "fleet/1")


@pytest.mark.parametrize(
    "looks",
    [(4, 9), *(pytest.param(n, marks=pytest.mark.slow) for n in ((13,), (17, 11)))],
    ids=str,
)
def test_a_run_that_goes_on_reads_what_it_would_have_read(tmp_path, looks):
    own = config(*QUICK, *SERIES, *STEPS)
    perform(own, tmp_path / "whole", job())
    stop_and_go_on(tmp_path / "parts", own, *looks)
    assert readings(tmp_path / "parts") == readings(tmp_path / "whole")
    assert len(readings(tmp_path / "whole")) == 2


def test_a_long_sequence_is_observed_at_its_beginning(tmp_path, monkeypatch, seen):
    monkeypatch.setattr(exact_shadow, "LONGEST", 10)
    quick_run(tmp_path, *ECHO, *ONLINE, "gradient=snap1", "dataset.chunk_length=4")
    assert len(seen[1]) == 2
    assert [line["step"] for line in readings(tmp_path)] == [2]


def test_refuses_what_it_cannot_follow(tmp_path):
    with pytest.raises(ConfigError, match=r"model.num_layers=2: must be at most 1.*exact_shadow"):
        config(*QUICK, *ECHO, *ONLINE, "model.num_layers=2")
    with pytest.raises(ConfigError, match=r"accumulate_grad_batches=2: must be 1 with ExactShadow"):
        quick_run(tmp_path, *ECHO, *ONLINE, "trainer.accumulate_grad_batches=2")
    with pytest.raises(ConfigError, match="every_n_sequences=0: must be at least 1"):
        config(*QUICK, *ECHO, "callbacks=online", "callbacks.exact_shadow.every_n_sequences=0")
