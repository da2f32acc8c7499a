"""A run finds its data from whatever folder it is verified, continued or compared."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from runs import QUICK, composed, config, job

from bptt_lab import runs
from bptt_lab.commands import verify
from bptt_lab.commands.compare import request
from bptt_lab.commands.search import record
from bptt_lab.config.parse import parse
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import resume, sweep
from bptt_lab.training import job as jobs

LINES = (*QUICK, "dataset=series", "dataset.path=waves.csv", "dataset.num_steps=16")


def write_waves(folder: Path, shift: int = 0) -> None:
    values = "\n".join(str((t * t + shift) % 17) for t in range(200))
    (folder / "waves.csv").write_text(f"value\n{values}\n")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_waves(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        asked = config(*LINES, "dataset.batch_size=31")  # one that no other test parses
        assert asked.dataset.settings["path"] == str(home / "waves.csv")
        assert jobs.attempt(asked, home / "run", job(*LINES, "dataset.batch_size=31")) == 0
    return home


@pytest.fixture
def run(finished, tmp_path, monkeypatch) -> Path:
    """The run's folder, seen from another folder that has other data of that name."""
    monkeypatch.chdir(tmp_path)
    write_waves(tmp_path, shift=1)
    return finished / "run"


def test_verify_from_another_folder(run, capsys):
    assert verify.main([str(run)]) == 0
    assert "the same: " in capsys.readouterr().out


def test_compare_from_another_folder(run):
    asked = request.read([], run, ["full"])
    assert asked.experiment.dataset.settings["path"] == str(run.parent / "waves.csv")


def test_continued_from_another_folder(run):
    lines = resume.overrides([f"resume={run}", "trainer.enable_progress_bar=true"])
    assert lines[-1] == f"hydra.run.dir='{run}'"
    again = parse(composed(*lines))
    assert again.dataset.settings["path"] == str(run.parent / "waves.csv")
    resume.refuse_changed_config(again, lines)


def test_other_data_may_be_typed_and_are_refused(run):
    lines = resume.overrides([f"resume={run}", "dataset.path=waves.csv"])
    with pytest.raises(ConfigError, match=r"dataset\.path=.*: the run began with /"):
        resume.refuse_changed_config(parse(composed(*lines)), lines)


def test_a_run_of_before_goes_on_from_its_own_folder(run, monkeypatch):
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["config"]["dataset"]["path"] = "waves.csv"
    old = Path("old")
    old.mkdir()
    (old / "manifest.json").write_text(json.dumps(manifest))
    old = old.absolute()
    monkeypatch.chdir(run.parent)
    lines = resume.overrides([f"resume={old}"])
    resume.refuse_changed_config(parse(composed(*lines)), lines)


def test_a_sweep_goes_on_from_another_folder(run, tmp_path, monkeypatch):
    sweep_dir, typed = tmp_path / "sweep", ["seed=1", "dataset.path=waves.csv"]
    monkeypatch.chdir(run.parent)
    sweep.announce(sweep_dir, "bptt-train -m ...", ["000"], [typed])
    resume.refuse_changed_sweep(sweep_dir, [typed])
    monkeypatch.chdir(tmp_path)
    absolute = f"dataset.path='{run.parent}/waves.csv'"
    resume.refuse_changed_sweep(sweep_dir, [["seed=1", absolute]])
    with pytest.raises(ConfigError, match=rf"is dataset.path={run.parent}/waves.csv, not"):
        resume.refuse_changed_sweep(sweep_dir, [typed])
    del (listed := runs.read_json(sweep_dir / runs.SWEEP))["cwd"]  # of before
    runs.write_json(sweep_dir / runs.SWEEP, listed)
    resume.refuse_changed_sweep(sweep_dir, [typed])


def test_a_search_goes_on_from_another_folder(tmp_path, monkeypatch):
    def described(path: str) -> dict:
        space = SimpleNamespace(described=lambda: {"dataset.path": path, "seed": "1"})
        return record.description(space, SimpleNamespace(metric="val/loss", direction="minimize"))

    monkeypatch.chdir(tmp_path)
    runs.write_json(tmp_path / runs.SWEEP, {record.SEARCH: described("a.csv")})
    record.refuse_changed(tmp_path, described("a.csv"))
    Path("other").mkdir()
    monkeypatch.chdir("other")
    record.refuse_changed(tmp_path, described(str(tmp_path / "a.csv")))
    with pytest.raises(ConfigError, match=r"dataset\.path is /.*/other/a\.csv, and the search"):
        record.refuse_changed(tmp_path, described("a.csv"))
