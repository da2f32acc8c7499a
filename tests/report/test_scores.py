"""Means, spreads, ranks and times to a target, against numbers worked out by hand."""

import json
import math
from pathlib import Path

import pytest

from bptt_lab.commands.report import panels, results, scores, write_report
from bptt_lab.commands.report.panel import line_styles
from bptt_lab.commands.report.results import Band
from bptt_lab.commands.report.scores import Ranking
from bptt_lab.training import naming, style

from .sweep_folders import half_finished, strategies, write_sweep


def rank(folder: Path, dataset: str = "digits", target: float | None = None) -> Ranking:
    return scores.rank(results.read(folder), dataset, target)


def test_a_band_is_mean_and_sample_deviation_over_those_that_got_there() -> None:
    got = results.band([{10: 1.0, 20: 5.0}, {10: 3.0}])
    assert got == [Band(10, 2.0, pytest.approx(math.sqrt(2))), Band(20, 5.0, None)]
    assert results.log_band([{1: math.e, 2: 0.0}]) == [Band(1, 1.0, None)]


@pytest.mark.parametrize("size", [1e300, 1.7e308])
def test_large_values_do_not_overflow(size: float) -> None:
    mean, sd = results.mean_sd([size, size, size / 2])
    assert mean == pytest.approx(size * (5 / 6))
    assert sd == pytest.approx(size / math.sqrt(12))


def test_what_is_not_finite_or_half_written_is_left_out_of_curves(tmp_path: Path) -> None:
    jobs = [{"status": "diverged"}, {"status": "running", "seed": 1}]
    sweep = results.read(write_sweep(tmp_path / "s", jobs))
    for job in sweep.jobs:
        assert list(job.curves["val/loss"]) == [30, 60, 90, 120, 150]
        assert 999 not in job.curves["gradient_norm/total"]
    assert results.read_curves(tmp_path / "nowhere") == {}


def test_best_first_by_accuracy_and_by_error(tmp_path: Path) -> None:
    finals = {"full": 0.7, "truncated": 0.9, "autograd": math.nan}
    for dataset, best in (("digits", "truncated"), ("mackey_glass", "full")):
        jobs = [{"gradient": g, "final": f, "dataset": dataset} for g, f in finals.items()]
        jobs.append({"gradient": "checkpointed", "status": "waiting", "dataset": dataset})
        ranking = rank(write_sweep(tmp_path / dataset, jobs), dataset)
        order = [group.strategy for group in ranking.groups]
        assert order[0] == best
        assert order[2:] == ["autograd", "checkpointed"]  # not finite; none at all


def test_mean_and_spread_are_over_completed_seeds(tmp_path: Path) -> None:
    jobs = [{"seed": s, "final": f} for s, f in enumerate((0.5, 0.7, 0.9))]
    sweep = write_sweep(tmp_path / "s", jobs)
    status = next(sweep.glob("002_*/status.json"))
    status.write_text('{"status": "failed"}')  # though it left a summary
    ranking = rank(sweep)
    (group,) = ranking.groups
    assert len(group.done) == 2
    assert group.result("accuracy") == (pytest.approx(0.6), pytest.approx(math.sqrt(0.02)))
    heads, rows = scores.table(ranking)
    cells = dict(zip(heads, rows[0].cells, strict=True))
    assert cells["seconds"] == "3.0"  # 2.5 and 3.5


def test_steps_and_seconds_to_a_target(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", strategies())
    ranking = rank(sweep, target=0.5)
    arrivals = {group.label: ranking.arrivals(group) for group in ranking.groups}
    # val/loss = .3 + (1 + seed / 10) exp(-step k / 1000), every 30 steps, k = 10 for full
    step = next(s for s in range(30, 301, 30) if 0.3 + math.exp(-s * 0.01) <= 0.5)
    assert arrivals["full"][0] == (step, pytest.approx(2.5 * step / 300))
    assert arrivals["truncated, k=4"] == [(None, None)] * 3


def test_half_of_the_settings_reach_the_automatic_target(tmp_path: Path) -> None:
    ranking = rank(write_sweep(tmp_path / "s", strategies()))
    arrivals = [ranking.arrivals(group) for group in ranking.groups]
    reached = [all(step is not None for step, _ in of_group) for of_group in arrivals]
    assert sum(reached) == 2
    untrained = rank(
        write_sweep(tmp_path / "m", strategies(dataset="mackey_glass")), "mackey_glass"
    )
    assert untrained.target == 0.02  # persistence, which none of them reaches


def test_the_loss_has_its_unit(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", half_finished())
    assert rank(sweep).label("loss") == "loss (nats)"
    assert rank(sweep, "mackey_glass").label("loss") == "loss (squared error)"
    assert rank(sweep, "mackey_glass").label("relative_error") == "relative error"


def test_references_that_differ_between_settings_are_no_common_line(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", [{"lr": 0.1}, {"lr": 0.2}])
    assert rank(sweep).references("accuracy") == [("chance", 0.1)]
    summary = next(sweep.glob("001_*/summary.json"))
    summary.write_text(summary.read_text().replace('"accuracy": 0.1', '"accuracy": 0.2'))
    assert rank(sweep).references("accuracy") == []


def test_a_strategy_has_one_colour_in_every_report() -> None:
    alone = line_styles(["optimizer.lr"], {(0.1,): "truncated"})
    among = line_styles(["gradient"], {("full",): "full", ("truncated",): "truncated"})
    assert alone[(0.1,)].colour == among[("truncated",)].colour == style.colour("truncated")


def test_two_strategies_of_one_colour_differ_in_their_dashes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(style, "colour", lambda name: "#5D7BF1")
    styles = line_styles(["gradient"], {("full",): "full", ("mine",): "mine"})
    assert styles[("full",)].dashes != styles[("mine",)].dashes


@pytest.mark.usefixtures("unpainted")
def test_alignment_is_a_mean_over_seeds_and_steps(tmp_path: Path) -> None:
    jobs = [{"gradient": "full", "seed": 0}, *({"gradient": "uoro", "seed": s} for s in (0, 1))]
    folder = write_sweep(tmp_path / "sweep", jobs)
    for seed, values in enumerate(((0.5, 0.7), (0.1, 0.3))):
        (run,) = folder.glob(f"*gradient=uoro,seed={seed}")
        with (run / "metrics.jsonl").open("a") as file:
            for step, value in enumerate(values):
                file.write(json.dumps({"step": step, results.ALIGNMENT: value}) + "\n")
    ranking = rank(folder)
    styles = line_styles(["gradient"], {(name,): name for name in ("full", "uoro")})
    heads, rows = scores.table(ranking)
    column = heads.index("mean cosine with full BPTT")
    found = {row.name: row.cells[column] for row in rows}
    assert (found["full"], found["uoro"]) == ("", "0.4000")
    picture = panels.over_training(results.ALIGNMENT, ranking, styles, tmp_path / "alignment.png")
    assert picture is not None and picture.path.exists()
    page = write_report(folder).read_text()
    table = page[page.index("<table>") : page.index("</table>")]
    assert "<td>0.4000</td>" in table
    assert f"<td>{1000 * 3 / 300:.2f}</td>" in table  # 2.5 and 3.5 seconds of 300 steps
    assert len({row.count("<td") + row.count("<th") for row in table.split("<tr")[1:]}) == 1


def test_lags_are_shades_in_order_and_other_keys_are_dashes() -> None:
    keys = ["gradient", "gradient.k", "optimizer.lr"]
    settings = {("truncated", k, lr): "truncated" for k in (16, 4, 1) for lr in (0.1, 0.2)}
    styles = line_styles(keys, settings)
    shades = [styles["truncated", k, 0.1].colour for k in (1, 4, 16)]
    assert shades == [style.shade(style.colour("truncated"), i, 3) for i in range(3)]
    for k in (1, 4, 16):
        assert styles["truncated", k, 0.1].colour == styles["truncated", k, 0.2].colour
        assert styles["truncated", k, 0.1].dashes != styles["truncated", k, 0.2].dashes


@pytest.mark.usefixtures("unpainted")
@pytest.mark.parametrize(("settings", "says"), [(5, "mean and spread"), (6, "mean over seeds")])
def test_a_curve_s_words_speak_of_a_spread_where_it_has_a_band(
    tmp_path: Path, settings: int, says: str
) -> None:
    jobs = [
        {"gradient": "truncated", "k": k, "seed": seed, "final": 0.1 * k}
        for k in range(1, settings + 1)
        for seed in (0, 1)
    ]
    ranking = rank(write_sweep(tmp_path / "s", jobs))
    styles = line_styles(["gradient.k"], {g.values: g.strategy for g in ranking.groups})
    tag = f"val/{ranking.metric}"
    picture = panels.over_training(tag, ranking, styles, tmp_path / "a.png")
    assert picture is not None and says in picture.alt


def test_a_legend_is_in_order_of_k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[str]] = []
    monkeypatch.setattr(
        naming,
        "name",
        lambda axes: drawn.append([str(line.get_label()) for line in naming.named(axes)]),
    )
    monkeypatch.setattr(
        panels, "_draw_rows", lambda _, __, rows, ___: drawn.append([name for name, *_ in rows])
    )
    finals = {16: 0.9, 2: 0.8, 8: 0.7}  # best first is another order
    jobs = [{"gradient": "truncated", "k": k, "final": f} for k, f in finals.items()]
    jobs += [{"gradient": "full", "final": 0.1}]
    ranking = rank(write_sweep(tmp_path / "s", jobs))
    keys = ["gradient", "gradient.k"]
    styles = line_styles(keys, {g.values: g.strategy for g in ranking.groups})
    panels.over_training(results.VAL_LOSS, ranking, styles, tmp_path / "a.png")
    panels.against(keys, "gradient", ranking, styles, tmp_path / "b.png")
    in_order = ["full", *(f"truncated, k={k}" for k in (2, 8, 16))]
    assert drawn == [[*in_order, "chance 2.3 ↑"], [*in_order, "chance"]]
