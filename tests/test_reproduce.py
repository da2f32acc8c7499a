"""bptt-reproduce: that its claims hold, what it prints, and that the claims can fail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from bptt_lab.commands.reproduce import claims, cli, topics
from bptt_lab.commands.reproduce.nets import train
from bptt_lab.commands.reproduce.topics import Claim, Kind, Result, Trial

DATA = Path(os.environ.get(cli.DATA, Path(__file__).parents[2] / "shared" / "data"))
SECONDS = ["adaptive_truncation", "local_rules", "task_floors", "truncation", "vanishing"]


def test_claims_of_seconds_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(SECONDS) == 0, capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [claim.name for claim in topics.entries()])
def test_claim_holds(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main([name, "--data", str(DATA)])
    table = capsys.readouterr().out
    assert code == 0, table
    if "1 skip" in table:
        pytest.skip(table)


def test_every_claim_says_where_its_number_comes_from() -> None:
    for claim in topics.entries():
        assert claim.kind in get_args(Kind), claim.name
        assert claim.source and claim.expected, claim.name


def test_thresholds_are_tested_on_seeds_that_they_were_not_set_on() -> None:
    for claim in topics.entries():
        assert not set(claim.set_on) & set(claim.tested_on), claim.name


def test_every_module_is_a_topic_and_names_are_unique() -> None:
    names = [claim.name for claim in topics.entries()]
    assert len(set(names)) == len(names)
    folder = Path(claims.__file__).parent
    modules = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    assert {topics.topic_of(claim.name) for claim in topics.entries()} == modules


def test_slow_claims_are_tested_where_asked_for() -> None:
    quick, both = topics.named([], slow=False), topics.named([], slow=True)
    slow = [claim for claim in both if claim.slow]
    assert slow and not any(claim.slow for claim in quick)
    assert topics.named([slow[0].name], slow=False) == [slow[0]]
    assert topics.named([topics.topic_of(slow[0].name)], slow=False) == []


# What the command says


def _planted(monkeypatch: pytest.MonkeyPatch, *planted: Claim) -> None:
    found = [replace(claim, name=f"truncation.{claim.name}") for claim in planted]
    monkeypatch.setattr(topics, "entries", lambda: iter(found))


def _claim(name: str = "one", passed: bool = True, **more: Any) -> Claim:
    settings = {
        "kind": "published",
        "source": "Somebody 1999",
        "expected": "x < 1",
        "measure": lambda trial: Result(passed, "x = 0.5"),
    }
    return Claim(name=name, **settings | more)


def test_all_hold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _planted(monkeypatch, _claim(set_on=range(3), tested_on=range(10, 13)))
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    for part in (
        "truncation.one",
        "published",
        "Somebody 1999",
        "x < 1",
        "x = 0.5",
        "pass",
        "10-12; set on 0-2",
    ):
        assert part in out


def test_one_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _planted(monkeypatch, _claim(), _claim("two", passed=False))
    assert cli.main([]) == 1
    assert "1 pass, 1 FAIL" in capsys.readouterr().out
    assert cli.main(["truncation.one"]) == 0


def test_one_that_raises(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(trial: Trial) -> Result:
        raise ImportError("no module named bptt_lab.gradients.nothing")

    _planted(monkeypatch, _claim("two", measure=measure), _claim())
    assert cli.main([]) == 1
    out = capsys.readouterr().out
    assert "ImportError: no module named bptt_lab.gradients.nothing" in out
    assert "1 pass, 1 FAIL" in out


def test_data_that_is_not_there_is_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv(cli.DATA, raising=False)
    _planted(monkeypatch, _claim(file="set/file.json"), _claim("two"))
    assert cli.main([]) == 0
    said = "there is no set/file.json; give its folder, --data or BPTT_LAB_DATA"
    assert said in capsys.readouterr().out
    assert cli.main(["--data", str(tmp_path)]) == 0
    assert f"there is no {tmp_path / 'set' / 'file.json'}" in capsys.readouterr().out
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "file.json").touch()
    monkeypatch.setenv(cli.DATA, str(tmp_path))
    assert cli.main([]) == 0
    assert "2 pass" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["truncation.nope"], "bptt-reproduce: truncation.nope: must be a claim, as --list "),
        (["nope"], "bptt-reproduce: nope: must be a claim, as --list shows them, or among "),
        (
            ["--nope"],
            "bptt-reproduce: unrecognized arguments: --nope; ",
        ),
    ],
)
def test_refusals(argv: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith(said) and err.count("\n") == 1


def test_an_unknown_topic_is_refused_before_torch_is_imported() -> None:
    code = (
        "import sys; from bptt_lab.commands.reproduce import cli\n"
        "assert cli.main(['nope']) == 2 and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list"]) == 0
    out = capsys.readouterr().out
    assert "temporal_order.50_steps" in out and "slow" in out and "jsb/" in out


def test_the_first_line_comes_before_torch(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys; from bptt_lab.commands.reproduce import cli, topics\n"
        "def stop(*args, **kw): sys.exit(int('torch' in sys.modules) + 7)\n"
        "cli.named = stop\n"
        "cli.main([])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout == "loading torch ...\n" and found.stderr == ""


def test_each_row_is_printed_before_the_next_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = []

    def measure(trial: Trial) -> Result:
        printed.append(capsys.readouterr().out)
        return Result(True, "x = 0.5")

    planted = [_claim(name, measure=measure, seconds=20.0) for name in ("one", "two")]
    _planted(monkeypatch, *planted)
    assert cli.main([]) == 0
    before, first = printed
    assert "estimate: about 45 processor seconds for 2 claims" in before
    assert "truncation.one" in first and "truncation.two" not in first and "pass" in first
    assert "processor seconds\n" in capsys.readouterr().out


def test_every_claim_says_what_it_costs() -> None:
    assert all(claim.seconds > 0 for claim in topics.entries())


def test_a_net_is_trained_by_a_preset() -> None:
    metrics = train("echo_chunks", "trainer.max_epochs=1", "dataset.stream_length=40")
    assert 0 < metrics["test/loss"] < 2
    assert torch.get_num_threads() == 1
