"""One damaged paper does not take the report of the other jobs; every reader says what is wrong."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damage import ANYWHERE, ODD, VALUES, kinds, put, spoil

from bptt_lab import runs
from bptt_lab.commands import verify
from bptt_lab.commands.horizon import cli as horizon
from bptt_lab.commands.report import cli, results, scores, write_report
from bptt_lab.commands.search import record
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import resume
from bptt_lab.runs.sweep import print_table

from .sweep_folders import write_sweep

PAPERS = ("status.json", "manifest.json", "summary.json", "metrics.jsonl")
WRONG = [(file, key, value) for file, key, value in kinds(VALUES) if file != "sweep.json"]
WHOLE = 3  # jobs that nothing happens to


def folders(sweep: Path) -> list[Path]:
    return [job.folder for job in runs.read_sweep(sweep)]


def jobs(number: int) -> list[dict[str, Any]]:
    return [{"seed": seed, "lr": 0.1, "final": 0.5} for seed in range(number)]


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], list[Path]]:
    """A sweep with a job for every kind of damage, reported once; files and folders, in order."""
    spoiled = [(paper, name) for paper in PAPERS for name in ANYWHERE]
    spoiled.remove(("metrics.jsonl", "empty"))  # of a run that was stopped early
    number = WHOLE + len(spoiled) + len(WRONG)
    sweep = write_sweep(tmp_path_factory.mktemp("damaged") / "s", jobs(number))
    made = folders(sweep)
    for folder, (paper, name) in zip(made[WHOLE:], spoiled, strict=False):
        spoil(folder / paper, name)
    for folder, (paper, key, value) in zip(made[WHOLE + len(spoiled) :], WRONG, strict=True):
        put(folder / paper, key, value)
    write_report(sweep)
    return sweep, [paper for paper, *_ in (*spoiled, *WRONG)], made[WHOLE:]


def test_damaged_jobs_are_unreadable_each_with_its_reason(
    damaged: tuple[Path, list[str], list[Path]],
) -> None:
    sweep, papers, made = damaged
    with (sweep / "results.csv").open(newline="") as file:
        rows = {row["folder"]: row for row in csv.DictReader(file)}
    told = {folder.name: rows[folder.name] for folder in made}
    assert [name for name, row in told.items() if row["status"] != "unreadable"] == []
    for paper, row in zip(papers, told.values(), strict=True):
        assert row["reason"].startswith(f"{paper}") and " is damaged: " in row["reason"]
    page = (sweep / "report.html").read_text()
    assert f"{len(made)} unreadable" in page and f"{WHOLE} completed" in page
    assert "metrics.test/loss=null: must not be null" in page


def test_the_whole_jobs_are_reported_as_if_alone(
    damaged: tuple[Path, list[str], list[Path]], tmp_path: Path
) -> None:
    alone = results.read(write_sweep(tmp_path / "s", jobs(WHOLE)))
    (group,) = scores.rank(alone, "digits", 0.5).groups
    among = [g for g in scores.rank(results.read(damaged[0]), "digits", 0.5).groups if g.done]
    assert [(len(g.done), g.finals("accuracy"), g.finals("loss")) for g in among] == [
        (WHOLE, group.finals("accuracy"), group.finals("loss"))
    ]


def test_verify_says_it_in_one_line(
    damaged: tuple[Path, list[str], list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    for paper, folder in zip(damaged[1], damaged[2], strict=True):
        if paper == "metrics.jsonl":
            with pytest.raises(
                ConfigError, match=r"metrics\.jsonl, line 1, is damaged|metrics\.jsonl is damaged"
            ):
                verify._logged(runs.read_run(folder))
            continue
        assert verify.main([str(folder)]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and paper in err
        assert "start a new run" in err or "move it away" in err


@pytest.mark.parametrize("number", range(len(kinds(ODD))))
def test_what_is_odd_is_no_damage(number: int, tmp_path: Path) -> None:
    paper, key, value = kinds(ODD)[number]
    sweep = write_sweep(tmp_path / "s", jobs(1))
    put(folders(sweep)[0] / paper, key, value)
    (job,) = results.read(sweep).jobs
    assert job.run.status == "completed", job.run.reason


@pytest.mark.parametrize(
    "papers",
    [PAPERS[:1] + PAPERS[2:], pytest.param(PAPERS, marks=pytest.mark.slow)],
    ids=["numbers", "all"],
)
def test_odd_jobs_have_a_report(papers: tuple[str, ...], tmp_path: Path) -> None:
    odd = [(paper, key, value) for paper, key, value in kinds(ODD) if paper in papers]
    sweep = write_sweep(tmp_path / "s", jobs(len(odd)))
    for folder, (paper, key, value) in zip(folders(sweep), odd, strict=True):
        put(folder / paper, key, value)
    write_report(sweep)
    assert f"{len(odd)} completed" in (sweep / "report.html").read_text()


LOST: dict[str, Callable[[Path], object]] = {
    "is a link, which is not followed": lambda job: (
        job.rename(job.parent.parent / "elsewhere"),
        job.symlink_to(job.parent.parent / "elsewhere"),
    ),
    "is no folder": lambda job: (shutil.rmtree(job), job.write_text("")),
    "summary.json is missing": lambda job: (job / "summary.json").unlink(),
    "summary.json is damaged: it has no metrics": lambda job: put(
        job / "summary.json", "metrics", {}
    ),
}


def test_a_job_that_is_none_or_has_no_results_is_unreadable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_sweep(tmp_path / "s", jobs(1 + len(LOST)))
    for folder, damage in zip(folders(sweep)[1:], LOST.values(), strict=True):
        damage(folder)
    found = results.read(sweep).jobs[1:]
    assert [(job.run.status, job.run.reason) for job in found] == [("unreadable", r) for r in LOST]
    assert found[0].curves == {}
    assert print_table(sweep) == len(LOST)
    out = capsys.readouterr().out
    assert all(f": {reason}\n" in out for reason in LOST)


def test_what_is_wrong_has_a_subject_and_a_way_out(tmp_path: Path) -> None:
    job, *_ = folders(sweep := write_sweep(tmp_path / "s", jobs(2)))
    for text, message in {"{}": "it has no overrides", "[]": "it must be an object"}.items():
        (job / "manifest.json").write_text(text)
        assert runs.read_run(job).reason == f"manifest.json is damaged: {message}"
    (job / "metrics.jsonl").write_text('{"step": 1, "": 1}\n')
    with pytest.raises(runs.Damaged, match='line 1, is damaged: a name="": must be 1 to'):
        list(runs.read_metrics(job))
    put(sweep / "sweep.json", "jobs|1|folder", job.name)
    with pytest.raises(ConfigError, match=r"two jobs have the folder .*; put the file back, or"):
        runs.read_sweep(sweep)


def refused(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for main in (cli.main, horizon.main):
        assert main([str(sweep)]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and "sweep.json is damaged" in err
    with pytest.raises(ConfigError, match=r"sweep\.json is damaged"):
        resume.refuse_changed_sweep(sweep, [["seed=0"]])
    assert not list(sweep.glob("re*"))


@pytest.mark.parametrize("name", ANYWHERE)
def test_a_sweep_whose_list_is_damaged_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_sweep(tmp_path / "s", jobs(1))
    spoil(sweep / "sweep.json", name)
    refused(sweep, capsys)
    with pytest.raises(ConfigError, match=r"sweep\.json is damaged"):
        record.print_best(sweep)


@pytest.mark.parametrize("number", range(len(kinds({"": VALUES["sweep.json"]}))))
def test_a_list_of_jobs_of_wrong_types_is_refused(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, key, value = kinds({"": VALUES["sweep.json"]})[number]
    sweep = write_sweep(tmp_path / "s", jobs(2))
    listed = json.loads((sweep / "sweep.json").read_text())
    listed["jobs"][1]["folder"] = "001"
    (sweep / "sweep.json").write_text(json.dumps(listed))
    put(sweep / "sweep.json", key, value)
    refused(sweep, capsys)
