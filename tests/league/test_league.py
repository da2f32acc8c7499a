"""bptt-league: its files, its page, its refusals, and a strategy's milliseconds."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from runs import composed

from bptt_lab.commands.compare.batch import prepare
from bptt_lab.commands.league import cli, cost, streams
from bptt_lab.config.parse import parse
from bptt_lab.gradients.online_bptt import OnlineBPTT

from .league_folders import league, write_sweep

FILES = ("league.html", "league.csv", "league_pairs.csv", "league.svg", "league.png")
RED = "<script>alert('x')</script>\x1b[31m"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [*csv.DictReader(file)]


def called(sweep: Path, *more: str) -> int:
    return cli.main([str(sweep), "--no-timing", *more])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two streams, one without alignment; two settings of a rule, a run that diverged."""
    jobs = league({"rtrl": 0.2, "snap1": 0.1}, 7, {"rtrl": 0.9, "snap1": 0.4}, series="henon")
    jobs += league({"uoro": 0.4}, 7, {"uoro": 0.1}, series="henon", k=2)
    jobs += league({"uoro": 0.3}, 7, {"uoro": 0.2}, series="henon", k=8)
    jobs += league({"rtrl": 0.1, "snap1": 0.1}, 2, series="<b>lorenz")
    jobs += league({"rtrl": 0.1}, 1, series="logistic", status="waiting")
    jobs[0] |= {"status": "diverged", "reason": RED}
    sweep = write_sweep(tmp_path_factory.mktemp("mixed") / "s", jobs)
    assert called(sweep) == 0
    return sweep


def test_the_page_is_whole_escaped_and_says_what_is_decided(mixed: Path) -> None:
    text = (mixed / "league.html").read_text()
    assert not re.search(r"https?://|url\(|@import|<script|<link", text)
    assert "<b>lorenz" not in text and "&lt;b&gt;lorenz" in text
    assert "&lt;script&gt;" in text and "1 diverged" in text
    assert "League of 4 rules" in text and "uoro, k=2" in text and "uoro, k=8" in text
    assert "No run has logged an alignment: the rules are ranked by error alone." in text
    assert "so no pair can be significant: that takes 6 seeds." in text  # of the second stream
    assert "series=logistic: no run has completed yet." in text
    assert "no two rules have a seed in common" in text.lower()
    assert "Without a network, squared error of the test split: ar 4.0e-06" in text  # of 7 seeds
    assert 'src="data:image/png;base64,' in text and "No step was timed." in text


def test_tables_have_a_row_a_run_and_a_row_a_pair(mixed: Path) -> None:
    rows, pairs = table(mixed / "league.csv"), table(mixed / "league_pairs.csv")
    assert len(rows) == 33 and {row["stream"] for row in rows} == {
        "chaos, series=henon",
        "chaos, series=<b>lorenz",
        "chaos, series=logistic",
    }
    (diverged,) = (row for row in rows if row["status"] == "diverged")
    assert diverged["error"] == "inf" and diverged["alignment"] == ""
    assert "\x1b" not in diverged["reason"]
    of_snap = [row for row in rows if row["rule"] == "snap1" and "henon" in row["stream"]]
    assert {round(float(row["alignment"]), 9) for row in of_snap} == {0.4}
    assert len(pairs) == 6 + 6 + 1
    assert {pair["seeds"] for pair in pairs if pair["quantity"] == "alignment"} == {"6", "7"}


def test_the_terminal_shows_a_table_and_obeys_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_sweep(tmp_path / "s", league({"rtrl": 0.2, "snap1": 0.1}, 6, series="a\x1b[2J"))
    assert called(sweep) == 0
    out, _ = capsys.readouterr()
    assert "\x1b" not in out
    assert re.search(r"^snap1 +6 +0\.\d+ ", out, re.MULTILINE)
    assert r"chaos, series=a\x1b[2J" in out  # its one series, although nothing is swept in it
    assert "1 of 1 pair differ" in out and "league.html" in out


def test_damage_is_refused_on_one_line_or_said_of_its_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_sweep(tmp_path / "s", league({"rtrl": 0.2, "snap1": 0.1}, 2))
    (sweep / "000" / "metrics.jsonl").write_text("nonsense\n")
    (sweep / "001" / "manifest.json").write_text("[]")
    assert called(sweep) == 0
    assert [row["status"] for row in table(sweep / "league.csv")].count("unreadable") == 2
    capsys.readouterr()
    for break_it in (
        lambda: (
            (sweep / "league.html").unlink() or (sweep / "league.html").symlink_to(tmp_path / "x")
        ),
        lambda: (sweep / "sweep.json").write_text("{"),
        lambda: (sweep / "sweep.json").unlink(),
    ):
        break_it()
        assert called(sweep) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("bptt-league: ") and err.count("\n") == 1


def test_a_memory_is_full_before_it_is_timed() -> None:
    config = composed("dataset=echo", "dataset.chunk_length=2", "model.hidden_size=4")
    batch = prepare(parse(config), None)
    looks: list[int] = []

    class Watched(OnlineBPTT):
        def advance(self, chunk: Any, influence: Any) -> tuple[Any, Any]:
            looks.append(0 if influence is None else influence[0].shape[1])
            return super().advance(chunk, influence)

    step = cost._step(batch, Watched(k=10))
    step()
    assert looks[-1] == 9 and len(looks) < 9


def test_a_step_is_timed_for_each_rule_once_and_what_cannot_be_built_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[object]] = []

    def alternate(calls: dict, rounds: None) -> dict:
        given.append([*calls])
        return {key: [0.002 if call() else 0.0, 0.001, 0.004] for key, call in calls.items()}

    monkeypatch.setattr(cost.timing, "alternate", alternate)
    jobs = [{"gradient": rule} for rule in ("snap1", "uoro", "stranger") for _ in range(2)]
    sweep = write_sweep(tmp_path / "s", jobs)
    lines = [
        "dataset=echo",
        "dataset.chunk_length=1",
        "dataset.batch_size=2",
        "model.hidden_size=4",
    ]
    for number, path in enumerate(sorted(sweep.glob("*/manifest.json"))):
        rule = jobs[number]["gradient"]
        known = rule if rule != "stranger" else "rflo"
        config = composed(*lines, f"gradient={known}", f"dataset.stream_length={20 + number % 2}")
        config["gradient"] |= {"_target_": "stranger.Rule"} if rule == "stranger" else {}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"config": config}))
    _, found = streams.read(sweep)
    assert len(found) == 2
    costs = cost.measure(found, [])
    ((first, second),) = given
    assert "SnAp1" in first + second and "UORO" in first + second
    assert len(costs.median) == 4 and set(costs.median.values()) == {2}
    assert set(costs.least.values()) == {1}
    assert "L=1 steps a chunk, N=2 sequences" in costs.place and "H=4 units" in costs.place
    assert list(costs.left_out) == ["stranger"] and "stranger" in costs.left_out["stranger"]
