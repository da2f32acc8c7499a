"""bptt-horizon on made-up sweeps, whose longest delays are known, and its preset."""

import csv
import json

import pytest
from matplotlib.figure import Figure

from bptt_lab.commands.horizon import cli, figure, longest
from bptt_lab.commands.horizon.longest import CRITERIA
from bptt_lab.commands.report import results
from bptt_lab.core.validation import ConfigError
from bptt_lab.tasks.adding import Adding
from bptt_lab.tasks.copy_memory import CopyMemory
from bptt_lab.tasks.temporal_order import TemporalOrder

TASKS = {"adding": Adding, "copy_memory": CopyMemory, "temporal_order": TemporalOrder}
SOLVED = {"adding": 0.01, "copy_memory": 0.95, "temporal_order": 0.95}
HALF = {"adding": 1 / 12, "copy_memory": 0.5, "temporal_order": 0.5}  # one of the two numbers


def write_job(folder, task, k, delay, seed, value, status="completed"):
    folder.mkdir()
    criterion = CRITERIA[task]
    gradient = {"k": k, "mode": "tail"} if k else {}
    config = {"seed": seed, "gradient": gradient, "dataset": {criterion.delay: delay}}
    choices = {"dataset": task, "gradient": "truncated" if k else "full"}
    overrides = [f"dataset.{criterion.delay}={delay}", f"seed={seed}"]
    overrides += [f"gradient.k={k}"] if k else []
    manifest = {"config": config, "choices": choices, "overrides": overrides, "seed": seed}
    (folder / "status.json").write_text(json.dumps({"status": status}))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    if value is not None:
        metrics = {f"test/{criterion.metric}": value}
        (folder / "summary.json").write_text(json.dumps({"metrics": metrics}))
    return {"folder": folder.name, "overrides": overrides}


def write_sweep(folder, jobs):
    folder.mkdir()
    listed = [write_job(folder / f"{i:03d}", *job) for i, job in enumerate(jobs)]
    (folder / "sweep.json").write_text(json.dumps({"command": "x", "jobs": listed}))
    return folder


def grid(task, reach, delays=(10, 20, 40)):
    """Jobs of seeds that solve every delay up to what `reach` says for (k, seed)."""
    return [
        (task, k, delay, seed, SOLVED[task] if delay <= most else HALF[task])
        for (k, seed), most in reach.items()
        for delay in delays
    ]


@pytest.mark.parametrize("task", CRITERIA)
def test_longest_delay_by_k_and_seed(tmp_path, task):
    reach = {(4, 0): 10, (4, 1): 0, (4, 2): 20, (16, 0): 40, (16, 1): 20, (16, 2): 40}
    (line,) = longest.lines(results.read(write_sweep(tmp_path / "sweep", grid(task, reach))))
    assert (line.task, line.strategy, line.mode) == (task, "truncated", "tail")
    assert line.ks == [4, 16] and line.tried == {4: {10, 20, 40}, 16: {10, 20, 40}}
    assert {key: line.longest[key[0]][key[1]] for key in reach} == reach
    assert line.typical(4) == 10 and line.typical(16) == 40


@pytest.mark.parametrize("task", CRITERIA)
def test_neither_chance_nor_half_a_solution_counts(tmp_path, task):
    criterion, built = CRITERIA[task], TASKS[task]()
    chance = built.references()["chance"][criterion.metric]
    assert hasattr(built, criterion.delay)
    jobs = [(task, 4, 10, 0, chance), (task, 4, 20, 0, HALF[task])]
    (line,) = longest.lines(results.read(write_sweep(tmp_path / "sweep", jobs)))
    assert line.longest[4][0] == line.typical(4) == 0
    assert ("1/6" if task == "adding" else f"{chance:.3g}") in criterion.words


def test_jobs_that_did_not_complete_are_left_out(tmp_path):
    jobs = [
        ("adding", 4, 10, 0, 0.001),
        ("adding", 4, 20, 0, 0.001, "diverged"),
        ("adding", 4, 40, 0, None, "running"),
    ]
    (line,) = longest.lines(results.read(write_sweep(tmp_path / "sweep", jobs)))
    assert line.longest[4][0] == 10 and line.tried[4] == {10}


def test_files_and_table(tmp_path, capsys):
    reach = {(4, 0): 10, (4, 1): 0, (16, 0): 40, (16, 1): 20, (None, 0): 40, (None, 1): 40}
    jobs = grid("temporal_order", reach) + grid("adding", {(4, 0): 10})
    folder = write_sweep(tmp_path / "sweep", jobs)
    assert cli.main([str(folder)]) == 0
    with (folder / "horizon.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {
        (int(row["k"]) if row["k"] else None, int(row["seed"])): int(
            row["longest_delay_solved"] or 0
        )
        for row in rows
        if row["task"] == "temporal_order"
    }
    assert found == reach
    assert {row["longest_tried"] for row in rows} == {"40"}
    assert (folder / "horizon.png").read_bytes().startswith(b"\x89PNG")
    before = (folder / "horizon.png").read_bytes()
    assert cli.main([str(folder)]) == 0
    assert (folder / "horizon.png").read_bytes() == before
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if "truncated tail  4 " in line).split()
    assert row == ["temporal_order", "truncated", "tail", "4", "none", "10", "none"]
    assert "full" in out


def test_the_curve_and_the_line_are_where_they_belong(tmp_path):
    reach = {(4, 0): 10, (4, 1): 10, (16, 0): 40, (16, 1): 20, (16, 2): 40}
    lines = longest.lines(results.read(write_sweep(tmp_path / "sweep", grid("adding", reach))))
    axes = Figure().subplots()
    figure._panel(axes, "adding", lines)
    found, labels = axes.get_legend_handles_labels()
    handles = dict(zip(labels, found, strict=True))
    median = "truncated tail"
    assert set(handles) == {"delay = k", median}
    assert list(handles[median].get_xdata()) == [4, 16]
    assert list(handles[median].get_ydata()) == [10, 40]
    seeds = [line for line in axes.lines if line.get_marker() == "o"]
    assert [list(dots.get_ydata()) for dots in seeds] == [[10, 10], [40, 20, 40]]
    assert list(handles["delay = k"].get_xdata()) == list(handles["delay = k"].get_ydata())


def test_sweeps_of_two_tasks_share_a_figure(tmp_path, capsys):
    first = write_sweep(tmp_path / "a", grid("adding", {(4, 0): 10}))
    second = write_sweep(tmp_path / "b", grid("temporal_order", {(4, 0): 20}))
    assert cli.main([str(first), str(second)]) == 0
    assert [row.split(",")[0] for row in (first / "horizon.csv").read_text().splitlines()] == [
        "task",
        "adding",
        "temporal_order",
    ]
    assert not (second / "horizon.csv").exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "no such folder"), ([], "no job"), ([("adding", 4, 10, 0, None)], "no completed job")],
)
def test_what_has_no_horizon_is_refused_on_one_line(tmp_path, capsys, content, why):
    folder = tmp_path / "sweep"
    if content is not None:
        write_sweep(folder, content)
    assert cli.main([str(folder)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("bptt-horizon: ") and err.count("\n") == 1 and why in err
    assert not list(tmp_path.glob("sweep/horizon.*"))


def test_a_sweep_without_a_delay_is_refused(tmp_path):
    folder = write_sweep(tmp_path / "sweep", [("adding", 4, 10, 0, 0.01)])
    manifest = json.loads((folder / "000" / "manifest.json").read_text())
    manifest["choices"]["dataset"] = "digits"
    (folder / "000" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match="experiment=horizon"):
        longest.lines(results.read(folder))


@pytest.mark.parametrize("name", ["horizon.csv", "horizon.png"])
def test_no_link_is_written_through(tmp_path, capsys, name):
    sweep = write_sweep(tmp_path / "sweep", grid("adding", {(4, 0): 10}))
    (sweep / name).symlink_to(tmp_path / "elsewhere")
    assert cli.main([str(sweep)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and f"{name}: is a link, which is not followed; move it away" in err
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "preset", ["horizon_adding", pytest.param("horizon", marks=pytest.mark.slow)]
)
def test_the_preset_is_a_grid_that_can_run(tmp_path, monkeypatch, preset):
    from bptt_lab.commands.train.plan import make_plan
    from bptt_lab.config import arguments, output_paths

    monkeypatch.chdir(tmp_path)
    output_paths.register()
    plan = make_plan(arguments.parse_arguments([f"experiment={preset}"]))
    settings = {
        (e.gradient.settings.get("k"), e.dataset.settings["num_steps"], e.seed)
        for e in plan.experiments
    }
    ks, delays, seeds = map(set, zip(*settings, strict=True))
    assert len(settings) == len(plan.experiments) == len(ks) * len(delays) * len(seeds)
    assert len(seeds) >= 3 and None in ks
    assert {e.gradient.settings.get("mode", "tail") for e in plan.experiments} == {"tail"}
    # Some delays beyond every k, some within reach of all but the shortest.
    assert max(delays) > max(k for k in ks if k)
