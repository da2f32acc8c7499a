"""The files of a report: the page, its pictures, TensorBoard's summary, the command."""

import math
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from runs import events

from bptt_lab.commands.report import cli, write_report

from .sweep_folders import DATASETS, half_finished, strategies, write_sweep


class Page(HTMLParser):
    """What a browser would see: tags with attributes, and the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("half") / "2026-11-24_07-10-33_1a2b3c4d_sweep"
    sweep = write_sweep(folder, half_finished(), "bptt-train -m 'x=<b>&'")
    assert write_report(sweep) == sweep / "report.html"
    return sweep


def test_the_page_is_whole_in_itself_and_runs_nothing(half: Path) -> None:
    page = Page(half / "report.html")
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert sources
    assert all(source is not None and source.startswith("data:image/png;") for source in sources)
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")
    assert not re.search(r"https?://|url\(|@import", (half / "report.html").read_text())


def test_what_users_wrote_is_escaped(half: Path) -> None:
    assert "<script>alert('x')</script> & more" in Page(half / "report.html").text
    assert "bptt-train -m 'x=<b>&'" in Page(half / "report.html").text


def test_the_page_says_what_stands_how(half: Path) -> None:
    text = Page(half / "report.html").text
    assert "Sweep over gradient, gradient.k on digits, mackey_glass" in text
    assert "3 seeds · 2026-11-24_07-10-33_1a2b3c4d_sweep" in text
    for count in ("8 completed", "6 waiting", "1 failed", "1 diverged", "1 interrupted"):
        assert count in text
    # full: seeds 0 and 2 of accuracy .6 and .62
    assert "best is full, test accuracy 0.6100 ± 0.0141 over 2 seeds; chance 0.1000." in text
    assert "mackey_glass: no setting has a finite test relative error yet." in text
    assert "train/loss is nan at step 120" in text
    assert "last validated at step 150" in text
    assert "6 waiting: jobs 012, 013, 014, 015, 016, 017." in text
    assert f"bptt-board {half}" in text
    assert f"bptt-train -m resume={half}" in text


def test_links_lead_somewhere(half: Path) -> None:
    from urllib.parse import unquote

    links = [a["href"] for tag, a in Page(half / "report.html").tags if tag == "a"]
    assert len(links) == 5  # four logs and the table
    assert all((half / unquote(str(link))).exists() for link in links)


@pytest.mark.usefixtures("unpainted")
def test_the_table_is_best_first_with_references_among_the_settings(tmp_path: Path) -> None:
    jobs: list[dict[str, Any]] = [
        {"gradient": "full", "final": 0.05},
        {"gradient": "autograd", "final": 0.9},
    ]
    write_report(sweep := write_sweep(tmp_path / "s", jobs))
    text = Page(sweep / "report.html").text
    table = text[text.index("Settings, best first") : text.index("Learning curves")]
    assert table.index("autograd") < table.index("0.1000") < table.index("full")


@pytest.mark.usefixtures("unpainted")
def test_references_of_a_setting_s_own_have_a_column_and_empty_columns_are_left_out(
    tmp_path: Path,
) -> None:
    sweep = write_sweep(tmp_path / "s", [{"lr": 0.1}, {"lr": 0.2}])
    write_report(sweep)
    alike = Page(sweep / "report.html").text
    summary = next(sweep.glob("001_*/summary.json"))
    summary.write_text(summary.read_text().replace('"accuracy": 0.1', '"accuracy": 0.2'))
    write_report(sweep)
    text = Page(sweep / "report.html").text
    assert "references, accuracy" in text and "chance 0.2000" in text
    assert "references, accuracy" not in alike and "mean cosine" not in text


@pytest.mark.usefixtures("unpainted")
def test_settings_within_the_spread_are_named(tmp_path: Path) -> None:
    jobs = [
        {"gradient": g, "seed": s, "final": level + 0.1 * s}
        for g, level in (("full", 0.80), ("autograd", 0.79), ("truncated", 0.2))
        for s in range(2)
    ]
    write_report(sweep := write_sweep(tmp_path / "s", jobs))
    assert "Within one standard deviation of it: autograd." in Page(sweep / "report.html").text


@pytest.mark.slow
def test_pictures_lie_beside_and_old_ones_go(half: Path) -> None:
    names = {path.name for path in (half / "report").iterdir()}
    assert {"val_loss_0_digits.png", "val_metric_1_mackey_glass.png"} <= names
    assert {"test_against_gradient.k_0_digits.png", "gradient_norm_0_digits.png"} <= names
    (half / "report" / "old.png").touch()
    write_report(half)
    assert {path.name for path in (half / "report").iterdir()} == names


def test_the_same_folder_gives_the_same_report(half: Path) -> None:
    files = [half / "report.html", half / "results.csv", *(half / "report").iterdir()]
    before = [file.read_bytes() for file in files]
    write_report(half)
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize(
    "jobs",
    [
        [{}],
        [{"status": "waiting"}],
        [{"status": "running"}, {"status": "waiting", "seed": 1}],
        [{"status": "failed", "reason": "x" * 5000 + "\n$\\frac{"}],
        [{"final": math.inf}, {"final": math.nan, "seed": 1}],
        [{"gradient": g} for g in ("full", "$\\frac{$", "漢字")],
        [{"lr": lr, "seed": s} for lr in (1e-5, 1e-3, 0.1) for s in range(2)],
        [{"steps": 10}, {"steps": 300, "seed": 1}],
        pytest.param(
            [{"k": k, "lr": k * 1e-4, "gradient": "truncated"} for k in range(1, 31)],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["one", "waiting", "running", "failed", "inf", "odd", "decades", "ragged", "search"],
)
def test_any_sweep_has_a_report(tmp_path: Path, jobs: list[dict[str, Any]]) -> None:
    sweep = write_sweep(tmp_path / "s", jobs)
    assert cli.main([str(sweep)]) == 0
    assert (sweep / "results.csv").read_text().count("\n") >= 1 + len(jobs)


@pytest.mark.usefixtures("unpainted")
def test_lost_files_are_no_error(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", strategies())
    names = ("metrics.jsonl", "summary.json", "manifest.json", "status.json")
    for folder, name in zip(sorted(sweep.glob("0*")), names, strict=False):
        (folder / name).unlink()
    (sorted(sweep.glob("0*"))[5] / "metrics.jsonl").write_bytes(b"\0" * 100)
    write_report(sweep)
    assert Page(sweep / "report.html").text.count("waiting") >= 1


@pytest.mark.usefixtures("unpainted")
def test_the_summary_for_tensorboard_is_mean_and_spread(tmp_path: Path) -> None:
    jobs = [*strategies(), {"gradient": "autograd"}]
    write_report(sweep := write_sweep(tmp_path / "s", jobs))
    summary = sweep / "_summary"
    assert {path.name for path in summary.iterdir()} == {
        *("digits_full", "digits_autograd", "digits_truncated_k=4", "digits_truncated_k=16"),
    }
    read = events(summary / "digits_full")
    mean, sd = read.Scalars("mean/val/loss")[0], read.Scalars("sd/val/loss")[0]
    losses = [0.3 + (1 + 0.1 * seed) * math.exp(-0.3) for seed in range(3)]
    assert (mean.step, mean.value) == (30, pytest.approx(losses[1]))
    assert sd.value == pytest.approx(losses[1] - losses[0])
    assert read.Scalars("mean_minus_sd/val/loss")[0].value == pytest.approx(losses[0])
    assert read.Scalars("mean_plus_sd/val/loss")[0].value == pytest.approx(losses[2])
    for tag in ("train/loss", "val/accuracy", "gradient_norm/total"):
        assert f"mean/{tag}" in read.Tags()["scalars"]
    alone = events(summary / "digits_autograd").Tags()["scalars"]
    assert alone
    assert all(tag.startswith("mean/") for tag in alone)
    (summary / "digits_full" / "old").touch()
    write_report(sweep)
    assert len(list((summary / "digits_full").iterdir())) == 1


@pytest.mark.usefixtures("unpainted")
def test_one_seed_has_no_summary_beside_its_runs(tmp_path: Path) -> None:
    write_report(sweep := write_sweep(tmp_path / "s", [{"lr": 0.1}, {"lr": 0.2}]))
    assert not (sweep / "_summary").exists()


@pytest.mark.usefixtures("unpainted")
def test_a_target_can_be_given(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", strategies())
    assert cli.main([str(sweep), "--target-loss", "0.75"]) == 0
    text = Page(sweep / "report.html").text
    assert "steps to val loss 0.75" in text
    assert "given on the command line" in text


@pytest.mark.parametrize("name", ["report/val_loss.png", "report.html", "results.csv", "_summary"])
def test_what_is_in_the_way_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    sweep = write_sweep(tmp_path / "s", [{}])
    (sweep / name).parent.mkdir(exist_ok=True)
    (sweep / name).write_text("") if name == "_summary" else (sweep / name).mkdir()
    before = sorted(sweep.rglob("*"))
    assert cli.main([str(sweep)]) == 2
    assert f"{name}: is no " in capsys.readouterr().err
    assert sorted(sweep.rglob("*")) == before


@pytest.mark.usefixtures("unpainted")
@pytest.mark.parametrize("seeds", [1, 2])
def test_captions_speak_of_seeds_that_are_there(tmp_path: Path, seeds: int) -> None:
    jobs = [{"seed": seed, "lr": lr} for lr in (0.1, 0.2) for seed in range(seeds)]
    text = write_report(write_sweep(tmp_path / "s", jobs)).read_text()
    text = re.sub(r"data:image/png;base64,[^\"]*", "", text)
    assert ("One seed a setting" in text) == (seeds == 1)
    for word in ("over the seeds", "over seeds", "band", "deviation", "means"):
        assert (word in text) == (seeds > 1), word


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("nowhere", [], "no such folder"),
        (".", [], "no sweep's folder"),
        ("run", [], "a single run's folder"),
        ("s", ["--target-loss", "nan"], "must be a finite number"),
        ("s", ["--target"], "unrecognized arguments"),
    ],
)
def test_what_cannot_be_reported_is_refused_on_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, more: list[str], says: str
) -> None:
    sweep = write_sweep(tmp_path / "s", [{}])
    next(sweep.glob("000*")).rename(tmp_path / "run")
    assert cli.main([str(tmp_path / name), *more]) == 2
    assert (err := capsys.readouterr().err).count("\n") == 1
    assert says in err
    assert not list(tmp_path.rglob("report*"))


@pytest.mark.slow
def test_a_page_of_a_hundred_jobs_is_one_to_hand_around(tmp_path: Path) -> None:
    jobs = [
        {"gradient": "truncated", "k": k, "lr": lr, "seed": seed, "steps": 3000}
        for k in (1, 2, 4, 8, 16)
        for lr in (1e-4, 1e-3, 1e-2, 1e-1)
        for seed in range(5)
    ]
    sweep = write_sweep(tmp_path / "s", jobs)
    write_report(sweep)
    assert (sweep / "report.html").stat().st_size < 3e6


def test_importing_the_report_is_cheap_and_only_the_events_need_torch() -> None:
    modules = [path.stem for path in Path(cli.__file__).parent.glob("*.py")]
    code = (
        "import sys, bptt_lab.commands.report.cli\n"
        "assert not {'matplotlib', 'torch', 'tensorboard'} & set(sys.modules)\n"
        f"from bptt_lab.commands.report import {', '.join(sorted(modules)[1:])}\n"
        "assert not {'matplotlib.pyplot', 'torch', 'tensorboard'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.usefixtures("unpainted")
def test_names_that_users_gave_are_escaped_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, '"<b>', DATASETS["digits"])
    jobs: list[dict[str, Any]] = [
        {"gradient": g, "seed": s} for g in ("full", '"<i>&amp;') for s in range(2)
    ]
    jobs.append({"gradient": '"<i>', "status": "failed"})
    jobs = [{**job, "dataset": '"<b>'} for job in jobs]
    write_report(sweep := write_sweep(tmp_path / '"<i>', jobs))
    page = Page(sweep / "report.html")
    assert not {"i", "b"} & {tag for tag, _ in page.tags}
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert images
    assert all(set(attributes) == {"alt", "src"} for attributes in images)
    assert '"<i>&amp;' in page.text


@pytest.mark.usefixtures("unpainted")
def test_a_sweeper_that_lists_no_jobs_has_a_report(tmp_path: Path) -> None:
    jobs = [{"lr": 0.001 * 1.1**i, "final": 0.5 + 0.01 * i} for i in range(30)]
    sweep = write_sweep(tmp_path / "s", jobs)
    (sweep / "sweep.json").write_text('{"command": "", "jobs": []}')
    write_report(sweep)
    text = Page(sweep / "report.html").text
    assert "30 jobs, 30 settings" in text
    assert "Sweep over optimizer.lr on digits" in text


def test_an_installed_package_has_the_page_s_template() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())
    packed = project["tool"]["setuptools"]["package-data"]["bptt_lab.commands.report"]
    here = Path(cli.__file__).parent
    files = {path.name for path in here.iterdir() if path.is_file() and path.suffix != ".py"}
    assert files == set(packed)
    assert "jinja2" in project["project"]["dependencies"]
