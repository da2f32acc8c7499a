"""Start what a plan asks for, by Hydra's own runner."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.core.utils import configure_log
from omegaconf import DictConfig

from bptt_lab.commands.train.plan import Plan
from bptt_lab.config.errors import explain
from bptt_lab.config.hydra_internals import Hydra
from bptt_lab.config.strategies import CONFIG_NAME, CONFIG_PATH, VERSION_BASE
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs.outcome import COMPLETED
from bptt_lab.training.job import task

FULL_ERROR = "HYDRA_FULL_ERROR"


class _Runner(Hydra):
    """Hydra's runner for a plan, whose configuration is composed already."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.command.job_name, plan.command.loader)
        self.plan = plan

    def compose_config(
        self, *args: Any, with_log_configuration: bool = False, **kwargs: Any
    ) -> DictConfig:
        config = self.plan.config
        if with_log_configuration:
            configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        return config

    def start(self) -> None:
        command, args = self.plan.command, self.plan.command.args
        if args.cfg:
            self.show_cfg(command.name, command.lines, args.cfg, args.package, args.resolve)
        elif self.plan.sweep_dir is None:
            self.run(command.name, task, command.lines)
        else:
            self.multirun(command.name, task, command.lines)


def start(plan: Plan, words: list[str]) -> int:
    """Run what was planned to its end, or show its configuration for --cfg.

    Args:
        plan: what to do.
        words: the command line, by which Lightning starts further processes.

    Returns:
        The exit code, 0.

    Raises:
        ConfigError: for an error outside of the jobs.
        SystemExit: with a job's exit code.
    """
    return _explained(_Runner(plan).start, words)


def answer(words: list[str]) -> int:
    """Have Hydra answer --hydra-help, --info or --shell-completion; it composes what it shows."""
    app = hydra.main(version_base=VERSION_BASE, config_path=CONFIG_PATH, config_name=CONFIG_NAME)
    logging.raiseExceptions = False  # Hydra logs the answer, and the reader may have left
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"  # errors are raised, not printed
    try:
        return _explained(app(task), words)
    finally:
        del os.environ[FULL_ERROR]
        if before is not None:
            os.environ[FULL_ERROR] = before


def _explained(work: Callable[[], object], words: list[str]) -> int:
    """Call a function of Hydra's, and put an error of its own on one line."""
    try:
        with _command_line(words):
            work()
        return COMPLETED
    except (ConfigError, BrokenPipeError):
        raise
    except Exception as error:
        if os.environ.get(FULL_ERROR) == "1":
            raise
        raise ConfigError(explain(error, None, words)) from error


@contextmanager
def _command_line(words: list[str]) -> Iterator[None]:
    """Let these words be the command line of this process."""
    before = sys.argv[1:]
    sys.argv[1:] = words
    try:
        yield
    finally:
        sys.argv[1:] = before
