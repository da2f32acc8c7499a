"""bptt-reproduce: what it finds, what it says, and that its claims can fail."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bptt_lab.commands.reproduce import cli, families
from bptt_lab.commands.reproduce.claim import Claim, Result, Trial
from bptt_lab.commands.reproduce.claims import (
    adaptive_truncation,
    estimators,
    exact_gradients,
    influence_balancing,
    truncation,
    vanishing,
)
from bptt_lab.commands.reproduce.families import Entry
from bptt_lab.commands.reproduce.training import composed
from bptt_lab.gradients import oracle
from bptt_lab.gradients.kf_rtrl import KFRTRL
from bptt_lab.gradients.truncated import Truncated

PRESETS = Path(__file__).parent.parent / "conf" / "experiment"
QUICK = [entry for entry in families.named([], slow=False) if entry.family != "echo_chunks"]
MINUTE = ("influence_balancing.uoro_learns", "estimators.ratio_grows_with_units")


@pytest.mark.parametrize(
    "entry", [e for e in QUICK if e.name not in MINUTE], ids=lambda entry: entry.name
)
def test_quick_claims_hold(entry: Entry) -> None:
    result = entry.claim.check(Trial(entry.claim.tested_on))
    assert result.passed, result.measured


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MINUTE, "echo_chunks"])
def test_longer_claims_hold(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name]) == 0
    assert "FAIL" not in capsys.readouterr().out


def test_thresholds_are_tested_on_seeds_that_they_were_not_set_on() -> None:
    for entry in families.entries():
        claim = entry.claim
        assert not set(claim.set_on) & set(claim.tested_on), entry.name
        assert claim.source and claim.expected, entry.name


def test_every_module_is_a_family_and_names_are_unique() -> None:
    names = [entry.name for entry in families.entries()]
    assert len(set(names)) == len(names)
    folder = Path(exact_gradients.__file__).parent
    modules = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    assert {entry.family for entry in families.entries()} == modules


def test_slow_claims_are_tested_where_asked_for() -> None:
    quick, both = families.named([], slow=False), families.named([], slow=True)
    slow = [entry for entry in both if entry.claim.slow]
    assert slow and not any(entry.claim.slow for entry in quick)
    assert families.named([slow[0].name], slow=False) == [slow[0]]
    assert families.named([slow[0].family], slow=False) == []


# What the command says


def _planted(monkeypatch: pytest.MonkeyPatch, *claims: Claim) -> None:
    found = [Entry("family", claim) for claim in claims]
    monkeypatch.setattr(families, "entries", lambda: iter(found))


def _claim(name: str = "one", passed: bool = True, **more: Any) -> Claim:
    return Claim(name, "Somebody 1999", "x < 1", lambda trial: Result(passed, "x = 0.5"), **more)


def test_all_hold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _planted(monkeypatch, _claim(set_on=range(3), tested_on=range(10, 13)))
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    for part in ("family.one", "Somebody 1999", "x < 1", "x = 0.5", "pass", "10-12; set on 0-2"):
        assert part in out


def test_one_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _planted(monkeypatch, _claim(), _claim("two", passed=False))
    assert cli.main([]) == 1
    assert "1 pass, 1 FAIL" in capsys.readouterr().out
    assert cli.main(["family.one"]) == 0


def test_one_that_raises(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(trial: Trial) -> Result:
        raise ImportError("no module named bptt_lab.gradients.nothing")

    _planted(monkeypatch, Claim("two", "s", "e", check), _claim())
    assert cli.main([]) == 1
    out = capsys.readouterr().out
    assert "ImportError: no module named bptt_lab.gradients.nothing" in out
    assert "1 pass, 1 FAIL" in out


def test_a_family_that_cannot_be_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.import_module

    def broken(name: str) -> Any:
        if name.endswith("task_floors"):
            raise ImportError("no module named nothing")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", broken)
    assert cli.main(["task_floors", "exact_gradients"]) == 1
    out = capsys.readouterr().out
    assert "cannot be imported: no module named nothing" in out
    assert "4 pass, 1 FAIL" in out


def test_data_that_is_not_there_is_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv(cli.DATA, raising=False)
    _planted(monkeypatch, _claim(file="set/file.json"), _claim("two"))
    assert cli.main([]) == 0
    assert "needs set/file.json: give its folder, --data or BPTT_LAB_DATA" in (
        capsys.readouterr().out
    )
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


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list"]) == 0
    out = capsys.readouterr().out
    assert "temporal_order.50_steps" in out and "slow" in out and "jsb/" in out


# That the claims can fail


def _found(check: Any, *seeds: int) -> bool:
    return bool(check(Trial(seeds)).passed)


def test_an_inexact_strategy_is_not_exact() -> None:
    assert not _found(exact_gradients._check(lambda: Truncated(k=10), (11,)), 0)
    assert not _found(exact_gradients._check(exact_gradients._full, (4,)), 0)  # over chunks


def test_a_mask_off_by_one_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Truncated.mask
    monkeypatch.setattr(
        Truncated, "mask", lambda self, T: real(Truncated(k=self.k + 1, mode=self.mode), T)
    )
    assert not _found(truncation.masks, 10)
    assert not _found(truncation.lag_weights)
    assert not _found(truncation.backward_steps)


def test_another_balance_of_influence_has_other_thresholds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    V = influence_balancing.V.clone()
    V[influence_balancing.POSITIVE] = 1.0
    monkeypatch.setattr(influence_balancing, "V", V)
    monkeypatch.setattr(influence_balancing, "NUM_STEPS", 500)
    assert not _found(influence_balancing._sign("lag", 41))


def test_a_long_truncation_does_not_diverge() -> None:
    theta, furthest = influence_balancing.learn(Truncated(k=120), 1, 480, 300, 1e-2)
    assert theta == pytest.approx(-1 / 6, abs=1e-3) and furthest < 0.5


def test_too_few_signs_raise_the_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    from bptt_lab.gradients import uoro

    monkeypatch.setattr(uoro, "UORO", KFRTRL)
    monkeypatch.setattr(estimators, "DRAWS", 50)
    assert not _found(estimators.at_16, 0)


def test_a_bound_that_is_too_low_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptive_truncation, "initialise", _half(adaptive_truncation.initialise))
    assert not _found(adaptive_truncation.decay, 0)


def test_an_orthogonal_start_is_told_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vanishing, "initialise", _half(vanishing.initialise))
    assert not _found(vanishing.orthogonal, 0)


def _half(real: Any) -> Any:
    """The same start with a gain of half."""

    def initialise(rnn: Any, init: str, gain: float, *rest: Any) -> None:
        real(rnn, init, gain / 2, *rest)

    return initialise


def test_the_oracle_is_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    real = oracle.masked_gradient
    monkeypatch.setattr(
        oracle,
        "masked_gradient",
        lambda G, mask: {n: g * 1.000001 for n, g in real(G, mask).items()},
    )
    assert not _found(exact_gradients._check(exact_gradients._full, (11,)), 0)


# Presets


@pytest.mark.parametrize("preset", ["online_vs_bptt", "echo_chunks", "temporal_order"])
def test_presets_compose(preset: str) -> None:
    assert composed([f"experiment={preset}"])["trainer"]["max_epochs"] > 1
    assert (PRESETS / f"{preset}.yaml").read_text().startswith("# @package _global_\n# ")


def test_a_net_is_trained_by_a_preset() -> None:
    from bptt_lab.commands.reproduce.training import train

    metrics = train("echo_chunks", "trainer.max_epochs=1", "dataset.stream_length=40")
    assert 0 < metrics["test/loss"] < 2
    assert torch.get_num_threads() == 1
