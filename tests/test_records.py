from __future__ import annotations

import json

import torch

from bptt_lab.runs import write_json
from bptt_lab.training.manifest import parameter_hash
from bptt_lab.training.metrics_log import MetricsLog


def test_hash_sees_names_values_types_and_shapes_but_not_order():
    state = {"a": torch.zeros(2, 3), "b": torch.ones(4)}
    same = {"b": torch.ones(4), "a": torch.zeros(2, 3)}
    assert parameter_hash(state) == parameter_hash(same)
    changed = [
        {"a": torch.zeros(3, 2), "b": torch.ones(4)},
        {"a": torch.zeros(2, 3).double(), "b": torch.ones(4)},
        {"a": torch.zeros(2, 3), "c": torch.ones(4)},
        {"a": torch.zeros(2, 3), "b": torch.ones(4).nextafter(torch.tensor(2.0))},
    ]
    assert len({parameter_hash(s) for s in [state, *changed]}) == 5


def test_hash_is_of_the_values_and_not_of_their_layout():
    matrix = torch.arange(6.0).view(2, 3)
    assert parameter_hash({"a": matrix}) == parameter_hash({"a": matrix.t().contiguous().t()})


def test_metrics_log_appends_a_line_an_event_and_survives_what_is_not_finite(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.log_metrics({"train/loss": 0.5}, 1)
    log.log_metrics({"a": float("nan"), "b": float("-inf")}, 2)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "train/loss": 0.5}, {"step": 2, "a": "nan", "b": "-inf"}]


def test_json_is_written_whole(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    write_json(tmp_path / "x.json", {"a": 2})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
