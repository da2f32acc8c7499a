"""Means, spreads, ranks and times to a target, against numbers worked out by hand."""

import json
import math
from pathlib import Path

import pytest

from bptt_lab.commands.report import curves, palette, panels, scores, tables, tidy
from bptt_lab.commands.report.curves import Band
from bptt_lab.commands.report.scores import Standing

from .papers import half_finished, strategies, write_sweep


def stand(folder: Path, dataset: str = "digits", target: float | None = None) -> Standing:
    return scores.stand(tidy.read(folder), dataset, target)


def test_a_band_is_mean_and_sample_deviation_over_those_that_got_there() -> None:
    got = curves.band([{10: 1.0, 20: 5.0}, {10: 3.0}])
    assert got == [Band(10, 2.0, pytest.approx(math.sqrt(2)), 2), Band(20, 5.0, None, 1)]
    assert curves.log_band([{1: math.e, 2: 0.0}]) == [Band(1, 1.0, None, 1)]


@pytest.mark.parametrize("size", [1e300, 1.7e308])
def test_large_values_do_not_overflow(size: float) -> None:
    mean, sd = curves.mean_sd([size, size, size / 2])
    assert mean == pytest.approx(size * (5 / 6))
    assert sd == pytest.approx(size / math.sqrt(12))


def test_what_is_not_finite_or_half_written_is_left_out_of_curves(tmp_path: Path) -> None:
    jobs = [{"status": "diverged"}, {"status": "running", "seed": 1}]
    sweep = tidy.read(write_sweep(tmp_path / "s", jobs))
    for job in sweep.jobs:
        read = curves.read(job.run.folder, {"val/loss", "gradient_norm/total"})
        assert list(read["val/loss"]) == [30, 60, 90, 120, 150]
        assert 999 not in read["gradient_norm/total"]
    assert curves.read(tmp_path / "nowhere", {"val/loss"}) == {}


def test_best_first_by_accuracy_and_by_error(tmp_path: Path) -> None:
    finals = {"full": 0.7, "truncated": 0.9, "autograd": math.nan}
    for dataset, best in (("digits", "truncated"), ("mackey_glass", "full")):
        jobs = [{"gradient": g, "final": f, "dataset": dataset} for g, f in finals.items()]
        jobs.append({"gradient": "checkpointed", "status": "waiting", "dataset": dataset})
        standing = stand(write_sweep(tmp_path / dataset, jobs), dataset)
        order = [score.group.strategy for score in standing.scores]
        assert order[0] == best
        assert order[2:] == ["autograd", "checkpointed"]  # not finite; none at all


def test_mean_and_spread_are_over_completed_seeds(tmp_path: Path) -> None:
    jobs = [{"seed": s, "final": f} for s, f in enumerate((0.5, 0.7, 0.9))]
    sweep = write_sweep(tmp_path / "s", jobs)
    status = next(sweep.glob("002_*/status.json"))
    status.write_text('{"status": "failed"}')  # though it left a summary
    (score,) = stand(sweep).scores
    assert score.completed == 2
    assert score.metric == (pytest.approx(0.6), pytest.approx(math.sqrt(0.02)))
    assert score.seconds == 3.0  # 2.5 and 3.5


def test_steps_and_seconds_to_a_target(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", strategies())
    by_label = {score.group.label: score for score in stand(sweep, target=0.5).scores}
    # val/loss = .3 + (1 + seed / 10) exp(-step k / 1000), every 30 steps, k = 10 for full
    step = next(s for s in range(30, 301, 30) if 0.3 + math.exp(-s * 0.01) <= 0.5)
    assert by_label["full"].arrivals[0] == (step, pytest.approx(2.5 * step / 300))
    assert by_label["truncated, k=4"].arrivals == [(None, None)] * 3


def test_half_of_the_settings_reach_the_automatic_target(tmp_path: Path) -> None:
    standing = stand(write_sweep(tmp_path / "s", strategies()))
    reached = [all(step is not None for step, _ in s.arrivals) for s in standing.scores]
    assert sum(reached) == 2
    untrained = stand(
        write_sweep(tmp_path / "m", strategies(dataset="mackey_glass")), "mackey_glass"
    )
    assert untrained.target == 0.02  # persistence, which none of them reaches


def test_the_loss_has_its_unit(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", half_finished())
    assert stand(sweep).label("loss") == "loss (nats)"
    assert stand(sweep, "mackey_glass").label("loss") == "loss (squared error)"
    assert stand(sweep, "mackey_glass").label("relative_error") == "relative error"


def test_references_that_differ_between_settings_are_no_common_line(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", [{"lr": 0.1}, {"lr": 0.2}])
    assert stand(sweep).references("accuracy") == [("chance", 0.1)]
    summary = next(sweep.glob("001_*/summary.json"))
    summary.write_text(summary.read_text().replace('"accuracy": 0.1', '"accuracy": 0.2'))
    assert stand(sweep).references("accuracy") == []


def test_a_strategy_has_one_colour_in_every_report() -> None:
    alone = palette.looks(["optimizer.lr"], {(0.1,): "truncated"})
    among = palette.looks(["gradient"], {("full",): "full", ("truncated",): "truncated"})
    assert alone[(0.1,)].colour == among[("truncated",)].colour == palette.COLOURS["truncated"]
    assert palette.colour("unheard_of") == "#AA4499"  # in every process
    assert len(set(palette.COLOURS.values())) == len(palette.COLOURS)
    assert not set(palette.MORE) & set(palette.COLOURS.values())


def test_alignment_is_a_mean_over_seeds_and_steps(tmp_path: Path) -> None:
    jobs = [{"gradient": "full", "seed": 0}, *({"gradient": "uoro", "seed": s} for s in (0, 1))]
    folder = write_sweep(tmp_path / "sweep", jobs)
    for seed, values in enumerate(((0.5, 0.7), (0.1, 0.3))):
        (run,) = folder.glob(f"*gradient=uoro,seed={seed}")
        with (run / "metrics.jsonl").open("a") as file:
            for step, value in enumerate(values):
                file.write(json.dumps({"step": step, scores.ALIGNMENT: value}) + "\n")
    standing = stand(folder)
    found = {score.group.strategy: score.alignment for score in standing.scores}
    assert found["full"] is None
    assert found["uoro"] == pytest.approx(0.4)
    looks = palette.looks(
        ["gradient"], {s.group.setting: s.group.strategy for s in standing.scores}
    )
    picture = panels.alignment(standing, looks, tmp_path / "alignment.png")
    assert picture is not None and picture.path.stat().st_size > 1000
    table = "".join(tables.settings(standing, looks))
    assert "<td>0.4000</td>" in table
    assert f"<td>{1000 * 3 / 300:.2f}</td>" in table  # 2.5 and 3.5 seconds of 300 steps
    assert len({row.count("<td") + row.count("<th") for row in table.split("<tr")[1:]}) == 1


def test_lags_are_shades_and_other_keys_are_dashes() -> None:
    keys = ["gradient", "gradient.k", "optimizer.lr"]
    settings = {("truncated", k, lr): "truncated" for k in (1, 4, 16) for lr in (0.1, 0.2)}
    looks = palette.looks(keys, settings)
    assert looks["truncated", 4, 0.1].colour == palette.COLOURS["truncated"]
    assert len({look.colour for look in looks.values()}) == 3
    for k in (1, 4, 16):
        assert looks["truncated", k, 0.1].colour == looks["truncated", k, 0.2].colour
        assert looks["truncated", k, 0.1].dashes != looks["truncated", k, 0.2].dashes
