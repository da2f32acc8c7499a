"""metrics.jsonl: every logged scalar of a run, one line a logging event, for any tool to read."""

from __future__ import annotations

import json
import math
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


class MetricsLog(Logger):
    """A Lightning logger that appends {"step": ..., tag: value, ...} to a file.

    Args:
        path: the file; lines are appended and flushed, so that a stopped run keeps them. What is
            not finite is written as the strings "inf", "-inf" and "nan", which JSON lacks.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "metrics"

    @property
    def version(self) -> str:
        """A run has one log."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one line."""
        numbers = {tag: float(value) for tag, value in metrics.items()}
        values = {tag: x if math.isfinite(x) else str(x) for tag, x in numbers.items()}
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Ignore them: the run's config is a file of its own."""


def cut(path: Path, length: int) -> None:
    """Cut a log to what it held when a checkpoint was taken, in bytes."""
    if path.exists() and path.stat().st_size > length:
        os.truncate(path, length)
