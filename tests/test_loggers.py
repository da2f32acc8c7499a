"""Loggers beside TensorBoard get what metrics.jsonl gets, once, and change nothing in a run."""

from __future__ import annotations

import csv
import json
import struct

import pytest
from fleet_runs import QUIET, TASKS, side_by_side
from lightning.pytorch.loggers.logger import DummyLogger
from runs import config, job, quick_run, resumed, state_dict
from test_resume import stop_and_go_on

from bptt_lab.config import loggers
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import files
from bptt_lab.training.loggers import Outside
from bptt_lab.training.train import perform

RUN = (*QUIET, *TASKS["adding"])
ALL = "loggers=[csv,{mlflow:{experiment_name:mine}},{wandb:{project:mine,tags:[a]}}]"


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No network, and nothing that this machine's user has set or logged in to."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))


def lines(folder):
    """What metrics.jsonl says, as sets of step, tag and value."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return sorted(
        (line["step"], tag, str(float(x)))
        for line in found
        for tag, x in line.items()
        if tag != "step"
    )


def in_csv(folder):
    with (folder / "loggers" / "csv" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return sorted(
        (int(row["step"]), tag, str(float(x)))
        for row in rows
        for tag, x in row.items()
        if tag != "step" and x
    )


def in_mlflow(folder):
    from mlflow.tracking import MlflowClient

    client = MlflowClient((folder / "loggers" / "mlflow").as_uri())
    (experiment,) = (e for e in client.search_experiments() if e.name == "mine")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["model.hidden_size"] == "7"
    histories = {tag: client.get_metric_history(run.info.run_id, tag) for tag in run.data.metrics}
    return sorted((m.step, tag, str(m.value)) for tag, ms in histories.items() for m in ms)


def in_wandb(folder):
    """Read its files, each a log of blocks as LevelDB's, of protocol buffers."""
    from wandb.proto import wandb_internal_pb2

    found = []
    files = sorted((folder / "loggers" / "wandb").glob("offline-run-*/*.wandb"))
    assert len({file.name for file in files}) == 1  # of one run, whatever its attempts
    for file in files:
        data, at, whole = file.read_bytes(), 7, b""
        while at + 7 <= len(data):
            if 2**15 - at % 2**15 < 7:
                at += 2**15 - at % 2**15
                continue
            _, length, kind = struct.unpack("<IHB", data[at : at + 7])
            whole += data[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):  # a whole record, or the last part of one
                record = wandb_internal_pb2.Record.FromString(whole)
                found.append(
                    {i.key or "/".join(i.nested_key): i.value_json for i in record.history.item}
                )
                whole = b""
    return sorted(
        (int(line["trainer/global_step"]), tag, str(float(json.loads(x))))
        for line in found
        for tag, x in line.items()
        if tag != "trainer/global_step" and tag[0] != "_"
    )


def test_a_csv_file_has_every_line_once_and_the_run_its_bits(tmp_path):
    quick_run(tmp_path / "plain", *RUN)
    quick_run(tmp_path / "run", *RUN, "loggers=csv")
    assert in_csv(tmp_path / "run") == lines(tmp_path / "run") == lines(tmp_path / "plain")
    assert "lr: 0.0" in (tmp_path / "run" / "loggers" / "csv" / "hparams.yaml").read_text()
    one, other = state_dict(tmp_path / "run"), state_dict(tmp_path / "plain")
    assert all(one[name].equal(other[name]) for name in one)


@pytest.mark.slow
def test_a_fleet_and_its_continued_runs_log_each_line_once(tmp_path):
    jobs = [(*RUN, ALL, f"seed={seed}") for seed in (0, 1)]
    side_by_side(tmp_path, jobs)
    known = [(tmp_path / str(n) / "loggers" / "mlflow.json").read_text() for n in (0, 1)]
    for number in (0, 1):
        folder = tmp_path / str(number)
        assert in_csv(folder) == in_mlflow(folder) == in_wandb(folder) == lines(folder)
    assert json.loads(known[0])["id"] != json.loads(known[1])["id"]
    longer = (*jobs[0], "trainer.max_epochs=3")
    before = in_mlflow(tmp_path / "0")
    perform(resumed(config(*longer), tmp_path / "0"), tmp_path / "0", job(*longer))
    assert in_csv(tmp_path / "0") == lines(tmp_path / "0")
    for logged in (in_mlflow(tmp_path / "0"), in_wandb(tmp_path / "0")):
        assert {*logged} == {*before, *lines(tmp_path / "0")}  # its first end stays, too
        assert len(logged) == len({*logged})


def test_a_stopped_run_goes_on_in_its_records(tmp_path):
    own = (*RUN, "loggers=[csv,{mlflow:{experiment_name:mine}}]")
    stop_and_go_on(tmp_path, config(*own), 2, 3)
    assert in_csv(tmp_path) == in_mlflow(tmp_path) == lines(tmp_path)


def test_a_logger_that_joins_late_gets_what_was_logged_before(tmp_path):
    quick_run(tmp_path, *RUN)
    longer = (*RUN, "trainer.max_epochs=3", "loggers=[csv]")
    perform(resumed(config(*longer), tmp_path), tmp_path, job(*longer))
    assert in_csv(tmp_path) == lines(tmp_path)


def test_a_logger_that_fails_is_told_of_once_and_harms_nothing(tmp_path, capsys, monkeypatch):
    quick_run(tmp_path / "plain", *RUN)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://")
    quick_run(tmp_path / "run", *RUN, "loggers=[mlflow]")
    assert lines(tmp_path / "run") == lines(tmp_path / "plain")
    assert capsys.readouterr().err.count("the run goes on without it") == 1


def test_a_line_that_a_run_does_not_repeat_is_sent(tmp_path):
    """Where a run goes another way than before, what it logs is no repetition."""
    sent = []

    class Sink:
        def log_metrics(self, metrics, step):
            sent.append((step, metrics))

        def log_hyperparams(self, params):
            pass

    log, paper = tmp_path / "metrics.jsonl", tmp_path / "loggers" / "x.json"
    paper.parent.mkdir()
    paper.write_text(json.dumps({"id": "abcd", "lines": 3}))
    log.write_text("".join(f'{{"step": {n}, "a": {n}.0}}\n' for n in (1, 2, 3)))
    logger = Outside("x", tmp_path, {}, lambda known: (Sink(), known, None))
    log.write_text('{"step": 1, "a": 1.0}\n{"step": 2, "a": 2.0}\n')
    logger.log_metrics({"a": 2}, 2)
    assert sent == []
    logger.log_metrics({"a": 9}, 3)
    logger.log_metrics({"a": 4}, 4)
    assert sent == [(3, {"a": 9.0}), (4, {"a": 4.0})]
    assert json.loads(paper.read_text()) == {"id": "abcd", "lines": 4}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["cvs"], "loggers=cvs: there is no such logger; did you mean csv?"),
        ([3], "loggers=3: there is no such logger; choose from csv, wandb, mlflow"),
        (["csv", "csv"], "loggers=[csv,csv]: names csv twice; leave one out"),
        ([{"wandb": 3}], "loggers.wandb=3: must be settings, as {wandb:{key:value}}"),
        ([{"wandb": {"dir": "/tmp"}}], "loggers.wandb.dir=/tmp: there is no such setting"),
        ([{"csv": {"save_dir": "/"}}], "loggers.csv.save_dir=/: there is no such setting"),
        ([{"wandb": {"mode": "of"}}], "loggers.wandb.mode=of: must be one of online, offline"),
        ([{"mlflow": {"tracking_uri": "file:/x"}}], "must be a server, as http://HOST:PORT"),
    ],
)
def test_a_logger_that_cannot_be_is_refused_in_one_line(given, message):
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as refused:
        loggers.read(given)
    assert message in str(refused.value)


def test_without_its_package_a_logger_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'bptt_lab\[wandb\]'"):
        loggers.read(["wandb"])


@pytest.mark.parametrize("place", ["csv", "csv/metrics.csv", "mlflow/0/meta.yaml"])
def test_a_link_out_of_the_folder_is_not_followed(place, tmp_path):
    path = tmp_path / "run" / "loggers" / place
    path.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").write_text("")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is a link"):
        files.refuse_strange(tmp_path / "run")
    path.unlink()
    (path.parent / "file").write_text("")
    path.symlink_to("file")  # as wandb has them
    if place.count("/"):
        files.refuse_strange(tmp_path / "run")
    attempt = tmp_path / "run" / "loggers" / "wandb" / "offline-run-1" / "logs"
    attempt.mkdir(parents=True)
    (attempt / "debug-core.log").symlink_to(tmp_path / "elsewhere")  # as a killed wandb leaves it
    path.unlink()
    files.refuse_strange(tmp_path / "run")
    (attempt.parent.parent / "latest-run").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="latest-run: is a link that leads out"):
        files.refuse_strange(tmp_path / "run")


@pytest.mark.parametrize("lasting", [True, False])
def test_what_is_stored_only_when_closed_is_sent_again_after_a_kill(lasting, tmp_path):
    sent = []

    class Sink(DummyLogger):
        def log_metrics(self, metrics, step):
            sent.append(step)

    def attempt(stored=None):
        made = Outside("x", tmp_path, {}, lambda known: (Sink(), "abcd", stored), lasting=lasting)
        sent.clear()
        return made

    log = tmp_path / "metrics.jsonl"
    (tmp_path / "loggers").mkdir()
    logger = attempt()
    for step in (1, 2, 3):
        log.write_text("".join(f'{{"step": {n}, "a": 0.0}}\n' for n in range(1, step + 1)))
        logger.log_metrics({"a": 0}, step)
    assert sent == [1, 2, 3]
    attempt().log_metrics({"a": 0}, 3)  # after a kill, from a checkpoint after the second line
    assert sent == ([] if lasting else [1, 2, 3])
    attempt(stored=2).log_metrics({"a": 0}, 3)  # where the library knows
    assert sent == [3]
    logger.close("success")
    attempt().log_metrics({"a": 0}, 3)
    assert sent == []
