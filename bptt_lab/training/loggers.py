"""Loggers beside TensorBoard's: Lightning's for CSV files, Weights & Biases and MLflow.

Each gets the lines of metrics.jsonl, each line once. A run that goes on after its checkpoint logs
some lines again; those that a logger has got before are not sent to it. One that is new to a run
gets what the run has logged so far.
"""

import json
import logging
import os
import re
import secrets
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities import rank_zero_only

from bptt_lab import runs
from bptt_lab.config import loggers
from bptt_lab.config.schema import Experiment
from bptt_lab.runs import files, outcome, sweep
from bptt_lab.training import metrics_log

PROJECT = "bptt_lab"
Made = tuple[Logger, str | None, int | None]
Make = Callable[[str | None], Made]
_ID = re.compile("[A-Za-z0-9]{4,64}")


class Outside(Logger):
    """Another library's logger, which never ends a run: where it fails the run goes on without it.

    Args:
        name: of the logger.
        folder: of the run. Files go to `loggers/`, and what a run needs to go on with the same
            record to `loggers/<name>.json`: its id, and how many lines it has got.
        hyperparameters: of the run.
        make: from an id, None for a new record, to Lightning's logger, the record's id and how many
            lines are stored in it, None where only `loggers/<name>.json` knows.
        lasting: whether a line is stored once it is sent, and not only when the logger is closed.
    """

    version = ""

    def __init__(
        self,
        name: str,
        folder: Path,
        hyperparameters: Mapping[str, Any],
        make: Make,
        lasting: bool = True,
    ) -> None:
        super().__init__()
        self._name, self.make, self.lasting = name, make, lasting
        self.hyperparameters = hyperparameters
        self.metrics, self.paper = folder / runs.METRICS, folder / "loggers" / f"{name}.json"
        self.logger: Logger | None = None
        self.failed = False
        saved = runs.read_json(self.paper)
        known, sent = saved.get("id"), saved.get("lines")
        self.id = known if isinstance(known, str) and _ID.fullmatch(known) else None
        self.before = self._lines()
        self.lines = self.before[: sent if isinstance(sent, int) and self.id else 0]  # it has got
        self.next = -1  # number of the next line; unknown before the first one

    @property
    def name(self) -> str:
        """Its name in `loggers`."""
        return self._name

    @property
    def experiment(self) -> Any:
        """What Lightning's logger calls so, for a callback that asks for it."""
        return getattr(self.logger, "experiment", None)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Pass on what metrics.jsonl has got just now."""
        if not self.failed:
            self._guarded(self._log, metrics, step)

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Ignore them: it has the run's own."""

    def close(self, status: str) -> None:
        """Bring everything to where it belongs, and end the record as "success" or "failed"."""
        if self.logger is not None:
            self._guarded(self._close, status)

    def _close(self, status: str) -> None:
        assert self.logger is not None
        self.logger.finalize(status)
        if self.name == "wandb":
            self.experiment.finish(exit_code=int(status != "success"))
        self._note(len(self.lines))

    def _log(self, metrics: Mapping[str, float], step: int | None) -> None:
        if self.next < 0:
            self._open()
            lines = self._lines()  # cut to the checkpoint, and the first one after it
            self.next = len(lines) - 1
            for line in lines[len(self.lines) : -1]:
                self._send(line)
        line = metrics_log.line(metrics, step)
        if self.next < len(self.lines) and self.lines[self.next] != line:
            del self.lines[self.next :]  # the run goes another way than before
        if self.next == len(self.lines):
            self._send(line)
        self.next += 1

    def _open(self) -> None:
        self.logger, made, stored = self.make(self.id)
        if self.id is None:
            self.logger.log_hyperparams(dict(self.hyperparameters))
        if stored is not None:
            self.lines = self.before[:stored]
        self.id = made
        self._note(len(self.lines))

    def _send(self, line: str) -> None:
        assert self.logger is not None
        values = json.loads(line)
        step = values.pop("step")
        self.logger.log_metrics({tag: float(value) for tag, value in values.items()}, step)
        self.lines.append(line)
        if self.lasting:
            self._note(len(self.lines))

    def _note(self, lines: int) -> None:
        if self.id is not None:
            runs.write_json(self.paper, {"id": self.id, "lines": lines})

    def _lines(self) -> list[str]:
        if not self.metrics.exists():
            return []
        with files.reading(self.metrics) as file:
            return file.read().decode().splitlines()

    def _guarded(self, act: Callable[..., None], *args: Any) -> None:
        try:
            act(*args)
        except Exception as error:
            self.failed = True
            why = " ".join(str(error).split())[:300]
            problem = f"{type(error).__name__}: {why}; the run goes on without it"
            outcome.tell(f"loggers={self.name}: {problem}, and {runs.METRICS} has everything")


def make_loggers(
    experiment: Experiment, folder: Path, hyperparameters: Mapping[str, Any]
) -> list[Outside]:
    """Return the loggers that an experiment names; nothing is imported before the first line."""
    makers = {"csv": _csv, "wandb": _wandb, "mlflow": _mlflow}

    def maker(name: str, settings: Mapping[str, Any]) -> Make:
        def make(known: str | None) -> Made:
            (folder / "loggers").mkdir(exist_ok=True)
            return makers[name](folder, known, settings)

        return make

    chosen = loggers.read(experiment.loggers)
    return [
        # A killed wandb loses what it has not yet written.
        Outside(name, folder, hyperparameters, maker(name, own), lasting=name != "wandb")
        for name, own in chosen.items()
    ]


def close_loggers(every: Iterable[Logger], status: str) -> None:
    """Close those of other libraries, once nothing more is logged."""
    for logger in every:
        if isinstance(logger, Outside):
            logger.close(status)


def _csv(folder: Path, known: str | None, settings: Mapping[str, Any]) -> Made:
    """Write loggers/csv/metrics.csv anew, from the first line on."""
    for name in ("metrics.csv", "hparams.yaml"):
        (folder / "loggers" / "csv" / name).unlink(missing_ok=True)
    place = folder / "loggers"
    return CSVLogger(place, name="csv", version="", flush_logs_every_n_steps=1), None, 0


def _wandb(folder: Path, known: str | None, settings: Mapping[str, Any]) -> Made:
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    group = {"group": folder.parent.name} if sweep.swept(folder) else {}
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    run = wandb.init(
        **{"name": folder.name, "project": project, **group, **settings},
        dir=folder / "loggers",
        id=known or secrets.token_hex(8),
        resume="allow",
        reinit="create_new",  # a fleet has several runs in a process
        settings={"console": "off", "silent": True},
    )
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    if not run.offline and run.url:
        print(f"wandb        {run.url}", flush=True)
    return WandbLogger(experiment=run), run.id, run.step if run.resumed else None


def _mlflow(folder: Path, known: str | None, settings: Mapping[str, Any]) -> Made:
    from lightning.pytorch.loggers import MLFlowLogger

    logging.getLogger(MLFlowLogger.__module__).setLevel(logging.ERROR)  # not: no experiment yet
    place = os.environ.get("MLFLOW_TRACKING_URI")
    own = {
        "experiment_name": os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT),
        "run_name": folder.name,
        "tracking_uri": place or (folder / "loggers" / "mlflow").absolute().as_uri(),
    }
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # else it wants a database
    logger = MLFlowLogger(**{**own, **settings}, run_id=known)
    try:
        return logger, str(logger.run_id), None
    finally:  # it sets the variable for all other runs of this process
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        os.environ.update({} if place is None else {"MLFLOW_TRACKING_URI": place})
