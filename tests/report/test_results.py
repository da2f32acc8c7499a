"""Settings, seeds and keys are told apart; results.csv has a row a job."""

import csv
import json
import math
from pathlib import Path

import pytest

from bptt_lab.commands.report import results, write
from bptt_lab.core.validation import ConfigError

from .sweep_folders import CRASH, SHA, half_finished, strategies, write_sweep


def rows(folder: Path) -> list[dict[str, str]]:
    write.write_csv(results.read(folder), folder / "results.csv")
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_a_job(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", half_finished())
    got = rows(sweep)
    assert [row["folder"] for row in got] == [
        job.run.folder.name for job in results.read(sweep).jobs
    ]
    assert len(got) == 18
    assert list(got[0]) == [
        *("folder", "gradient", "dataset", "gradient.k", "seed", "status", "reason"),
        *("test/accuracy", "test/loss", "test/relative_error", "val/loss"),
        *("seconds", "steps", "epochs", "parameters_sha256"),
    ]
    assert got[0]["gradient.k"] == ""  # full BPTT has none
    assert got[3]["gradient.k"] == "4"
    assert got[3] | {"seed": "0", "status": "completed", "steps": "300"} == got[3]
    assert got[3]["parameters_sha256"] == SHA
    assert got[1]["reason"] == CRASH
    assert got[1]["test/accuracy"] == got[1]["seconds"] == ""
    assert math.isnan(float(got[10]["test/relative_error"]))
    assert got[12] | {"status": "waiting", "gradient": "truncated", "gradient.k": "4"} == got[12]
    assert got[12]["seed"] == "0"


def test_all_digits_are_kept(tmp_path: Path) -> None:
    jobs = [{"lr": 0.0012345678}, {"lr": 0.0012345679, "final": 0.12345678901234567}]
    got = rows(write_sweep(tmp_path / "s", jobs))
    assert [float(row["optimizer.lr"]) for row in got] == [0.0012345678, 0.0012345679]
    assert float(got[1]["test/accuracy"]) == 0.12345678901234567


def test_a_default_shows_where_another_job_overrides_it(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", [{"lr": 0.1}, {}])
    listed = json.loads((sweep / "sweep.json").read_text())
    assert listed["jobs"][1]["overrides"] == []
    assert [row["optimizer.lr"] for row in rows(sweep)] == ["0.1", "0.001"]


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    reasons = ["=1+1", "+1-1", "-x", "@a", "\t=1", "-0.5", "well"]
    jobs = [{"status": "failed", "reason": reason, "lr": -0.5} for reason in reasons]
    got = rows(write_sweep(tmp_path / "s", jobs))
    assert [row["reason"] for row in got] == [
        *("'=1+1", "'+1-1", "'-x", "'@a", "\\t=1", "-0.5", "well")
    ]
    numbers = [{"final": -0.25, "lr": lr} for lr in (-1e-3, float("-inf"))]
    got = rows(write_sweep(tmp_path / "numbers", numbers))
    assert [(row["test/accuracy"], row["optimizer.lr"]) for row in got] == [
        ("-0.25", "-0.001"),
        ("-0.25", "-inf"),
    ]


def test_a_cell_is_one_line_without_control_characters(tmp_path: Path) -> None:
    reason = "a\nb\r\x1b[2J\x07"
    sweep = write_sweep(tmp_path / "s", [{"status": "failed", "reason": reason}])
    assert rows(sweep)[0]["reason"] == r"a\nb\r\x1b[2J\x07"
    assert (sweep / "results.csv").read_bytes().count(b"\n") == 2


def test_a_key_that_some_jobs_do_not_have_is_a_column(tmp_path: Path) -> None:
    jobs = [{"gradient": "full"}, {"gradient": "truncated", "k": 4}]
    sweep = write_sweep(tmp_path / "s", jobs)
    assert [row["gradient.k"] for row in rows(sweep)] == ["", "4"]
    assert results.read(sweep).groups("digits")[1].label == "truncated"


def test_seeds_are_one_setting_and_what_all_share_is_no_key(tmp_path: Path) -> None:
    sweep = results.read(write_sweep(tmp_path / "s", strategies(lr=0.1)))
    assert list(sweep.keys) == ["gradient", "gradient.k"]
    groups = sweep.groups("digits")
    assert [(g.label, len(g.jobs)) for g in groups] == [
        ("full", 3),
        ("truncated, k=4", 3),
        ("truncated, k=16", 3),
    ]
    assert [job.seed for job in groups[0].jobs] == [0, 1, 2]


def test_a_data_seed_that_follows_the_seed_is_no_key_of_its_own(tmp_path: Path) -> None:
    for name, seeds in (("follows", (0, 1)), ("apart", (7, 8))):
        sweep = write_sweep(tmp_path / name, [{"seed": 0}, {"seed": 1}])
        listed = json.loads((sweep / "sweep.json").read_text())
        for job, seed in zip(listed["jobs"], seeds, strict=True):
            job["overrides"].append(f"dataset.seed={seed}")
            manifest = sweep / job["folder"] / "manifest.json"
            content = json.loads(manifest.read_text())
            content["config"]["dataset"]["seed"] = seed
            manifest.write_text(json.dumps(content))
        (sweep / "sweep.json").write_text(json.dumps(listed))
        keys = list(results.read(sweep).keys)
        assert keys == ([] if name == "follows" else ["dataset.seed"])


def test_a_key_is_named_in_full_where_two_end_alike() -> None:
    keys = ["optimizer.lr", "a.k", "b.k"]
    assert results.describe(keys, [0.1, 2, 3]) == "lr=0.1, a.k=2, b.k=3"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"jobs": [{}], "command": ""}', '{"jobs": 3}'])
def test_a_broken_sweep_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(ConfigError, match=r"sweep\.json"):
        results.read(tmp_path)


def test_a_sweep_without_jobs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text('{"command": "", "jobs": []}')
    with pytest.raises(ConfigError, match="no job of this sweep has begun"):
        results.read(tmp_path)
