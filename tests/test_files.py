"""The files of a run folder are regular ones, and no link is followed; a folder has one writer."""

from __future__ import annotations

import os
from pathlib import Path

import commands
import pytest
from commands import wait_for
from runs import QUICK, config, job, resumed

from bptt_lab import runs
from bptt_lab.commands.train import cli
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import files, lock, outcome
from bptt_lab.runs.outcome import CheckpointError
from bptt_lab.training import checkpoint_io, fork_server, metrics_log
from bptt_lab.training import job as jobs

KINDS = ["link", "link to nothing", "fifo", "folder", "socket"]


def plant(path: Path, kind: str) -> Path:
    """Put something that is no regular file at a path; return what a link would lead to."""
    elsewhere = path.parent.parent / "elsewhere"
    elsewhere.write_text("{}\n")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        os.mknod(path, 0o140600)
    else:
        path.symlink_to(elsewhere if kind == "link" else elsewhere.with_name("nothing"))
    return elsewhere


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_is_neither_read_nor_written(kind, tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    path.parent.mkdir()
    elsewhere = plant(path, kind)
    with pytest.raises(OSError):
        files.reading(path)
    for how in ("append", "over"):
        with pytest.raises(OSError):
            files.writing(path, how)
    assert elsewhere.read_text() == "{}\n" and not elsewhere.with_name("nothing").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_every_reader_and_writer_goes_by_it(kind, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    names = (runs.STATUS, runs.METRICS, "last.ckpt", ".x.json.part", ".best.ckpt.part")
    for name in names:
        elsewhere = plant(folder / name, kind)
    assert runs.read_run(folder).status == "unreadable"
    with pytest.raises(runs.Damaged, match=r"metrics\.jsonl is damaged: it cannot be read"):
        [*runs.read_metrics(folder)]
    with pytest.raises(CheckpointError, match=r"last\.ckpt: cannot be read"):
        checkpoint_io.read(folder / "last.ckpt")
    with pytest.raises(OSError):
        metrics_log.MetricsLog(folder / runs.METRICS).log_metrics({"a": 1.0}, 1)
    if kind != "folder":  # what is in the way of a new file loses its name
        runs.write_json(folder / "x.json", {"a": 1})
        checkpoint_io.write({"global_step": 1}, folder / "best.ckpt")
        assert runs.read_json(folder / "x.json") == {"a": 1}
    assert elsewhere.read_text() == "{}\n" and not elsewhere.with_name("nothing").exists()


def test_a_device_is_not_replaced(tmp_path):
    device = tmp_path / "device"
    os.mkfifo(device)
    with pytest.raises(OSError, match="is no regular file"), files.replacing(device):
        pass
    assert device.is_fifo()


def test_what_fails_names_the_file_that_was_to_be(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(OSError) as full, files.replacing(path), open("/dev/full", "wb", 0) as file:
        file.write(b"1")
    assert full.value.filename == str(path)
    path = tmp_path / "no" / "x.json"
    with pytest.raises(OSError) as absent, files.replacing(path):
        pass
    assert absent.value.filename == str(path)


def test_a_folder_is_not_replaced():
    with pytest.raises(OSError, match="is no regular file"), files.replacing(Path()):
        pass


def test_a_paper_has_a_size(tmp_path, monkeypatch):
    (tmp_path / "x.json").write_text('{"a": 1}')
    assert runs.read_json(tmp_path / "x.json") == {"a": 1}
    monkeypatch.setattr(files, "LARGEST_PAPER", 7)
    assert runs.read_json(tmp_path / "x.json") == {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "checkpoints", "checkpoints/last.ckpt", ".hydra/config.yaml"]
)
def test_a_folder_with_something_strange_is_refused_by_name(kind, name, tmp_path):
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    files.refuse_strange(tmp_path / "run")
    plant(path, kind)
    if (name, kind) == ("checkpoints", "folder"):
        files.refuse_strange(tmp_path / "run")
    else:
        with pytest.raises(ConfigError, match=rf"{name}: is (a link|no).*; move it away"):
            files.refuse_strange(tmp_path / "run")


def test_what_is_not_ours_may_be_anything(tmp_path):
    """As in the folder of a project, where the run's folder is the project's."""
    (tmp_path / "data").symlink_to("/")
    (tmp_path / "_summary" / "k=1").mkdir(parents=True)
    os.mkfifo(tmp_path / "pipe")
    files.refuse_strange(tmp_path)


def test_a_run_whose_checkpoints_lie_elsewhere_is_refused(tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "elsewhere")
    settings = config(*QUICK, "dataset.layout=rows")
    assert jobs.attempt(resumed(settings, tmp_path / "run"), tmp_path / "run", job()) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "checkpoints: is a link, which is not followed" in err
    assert not [*(tmp_path / "elsewhere").iterdir()]


def hold(folder: Path, until: Path) -> None:
    """Hold a folder until a file is there; a process of its own runs it."""
    with lock.held(folder):
        wait_for(until.exists)


def keep(own: lock.Lock, until: Path) -> None:
    """Have somebody else's lock until a file is there."""
    (until.parent / "kept").touch()
    wait_for(until.exists)


def hold_and_die(folder: Path, until: Path) -> None:
    """Hold a folder, share the lock with another process, and be killed."""
    commands.serve()
    with lock.held(folder):
        fork_server.start(keep, (lock.OURS[folder], until))
        wait_for((until.parent / "kept").exists)
        os._exit(9)


@pytest.fixture
def in_use(tmp_path):
    """A folder that another process holds, and that process."""
    folder = tmp_path / "run"
    holder = fork_server.start(hold, (folder, tmp_path / "done"))
    wait_for((folder / lock.LOCK).exists)
    wait_for(lambda: (folder / lock.LOCK).read_text())
    yield folder, holder
    (tmp_path / "done").touch()
    holder.join()


def test_a_run_has_one_writer(in_use, capsys):
    folder, holder = in_use
    runs.write_status(folder, "running")
    settings = config(*QUICK, "dataset.layout=rows")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert jobs.attempt(resumed(settings, folder), folder, job()) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"process {holder.pid} is writing it; wait until it has ended, or stop it" in err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    # A launcher leaves the other one's word alone, too.
    run = outcome.conclude_process(folder, outcome.mark(folder), "gone")
    assert (run.status, run.reason) == ("failed", f"process {holder.pid} is writing it")
    assert runs.read_run(folder).status == "running"


def test_a_sweep_has_one_driver(in_use, tmp_path, monkeypatch, capsys):
    folder, holder = in_use
    sweep = ["-m", "seed=0,1", "num_threads=1", "dataset.layout=rows"]
    listed = [{"folder": f"00{n}", "overrides": [f"seed={n}", *sweep[2:]]} for n in (0, 1)]
    runs.write_json(folder / runs.SWEEP, {"command": "", "jobs": listed})
    monkeypatch.chdir(tmp_path)
    assert cli.main([*sweep, f"resume={folder}", "dry_run=true"]) == 0  # who only reads may
    capsys.readouterr()
    assert cli.main([*sweep, f"resume={folder}"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and f"process {holder.pid} is writing it" in err
    assert sorted(path.name for path in folder.iterdir()) == [lock.LOCK, runs.SWEEP]


def test_a_job_whose_folder_is_a_link_does_not_start(tmp_path, monkeypatch, capsys):
    elsewhere, sweep = tmp_path / "elsewhere", tmp_path / "sweep"
    elsewhere.mkdir()
    sweep.mkdir()
    (sweep / "000").symlink_to(elsewhere)
    line = ["num_threads=1", "dataset.layout=rows"]
    jobs_ = [{"folder": "000", "overrides": ["seed=0", *line]}]
    runs.write_json(sweep / runs.SWEEP, {"command": "", "jobs": jobs_})
    monkeypatch.chdir(tmp_path)
    assert cli.main(["-m", "seed=0", *line, f"resume={sweep}"]) == 2
    assert "000: is a link, which is not followed; move it away" in capsys.readouterr().err
    assert not [*elsewhere.iterdir()]


def test_the_lock_goes_with_its_process_and_stays_with_those_it_was_sent_to(tmp_path):
    folder = tmp_path / "run"
    fork_server.start(hold_and_die, (folder, tmp_path / "done")).join()
    with pytest.raises(ConfigError, match="is writing it"), lock.held(folder):
        pass
    (tmp_path / "done").touch()
    wait_for(lambda: not lock.holder(folder) and taken(folder))
    assert (folder / lock.LOCK).read_text().startswith(f"{os.getpid()} on ")


def taken(folder: Path) -> bool:
    try:
        with lock.held(folder):
            return True
    except ConfigError:
        return False


def test_what_a_lock_file_says_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 0)
    with lock.held(tmp_path):
        for said in ("\x1b[2J", "1; rm -rf /", "x" * 10_000):
            (tmp_path / lock.LOCK).write_text(said)
            assert lock.holder(tmp_path) == "another process"
            with pytest.raises(ConfigError, match="another process is writing"):
                lock.held(tmp_path).__enter__()
    assert lock.holder(tmp_path) == ""


def test_a_folder_with_the_files_of_a_run_is_not_begun(tmp_path, capsys):
    """As where status.json was lost."""
    settings = config(*QUICK, "dataset.layout=rows")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_text("precious")
    assert jobs.attempt(settings, tmp_path, job()) == 2
    assert "holds a run already (waiting); continue it with resume=" in capsys.readouterr().err
    assert (tmp_path / "checkpoints" / "last.ckpt").read_text() == "precious"


def test_nothing_is_deleted_of_a_run_that_starts_anew(tmp_path):
    for number in (1, 2):
        (tmp_path / "checkpoints").mkdir()
        for name in ("checkpoints/last.ckpt", "events.out.tfevents.1", runs.METRICS, runs.SUMMARY):
            (tmp_path / name).write_text(str(number))
        runs.write_json(tmp_path / runs.MANIFEST, {"number": number})
        assert runs.set_aside(tmp_path) == tmp_path / f"set_aside_{number}"
        assert sorted(os.listdir(tmp_path / f"set_aside_{number}")) == [
            "checkpoints", "events.out.tfevents.1", "manifest.json", "metrics.jsonl", "summary.json"
        ]  # fmt: skip
        assert (tmp_path / f"set_aside_{number}" / "checkpoints" / "last.ckpt").read_text() == str(
            number
        )
    assert runs.read_json(tmp_path / runs.MANIFEST) == {"number": 2}
    assert runs.set_aside(tmp_path) is None
