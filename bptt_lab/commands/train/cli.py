"""The command `bptt-train`: every setting is verified, then Hydra runs the jobs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from bptt_lab import runs
from bptt_lab.commands import command
from bptt_lab.commands.search import record
from bptt_lab.commands.train.plan import Plan, make_plan, show_plan
from bptt_lab.commands.train.start import answer, start
from bptt_lab.config import arguments, output_paths
from bptt_lab.runs import lock, resume, sweep

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


if __name__ == "__main__":
    sys.exit(main())
