"""What a league reads of a sweep's folder, and what it makes of the pairs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bptt_lab.commands.league import cli, words
from bptt_lab.commands.league.comparison import compare, correlation
from bptt_lab.commands.league.streams import read
from bptt_lab.core.validation import ConfigError

from .league_folders import league, write_sweep

ALIGNED = {"rtrl": 0.9, "snap1": 0.4, "uoro": 0.1}


def test_error_is_the_last_fifth_and_alignment_all_of_training(tmp_path: Path) -> None:
    _, (stream,) = read(write_sweep(tmp_path / "s", [{"error": 0.5, "cosine": 0.25}]))
    (rule,) = stream.rules
    entry = rule.entries[0]
    assert stream.error == "squared error"
    assert entry.error == rule.error == pytest.approx(0.5)
    assert entry.last_records == pytest.approx((3 * 9 + 1.0) / 5)
    assert entry.alignment == pytest.approx(0.25) and entry.observed("norm_ratio") == 0.5
    assert entry.observed("influence_error") is None


def test_a_run_without_a_record_in_its_last_fifth_has_its_last_record(tmp_path: Path) -> None:
    """300 steps with a record every 200, say: the run completed, so it takes part."""
    sweep = write_sweep(tmp_path / "s", league({"rtrl": 1, "snap1": 2}, 2))
    for summary in sweep.glob("*/summary.json"):
        summary.write_text(json.dumps(json.loads(summary.read_text()) | {"steps": 150}))
    _, (stream,) = read(sweep)
    assert stream.rules[0].errors()[0] == pytest.approx(1.1)
    assert compare(stream, "error").seeds == 2


def test_values_that_look_alike_when_shortened_are_numbered(tmp_path: Path) -> None:
    """Otherwise a stream's comparison would stand beside another stream's name."""
    jobs = [
        {"gradient": "x" * 100 + end, "series": "y" * 100 + path, "error": error}
        for path in "ab"
        for end, error in (("1", 0.1), ("2", 0.2))
    ]
    _, streams = read(write_sweep(tmp_path / "s", jobs))
    assert [stream.name.endswith(" (2)") for stream in streams] == [False, True]
    for stream in streams:
        assert [*stream.mean_ranks().values()] == [1, 2]


def test_streams_and_settings_of_a_strategy_are_told_apart(tmp_path: Path) -> None:
    jobs = [
        {"gradient": gradient, "series": series, "seed": seed, "error": error} | k
        for series in ("henon", "lorenz")
        for gradient, k, error in (
            ("sparse_rtrl", {"k": 4}, 0.3),
            ("sparse_rtrl", {"k": 16}, 0.2),
            ("snap1", {}, 0.1),
        )
        for seed in range(2)
    ]
    _, streams = read(write_sweep(tmp_path / "s", jobs))
    assert [stream.name for stream in streams] == ["chaos, series=henon", "chaos, series=lorenz"]
    for stream in streams:
        assert [r.name for r in stream.rules] == ["snap1", "sparse_rtrl, k=16", "sparse_rtrl, k=4"]
        assert all(len(rule.entries) == 2 for rule in stream.rules)
        assert stream.mean_ranks() == {rule.name: i + 1 for i, rule in enumerate(stream.rules)}


def test_a_diverged_run_is_the_worst_and_others_that_lack_are_left_out(tmp_path: Path) -> None:
    jobs = league({"snap1": 0.1, "rtrl": 0.2, "uoro": 0.15}, 6)
    jobs[12] |= {"status": "diverged", "reason": "train/loss is nan"}
    jobs[0] |= {"status": "failed"}
    jobs[7] |= {"status": "running"}
    jobs[8] |= {"status": "waiting"}
    _, (stream,) = read(write_sweep(tmp_path / "s", jobs))
    rules = {rule.name: rule for rule in stream.rules}
    assert rules["uoro"].errors()[0] == math.inf and rules["uoro"].diverged == 1
    assert words.counted(rules["uoro"]) == "6, 1 diverged"
    assert words.counted(rules["rtrl"]) == "4 of 6"
    pairs = {(p.one.name, p.other.name): p for p in compare(stream, "error").pairs}
    assert {names: pair.seeds for names, pair in pairs.items()} == {
        ("snap1", "uoro"): 5,
        ("snap1", "rtrl"): 3,
        ("uoro", "rtrl"): 4,
    }
    # On seed 0 uoro diverged: the largest rank of four is against it, three are for it.
    assert pairs["uoro", "rtrl"].rank_biserial == pytest.approx((4 - 3 - 2 - 1) / 10)
    assert pairs["uoro", "rtrl"].effect.high == math.inf


def test_a_loss_that_leaves_the_numbers_is_infinite(tmp_path: Path) -> None:
    _, (stream,) = read(write_sweep(tmp_path / "s", [{"error": math.nan}, {"error": math.inf}]))
    assert [entry.error for entry in stream.rules[0].entries.values()] == [math.inf]


def test_what_is_decided_is_said_in_plain_sentences(tmp_path: Path) -> None:
    jobs = league({"snap1": 0.1, "rtrl": 0.2}, 6, ALIGNED)
    jobs += [job | {"gradient": "uoro", "cosine": 0.1} for job in jobs[:6]]
    for job in jobs[12::2]:
        job["error"] *= 1.5
    for job in jobs[13::2]:
        job["error"] /= 1.4
    _, (stream,) = read(write_sweep(tmp_path / "s", jobs))
    comparison = compare(stream, "error")
    assert words.decided(comparison, stream) == []  # 3 pairs of 6 seeds: p = .09 at the least
    assert "the least p that can be reached after Holm is 0.094, so no pair" in words.reach(
        comparison
    )
    assert words.reach(comparison).endswith("that takes 7 seeds.")
    assert words.not_decided(comparison).startswith("Not decided by 6 seeds, 3 of 3 pairs: ")


def test_seven_seeds_decide_what_six_could_not(tmp_path: Path) -> None:
    jobs = league({"snap1": 0.1, "rtrl": 0.2, "uoro": 0.4}, 7, ALIGNED)
    _, (stream,) = read(write_sweep(tmp_path / "s", jobs))
    errors, alignments = compare(stream, "error"), compare(stream, "alignment")
    assert words.decided(errors, stream)[-1] == (
        "rtrl's squared error is below that of uoro: ratio 0.5 (0.5 to 0.5 at 95.3 %), "
        "p = 0.047 after Holm, 7 seeds."
    )
    assert "snap1's alignment is below that of rtrl: difference -0.500" in " ".join(
        words.decided(alignments, stream)
    )
    assert words.not_decided(errors) == ""
    best, middle, worst = stream.rules
    assert errors.beside(best) == (["rtrl", "uoro"], [])
    assert errors.beside(middle) == (["uoro"], ["snap1"])
    assert errors.beside(worst) == ([], ["snap1", "rtrl"])
    assert words.headline(stream, errors).endswith(
        "snap1 has the least median squared error, 0.246, over 7 seeds; "
        "it is significantly below that of 2 of 2 others."
    )


def test_two_exact_rules_differ_by_rounding_alone(tmp_path: Path) -> None:
    jobs = [{"gradient": "rtrl", "seed": seed, "cosine": 1 - 1e-8} for seed in range(8)]
    jobs += [{"gradient": "full_rtrl", "seed": seed, "cosine": 1.0} for seed in range(8)]
    _, (stream,) = read(write_sweep(tmp_path / "s", jobs))
    assert compare(stream, "alignment").decided == compare(stream, "error").decided == []


def test_correlation_of_alignment_and_error(tmp_path: Path) -> None:
    times = {"rtrl": 0.1, "snap1": 0.2, "uoro": 0.3}
    _, (stream,) = read(write_sweep(tmp_path / "s", league(times, 2, ALIGNED)))
    found = correlation(stream)
    assert found is not None and found[:2] == (3, pytest.approx(-1))
    assert found[2] == pytest.approx(1 / 3)
    assert "does not tell" in words.correlated(stream)
    _, (two,) = read(write_sweep(tmp_path / "t", league({"rtrl": 1, "uoro": 2}, 2, ALIGNED)))
    assert correlation(two) is None and words.correlated(two) == ""


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    _, (stream,) = read(write_sweep(tmp_path / "s", league({"snap1": 0.1, "rtrl": 0.2}, 1)))
    comparison = compare(stream, "error")
    assert comparison.pairs[0].p == 1 and comparison.pairs[0].effect.level == 0
    assert words.reach(comparison).endswith("so no pair can be significant: that takes 6 seeds.")


def test_what_is_no_stream_is_refused(tmp_path: Path) -> None:
    sweep = write_sweep(
        tmp_path / "s", [{"offline": True, "status": "running"}, {"status": "waiting"}]
    )
    with pytest.raises(ConfigError, match="no run of it has logged train/loss; give a sweep"):
        read(sweep)


def test_where_all_runs_failed_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    failed = {"offline": True, "status": "failed", "reason": "ValueError: no"}
    sweep = write_sweep(tmp_path / "s", [failed, failed | {"seed": 1}])
    with pytest.raises(ConfigError, match="all of them ended before, the first as ValueError: no"):
        read(sweep)


def test_two_runs_of_a_setting_and_a_seed_are_said(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", [{"error": 0.1}, {"error": 0.2}, {"seed": 1}])
    _, (stream,) = read(sweep)
    assert "Left out: 1 run with the setting and the seed of a later one." in [
        *words.warnings(stream)
    ]
    assert 0.2 in stream.rules[0].errors().values()


def test_where_all_diverged_the_headline_says_so(tmp_path: Path) -> None:
    jobs = league({"rtrl": 0.1, "snap1": 0.2}, 2, {"rtrl": 1.0, "snap1": 0.5}, status="diverged")
    sweep, (stream,) = read(write_sweep(tmp_path / "s", jobs))
    said = words.headline(stream, compare(stream, "error"))
    assert said == "chaos: of each rule half of the runs or more diverged."
    assert cli.main([str(sweep.folder), "--no-timing"]) == 0


def test_runs_too_short_to_log_a_loss_are_told_so(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", [{"offline": True}])
    with pytest.raises(ConfigError, match=r"fewer steps than trainer\.log_every_n_steps"):
        read(sweep)
