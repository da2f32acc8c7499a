"""Start what a plan asks for, by Hydra's own runner."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import Any

from hydra.core.utils import configure_log
from omegaconf import DictConfig

from bptt_lab.commands.train.plan import Plan
from bptt_lab.config import security
from bptt_lab.config.errors import explain, on_one_line
from bptt_lab.config.hydra_internals import Hydra, get_args_parser
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs.outcome import COMPLETED
from bptt_lab.training.job import task


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
    """Run what was planned to its end, or show its configuration for --cfg, and return 0.

    Lightning starts further processes by `words`, the command line.

    Raises:
        ConfigError: for an error outside of the jobs.
        SystemExit: with a job's exit code.
    """
    before, sys.argv[1:] = sys.argv[1:], words
    try:
        _Runner(plan).start()
    except (ConfigError, BrokenPipeError):
        raise
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        raise ConfigError(explain(error, None, words)) from error
    finally:
        sys.argv[1:] = before
    return COMPLETED


def answer(args: argparse.Namespace) -> int:
    """Have Hydra answer --hydra-help, --info or --shell-completion."""
    logging.raiseExceptions = False  # Hydra logs the answer, and the reader may have left
    with on_one_line(None, args.overrides):
        command, _ = security.open_command_line(args)
    with on_one_line(command, command.lines):
        hydra = Hydra(command.job_name, command.loader)
        if args.hydra_help:
            hydra.hydra_help(command.name, get_args_parser(), args)
        elif args.info:
            command.compose(command.lines)  # whose errors are raised, not printed
            hydra.show_info(args.info, command.name, command.lines)
        else:
            hydra.shell_completion(command.name, command.lines)
    return COMPLETED
