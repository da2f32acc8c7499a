"""The event files read back: every tag of docs/dashboard.md, at the right steps."""

from __future__ import annotations

import itertools
import json
import math
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch
from runs import WATCHED, events, quick_run
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import plugin_data_pb2

from bptt_lab.training.histograms import is_kept

DASHBOARD = Path(__file__).parents[1] / "docs" / "dashboard.md"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    overrides = ("dataset=digits", "gradient=full", "trainer.max_epochs=2")
    overrides = (*overrides, WATCHED, "callbacks.shadow=[autograd]")
    summary = quick_run(folder, *overrides, "trainer.log_every_n_steps=10")
    return events(folder), summary


def documented() -> set[str]:
    """Tags of its table, with <parameter> and the like as patterns."""
    rows = re.findall(
        r"^\| `([a-z_0-9/<> .]+)` +\| (?:scalar|histogram|text|image)", DASHBOARD.read_text(), re.M
    )
    assert len(rows) > 10
    return set(rows)


def matches(pattern: str, tag: str) -> bool:
    return re.fullmatch(re.sub(r"<[a-z ]+>", "[A-Za-z0-9_. ]+", pattern), tag) is not None


def logged(accumulator) -> set[str]:
    tags = accumulator.Tags()
    texts = {tag.removesuffix("/text_summary") for tag in tags["tensors"]}
    known = set(tags["scalars"]) | set(tags["histograms"]) | set(tags["images"]) | texts
    return known - {"custom_scalars__config__"}


def test_page_and_run_list_the_same_tags(run):
    tags, patterns = logged(run[0]), documented()
    for tag in tags:
        assert any(matches(pattern, tag) for pattern in patterns), f"docs/dashboard.md lacks {tag}"
    elsewhere = {p for p in patterns if p.startswith(("exact_shadow/", "gradient/certificate"))}
    elsewhere |= {"lr", "text/sample", "gradient/<reading>", "test/<metric>", "val/<metric>"}
    for pattern in patterns - elsewhere:
        assert any(matches(pattern, tag) for tag in tags), f"no run has {pattern}"


def test_the_page_draws_what_the_run_has(run):
    """That it draws nothing else, its build finds out: `Board` refuses a pattern without a tag."""
    calls = re.findall(r"board\.show\((.*?)\)", DASHBOARD.read_text(), re.S)
    patterns = " ".join(re.findall(r'"([^"]+)"', " ".join(calls))).split()
    assert len(patterns) > 30
    left = {tag for tag in logged(run[0]) if not any(fnmatchcase(tag, p) for p in patterns)}
    assert not left


def test_scalars_stand_at_the_steps_that_they_describe(run):
    accumulator, _ = run

    def steps(tag):
        return [event.step for event in accumulator.Scalars(tag)]

    # 41 steps an epoch, windows of 10, the rest of an epoch at its end.
    assert steps("train/loss") == [10, 20, 30, 40, 41, 51, 61, 71, 81, 82]
    assert steps("val/loss") == steps("val/accuracy") == [41, 82]
    assert steps("test/loss") == steps("test/accuracy") == [82]
    assert steps("gradient_norm/total") == [10, 20, 30, 40, 50, 60, 70, 80]
    assert steps("reference/chance_loss") == [1, 82]
    histogram = "gradient_norm_log10/rnn.weight_hh_l0"
    assert [event.step for event in accumulator.Histograms(histogram)] == steps(
        "gradient_norm/total"
    )
    credit = [event.step for event in accumulator.Histograms("credit_log10/l0")]
    assert credit == [1, 10, 20, 30, 40, 50, 60, 70, 80]


def test_histograms_hold_every_step_and_sequence(run):
    accumulator, _ = run
    for event in accumulator.Histograms("gradient_norm_log10/rnn.weight_hh_l0"):
        assert event.histogram_value.num == 10
    first = accumulator.Histograms("credit_log10/l0")[0].histogram_value
    assert first.num == sum(first.bucket) == 64 * 32


def test_scalars_agree_with_the_summary(run):
    accumulator, summary = run
    for tag, value in summary["metrics"].items():
        assert accumulator.Scalars(tag)[-1].value == pytest.approx(value)
    assert accumulator.Scalars("reference/chance_loss")[0].value == pytest.approx(math.log(10))


def test_hparams_name_settings_and_metrics_and_hold_no_value_of_their_own(run):
    accumulator, _ = run
    content = accumulator.summary_metadata
    plugin = {
        tag: plugin_data_pb2.HParamsPluginData.FromString(meta.plugin_data.content)
        for tag, meta in content.items()
        if meta.plugin_data.plugin_name == "hparams"
    }
    experiment = plugin["_hparams_/experiment"].experiment
    names = {info.name.tag for info in experiment.metric_infos}
    assert names == {"val/loss", "val/accuracy", "test/loss", "test/accuracy"}
    start = plugin["_hparams_/session_start_info"].session_start_info
    assert start.hparams["gradient"].string_value == "full"
    assert start.hparams["model.hidden_size"].number_value == 8
    assert "_hparams_/session_end_info" in plugin
    assert "hp_metric" not in logged(accumulator)


def hyperparameters(folder: Path) -> list[str]:
    plugin = events(folder).summary_metadata["_hparams_/session_start_info"].plugin_data
    content = plugin_data_pb2.HParamsPluginData.FromString(plugin.content)
    return [*content.session_start_info.hparams]


def test_hparams_of_a_sweep_are_what_was_swept(tmp_path, unpainted):
    common = ["dataset=digits", "gradient=truncated"]
    own = [f"model={{leak:{leak}}} seed={n}".split() for leak in (0.5, 1.0) for n in range(2)]
    jobs = [[*common, "gradient.k=4", *lines] for lines in own]
    listed = [{"folder": f"{n:03d}", "overrides": job} for n, job in enumerate(jobs)]
    (tmp_path / "sweep.json").write_text(json.dumps({"command": "", "jobs": listed}))
    given = ("gradient=truncated", "gradient.k=4", "model.leak=0.5", "dataset.layout=rows")
    quick_run(tmp_path / "000", WATCHED, *given)
    names = hyperparameters(tmp_path / "000")
    assert {"model.leak", "seed"} <= set(names)
    assert all(name.startswith(("model", "seed")) for name in names)
    quick_run(tmp_path / "alone" / "run", WATCHED, *given)
    names = hyperparameters(tmp_path / "alone" / "run")
    assert {"gradient", "gradient.k", "model.leak", "optimizer.lr"} <= set(names)


def test_texts_hold_config_and_command(run):
    accumulator, _ = run

    def text(tag):
        return accumulator.Tensors(f"{tag}/text_summary")[0].tensor_proto.string_val[0].decode()

    assert "hidden_size: 8" in text("run/config")
    assert "bptt-train dataset=digits" in text("run/command")


def test_gradient_norms_are_those_before_clipping(tmp_path):
    quick_run(tmp_path, "trainer.gradient_clip_val=1e-6", "trainer.log_every_n_steps=5")
    norms = [event.value for event in events(tmp_path).Scalars("gradient_norm/total")]
    assert min(norms) > 1e-3


def test_exploding_gradients_are_logged_and_not_fatal(tmp_path):
    wild = ("model=irnn", "model.spectral_radius=1e4", "divergence=record")
    quick_run(tmp_path, *wild, "trainer.log_every_n_steps=5")
    accumulator = events(tmp_path)
    assert accumulator.Scalars("credit/nonfinite_fraction")[0].value > 0
    assert accumulator.Histograms("credit_log10/l0")[0].histogram_value.bucket[-1] > 0


def test_truncation_shows_as_steps_without_credit(tmp_path):
    quick_run(tmp_path, "gradient=truncated", "gradient.k=16")
    fraction = events(tmp_path).Scalars("credit/zero_fraction")[0].value
    assert fraction == pytest.approx(48 / 64)  # only the last step has a loss


def test_instruments_leave_training_alone(tmp_path, unpainted):
    stack = (WATCHED, "model.num_layers=2", "model.dropout=0.3")
    watched = quick_run(tmp_path / "a", *stack, "trainer.log_every_n_steps=1")
    rare = quick_run(tmp_path / "b", *stack, "trainer.log_every_n_steps=1000")
    assert watched["parameters_sha256"] == rare["parameters_sha256"]
    assert torch.is_grad_enabled()


def test_events_of_a_long_run_are_small(tmp_path, unpainted):
    """A window of one step has the bytes of one of 50, of which 50,000 steps have a thousand."""
    quick_run(tmp_path, WATCHED, "trainer.log_every_n_steps=1", "callbacks.every_n_steps=20")
    loaders = [RawEventFileLoader(str(file)) for file in tmp_path.glob("events.*")]
    in_windows = {"scalars": 0, "histograms": 0}
    for raw in itertools.chain(*(loader.Load() for loader in loaders)):
        event = Event.FromString(raw)
        for value in event.summary.value:
            tag, share = value.tag.partition("/")[0], len(raw) / len(event.summary.value)
            if value.HasField("histo"):
                in_windows["histograms"] += share * tag.startswith(("gradient", "credit"))
            elif tag in ("train", "gradient_norm", "credit"):
                in_windows["scalars"] += share
    scalar, histogram = (size / 41 for size in in_windows.values())
    assert min(scalar, histogram) > 300
    kept = sum(is_kept(50 * window, 50) for window in range(1, 1001))
    assert 1000 * scalar + kept * histogram < 1.5e6  # and pictures, 20 kB each
