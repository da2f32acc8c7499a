"""Instruments read what the pure functions say, often enough, and leave training alone."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch
from runs import QUICK, WATCHED, config, events, job, quick_run, resumed

from bptt_lab import diagnostics, runs
from bptt_lab.config import strategies
from bptt_lab.config.strategies import packaged
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs.outcome import Diverged
from bptt_lab.training import job as jobs
from bptt_lab.training.build import build
from bptt_lab.training.callbacks.gradient_norms import GradientNorms
from bptt_lab.training.callbacks.lag_spectrum import chosen
from bptt_lab.training.callbacks.pictures import decades
from bptt_lab.training.callbacks.probe import Instrument, Reading
from bptt_lab.training.train import perform

STACK = ("model.num_layers=2", "model.dropout=0.3", "dataset.layout=rows", "gradient=truncated")
SHADOW = "callbacks.shadow=[full,autograd,{name:truncated,k:2,mode:lag}]"
INSTRUMENTS = ("lag_spectrum", "credit_flow", "recurrence")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return quick_run(tmp_path_factory.mktemp("alone"), *STACK)


@pytest.mark.parametrize(
    "only", [*(pytest.param(i, marks=pytest.mark.slow) for i in (*INSTRUMENTS, "shadow")), "all"]
)
def test_training_is_bit_identical_with_instruments(only, alone, tmp_path, unpainted):
    off = [f"~callbacks.{name}" for name in INSTRUMENTS if only not in (name, "all")]
    shadow = [SHADOW] if only in ("shadow", "all") else []
    watched = quick_run(tmp_path, WATCHED, *STACK, *off, *shadow, "callbacks.every_n_steps=1")
    assert watched["parameters_sha256"] == alone["parameters_sha256"]
    assert watched["metrics"] == alone["metrics"]
    tags = {"lag_spectrum": "truncation/cosine_k_001", "recurrence": "recurrence/omega",
            "credit_flow": "credit_log10_at_lag/000", "shadow": "alignment/cosine_autograd",
            "all": "alignment/cosine_training"}  # fmt: skip
    assert len(events(tmp_path).Scalars(tags[only])) == 41


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    truncated = ("gradient=truncated", "gradient.k=16", "trainer.log_every_n_steps=10")
    quick_run(folder, WATCHED, SHADOW, *truncated, "callbacks.every_n_steps=10")
    return folder


def value(folder, tag: str, index: int = 0) -> float:
    return events(folder).Scalars(tag)[index].value


def test_scalars_are_those_of_the_pure_functions(run):
    """At step 0 the network is the one that the config builds."""
    built = build(config(*QUICK, "gradient=truncated", "gradient.k=16"))
    data = built.task.cached("val", 0)
    input, target, mask = (tensor[:, :8] for tensor in data)
    input, rnn = built.task.encode(input), built.module.rnn

    def loss(output):
        elements = built.module.loss(built.module.read_out(output), target)
        return elements[mask].mean()

    spectrum = diagnostics.lag_spectrum(rnn, input, loss)
    for k in (1, 4, 16, 64):
        expected = float(spectrum.cosine["total"][k - 1])
        assert value(run, f"truncation/cosine_k_{k:03d}") == pytest.approx(expected, abs=1e-6)
    flow = diagnostics.credit_flow(rnn, input, loss)
    expected = float(flow.by_lag[0, 16])
    assert value(run, "credit_log10_at_lag/016") == pytest.approx(expected, abs=1e-5)
    omega = diagnostics.omega(rnn, input, loss)
    assert value(run, "recurrence/omega") == pytest.approx(float(omega), rel=1e-5)
    norm = torch.linalg.matrix_norm(rnn.weight_hh_l0.detach(), 2)
    assert value(run, "recurrence/spectral_norm_l0") == pytest.approx(float(norm), rel=1e-5)


def test_shadows_show_what_points_where(run):
    assert value(run, "alignment/cosine_full") == pytest.approx(1)
    assert value(run, "alignment/relative_error_autograd") < 1e-4
    # chunk 16 of a last-step loss is lag 16
    expected = value(run, "truncation/cosine_k_016")
    assert value(run, "alignment/cosine_training") == pytest.approx(expected, abs=1e-5)
    assert value(run, "alignment/cosine_truncated_k_2_mode_lag") < expected


def test_few_tags_and_a_small_run(run):
    tags = events(run).Tags()
    count = sum(len(of_kind) for kind, of_kind in tags.items() if kind != "distributions"
                and isinstance(of_kind, list))  # fmt: skip
    assert count < 80
    assert sum(path.stat().st_size for path in run.glob("events*")) < 3e6
    assert set(tags["images"]) == {
        "truncation/curve", "credit/by_lag_over_training", "credit/by_pair_of_steps",
        "recurrence/eigenvalues",
    }  # fmt: skip


@pytest.mark.slow
def test_pictures_come_at_the_sixteenth_measurement_and_at_the_end(run, tmp_path):
    assert [image.step for image in events(run).Images("truncation/curve")] == [41]
    quick_run(tmp_path, WATCHED, "callbacks.every_n_steps=2")  # at 1, 2, 4, 6 ... 30
    assert [image.step for image in events(tmp_path).Images("truncation/curve")] == [30, 41]


def test_the_layout_asks_for_tags_that_there_are(run):
    import re

    from tensorboard.plugins.custom_scalar import layout_pb2

    log = events(run)
    (event,) = log.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    assert len(layout.category) == 5
    scalars = log.Tags()["scalars"]
    for category in layout.category:
        for chart in category.chart:
            for pattern in chart.multiline.tag:
                assert any(re.fullmatch(pattern, tag) for tag in scalars), pattern
            shown = [t for t in scalars if any(re.fullmatch(p, t) for p in chart.multiline.tag)]
            assert len(shown) <= 5, chart.title


def test_a_last_step_task_in_chunks_is_watched_at_its_end(tmp_path):
    quick_run(tmp_path, WATCHED, "dataset.chunk_length=16", "callbacks.every_n_steps=50")
    assert value(tmp_path, "credit_log10_at_lag/000") > -10


def test_chosen_lags():
    assert chosen(1) == [1] and chosen(8) == [1, 4, 8] and chosen(64) == [1, 4, 16, 64]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "callbacks.shadow=[nope]",
            "callbacks.shadow=nope: must be one of adaptive, artbp",
        ),
        ("callbacks.shadow=[{name:truncated,k:0}]", r"callbacks\.shadow\.k=0: must be at least 1"),
        ("callbacks.shadow=[full,full]", "holds full twice"),
        ("callbacks.shadow=[{_target_:os.system}]", "os.system: is not in bptt_lab"),
        ("callbacks.every_n_steps=0", r"callbacks\.every_n_steps=0: must be at least 1"),
        ("+callbacks.lag=1", "there is no such setting"),
        ("callbacks.recurrence.probe_size=0", r"recurrence\.probe_size=0: must be at least 1"),
    ],
)
def test_wrong_settings_are_refused(override, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        config(*QUICK, WATCHED, override)


def test_shadow_sections():
    found = strategies.shadow_sections(
        ["truncated", {"name": "truncated", "k": 4}, "artbp"], 7, packaged()
    )
    assert list(found) == ["truncated", "truncated_k_4", "artbp"]
    assert found["artbp"]["seed"] == 7
    assert found["truncated_k_4"]["k"] == 4 and found["truncated"]["k"] == 16
    assert found["truncated"]["_target_"] == "bptt_lab.gradients.truncated.Truncated"


def test_a_diverging_run_is_watched_to_its_end(tmp_path):
    wild = ("model.nonlinearity=identity", "model.gain=1e30", "divergence=record")
    settings = config(*QUICK, WATCHED, *wild, "callbacks.every_n_steps=10", SHADOW)
    assert jobs.attempt(settings, tmp_path, job()) == 0


@pytest.mark.parametrize("tag", ["val/loss", "test/loss"])
def test_a_loss_of_an_evaluation_that_is_not_finite_is_divergence(tag):
    module, trainer = SimpleNamespace(metrics={tag: math.inf}), SimpleNamespace(global_step=7)
    note = GradientNorms(every_n_steps=1, divergence="record")
    note.on_validation_end(trainer, module)
    assert note.diverged == f"{tag} is inf at step 7"
    with pytest.raises(Diverged, match=note.diverged):
        GradientNorms(every_n_steps=1, divergence="stop").on_validation_end(trainer, module)


def test_maps_of_credit_share_their_axis_and_their_colours():
    figures = [
        decades("", "", "", 10 * torch.rand(3, 4) - scale, [1, 50, 123]) for scale in (3, 40)
    ]
    for figure in figures:
        axes, bar = figure.axes
        assert axes.get_ylim() == (0.5, 123.5) and axes.get_xlim() == (-0.5, 3.5)
        (mesh,) = axes.collections
        assert mesh.get_clim() == (-10, 0)
        assert bar.get_ylabel() == "log10"
    one = decades("", "", "", torch.zeros(1, 4), [7], first=1).axes[0]
    assert one.get_ylim() == (6.5, 7.5) and one.get_xlim() == (0.5, 4.5)


class Unable(Instrument):
    """Cannot draw what it reads."""

    def read(self, moment):
        return Reading({"unable/step": moment.step})

    def draw(self):
        raise RuntimeError("no picture today")


def test_a_picture_that_fails_costs_no_training(tmp_path, alone):
    own = (
        "+callbacks.own._target_=test_instruments.Unable",
        "+callbacks.own.every_n_steps=40",
        "allow=[test_instruments]",
    )
    with pytest.raises(RuntimeError, match="no picture today"):
        quick_run(tmp_path, *STACK, *own)
    perform(resumed(config(*QUICK, *STACK, *own), tmp_path), tmp_path, job())
    summary = json.loads((tmp_path / runs.SUMMARY).read_text())
    assert summary["parameters_sha256"] == alone["parameters_sha256"]
    assert summary["metrics"] == alone["metrics"]
    lines = runs.read_metrics(tmp_path)
    assert [line["unable/step"] for line in lines if "unable/step" in line] == [1, 40, 41]
