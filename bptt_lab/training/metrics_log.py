"""metrics.jsonl: every logged scalar of a run, one line a logging event, for any tool to read.

A checkpoint has the length and the sum of the log as it was, so that a run goes on with that log.
"""

import hashlib
import json
import math
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary

from bptt_lab.runs import files


class MetricsLog(Logger):
    """A Lightning logger that appends {"step": ..., tag: value, ...} to a file.

    Args:
        path: the file; lines are appended and flushed, so that a stopped run keeps them. What is
            not finite is written as the strings "inf", "-inf" and "nan", which JSON lacks.
    """

    name = "metrics"
    version = ""  # a run has one log

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one line."""
        with files.writing(self.path, "append") as file:
            file.write((line(metrics, step) + "\n").encode())

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Ignore them: the run's config is a file of its own."""


def line(metrics: Mapping[str, float], step: int | None) -> str:
    """Return the line of a logging event."""
    numbers = {tag: float(value) for tag, value in metrics.items()}
    values = {tag: x if math.isfinite(x) else str(x) for tag, x in numbers.items()}
    return json.dumps({"step": step, **values})


class BoardLog(TensorBoardLogger):
    """TensorBoard's event file, which gets the scalars of a logging event as one."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add one event."""
        values = [Summary.Value(tag=t, simple_value=float(x)) for t, x in metrics.items()]
        writer = self.experiment._get_file_writer()
        writer.add_summary(Summary(value=values), step)


def mark(path: Path) -> dict[str, Any]:
    """Return length and sum of a log, all of it on the disk."""
    length, digest = 0, hashlib.sha256()
    if path.exists():
        with files.reading(path) as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256")
            length = file.tell()
    return {"metrics_bytes": length, "metrics_sha256": digest.hexdigest()}


def unfit(path: Path, saved: Mapping[str, Any]) -> str:
    """Say why a log is not the one of a checkpoint's `run`, `saved`; empty where it is.

    In old checkpoints there is no sum, but the best loss is a line of the log.
    """
    length, digest, best = saved["metrics_bytes"], saved.get("metrics_sha256"), saved["best_loss"]
    if not 0 <= length <= (path.stat().st_size if path.exists() else 0):
        return "is shorter than when"
    head = b""
    if length:
        with files.reading(path) as file:
            head = file.read(length)
    if digest is not None and hashlib.sha256(head).hexdigest() != digest:
        return "is not what it was when"
    if digest is None and math.isfinite(best) and f'"val/loss": {best!r}'.encode() not in head:
        return f"has no val/loss of {best!r}, the best when"
    return ""


def cut(path: Path, length: int) -> None:
    """Cut a log to what it held when a checkpoint was taken, in bytes."""
    if path.exists():
        with files.writing(path, "over") as file:
            file.truncate(length)
