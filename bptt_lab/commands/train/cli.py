"""The command `bptt-train`: every setting is verified, then Hydra runs the jobs."""

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import configure_log
from omegaconf import DictConfig

from bptt_lab import runs
from bptt_lab.commands import command
from bptt_lab.commands.search import record
from bptt_lab.commands.train.plan import Plan, make_plan, show_plan
from bptt_lab.config import arguments, output_paths, security
from bptt_lab.config.errors import explain, is_of_output, on_one_line
from bptt_lab.config.hydra_internals import Hydra, get_args_parser
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import lock, resume, sweep
from bptt_lab.runs.outcome import COMPLETED
from bptt_lab.training.job import task

INTRODUCTION = """\
Train a vanilla RNN, and choose how credit flows back through time.

  bptt-train                                         the default experiment
  bptt-train gradient=truncated gradient.k=8         choose an option, then set what it takes
  bptt-train model.hidden_size=256 optimizer.lr=3e-4 seed=1
  bptt-train -m gradient=full,truncated seed=0,1,2   a sweep: one job for each combination
  bptt-train -m gradient=truncated 'gradient.k=range(2,9,2)' 'dataset=glob(*)'
  bptt-train --cfg job gradient=truncated            show the configuration and verify it
  bptt-train --config-dir DIR gradient=mine          an option of your own: DIR/gradient/mine.yaml,
                                                     whose _target_ is found from this folder too
  tensorboard --logdir outputs                       watch all runs, at http://localhost:6006

Each run writes a folder of its own in outputs/, a sweep one folder for each job and a table."""


@command.named("bptt-train")
def main(argv: Sequence[str] | None = None) -> int:
    """Verify the command line, then train."""
    return train("bptt-train", INTRODUCTION, argv)


def train(name: str, introduction: str, given: Sequence[str] | None, *first: str) -> int:
    """Train for a command of any name; its help has an introduction, its line some first words."""
    argv = [*first, *(sys.argv[1:] if given is None else given)]
    command.find_plugins_here()
    output_paths.register()
    args = arguments.parse_arguments(argv)
    flags = [word for word in argv if word not in args.overrides]
    args.overrides = resume.overrides(args.overrides)
    if args.help:
        from bptt_lab.commands.train.help import print_help

        print_help(name, introduction, args)
        return 0
    words = [*args.overrides, *flags]  # Hydra takes overrides only where they stand together
    if args.hydra_help or args.info or args.shell_completion:
        return answer(args)
    command.progress("composing the configuration ...")
    plan = make_plan(args)
    command.progress("")
    if plan.experiments[0].control.dry_run:
        show_plan(plan)
        return 0
    if args.cfg:
        return start(plan, words)
    return command.run(name, lambda: _carry_out(plan, name, argv, words), lasting=True)


def _carry_out(plan: Plan, name: str, argv: Sequence[str], words: list[str]) -> int:
    """Run what was planned; of a sweep, print its results and write its report."""
    if plan.sweep_dir is None:
        return start(plan, words)
    with lock.held(plan.sweep_dir):
        known = plan.jobs[: len(plan.folders)]
        sweep.announce(plan.sweep_dir, shlex.join(["bptt-train", *argv]), plan.folders, known)
        code = command.run(name, lambda: start(plan, words))
        failed = sweep.print_table(plan.sweep_dir)
        record.print_best(plan.sweep_dir)
        _report_sweep(name, plan.sweep_dir)
    return code or int(failed > 0)


def _report_sweep(name: str, sweep_dir: Path) -> None:
    """Write the sweep's report; an error in it does not fail the jobs."""
    from bptt_lab.commands.report import write_report

    try:
        page = write_report(sweep_dir)
    except Exception as error:
        again = shlex.join(["bptt-report", runs.shown(sweep_dir)])
        command.say(name, f"no report ({error}); {again} tries again", 0)
    else:
        print(f"report       {runs.shown(page)}")


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


def start(plan: Plan, words: list[str]) -> int:
    """Run what was planned to its end, or show its configuration for --cfg, and return 0.

    Lightning starts further processes by `words`, the command line.

    Raises:
        ConfigError: for an error outside of the jobs.
        SystemExit: with a job's exit code.
    """
    command, args, runner = plan.command, plan.command.args, _Runner(plan)
    before, sys.argv[1:] = sys.argv[1:], words
    try:
        if args.cfg:
            runner.show_cfg(command.name, command.lines, args.cfg, args.package, args.resolve)
        elif plan.sweep_dir is None:
            runner.run(command.name, task, command.lines)
        else:
            runner.multirun(command.name, task, command.lines)
    except ConfigError:
        raise
    except Exception as error:
        if is_of_output(error) or os.environ.get("HYDRA_FULL_ERROR") == "1":
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


if __name__ == "__main__":
    sys.exit(main())
