"""The command `bptt-train`: Hydra's own application, behind a check of everything it was told.

Exit codes: 0 all went well; 1 a job failed; 2 the command line cannot work, and one line on
stderr says why; 3 the run diverged; 128 + n after signal n, such as 130 and 143.
"""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra

from bptt_lab.commands.search import best
from bptt_lab.commands.train import precheck
from bptt_lab.config import arguments, compose, output_paths
from bptt_lab.config.options import CONFIG_NAME
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import locate, resume, sweep
from bptt_lab.runs.outcome import Interrupted
from bptt_lab.training.job import task

FAILED, REFUSED, INTERRUPTED = 1, 2, 130
FULL_ERROR = "HYDRA_FULL_ERROR"


def main() -> int:
    """Check the command line, then run it.

    Returns:
        The exit code.
    """
    # A console script does not look here by itself, `python -m` does. Last, so that no folder of
    # the user's hides an installed package.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    output_paths.register()
    sweep_dir: Path | None = None
    try:
        args = arguments.parse_arguments(sys.argv[1:])
        rest = arguments.without(sys.argv[1:], args.overrides)
        args.overrides = resume.overrides(args.overrides)
        argv = [*args.overrides, *rest]  # Hydra takes overrides only where they stand together
        if args.help:
            from bptt_lab.commands.train.help import print_help

            print_help(args)
            return 0
        if not (args.hydra_help or args.info or args.shell_completion or args.experimental_rerun):
            plan = precheck.check(args)
            if plan.experiments[0].control.dry_run:
                from bptt_lab.commands.train import dry_run

                dry_run.show(plan)
                return 0
            sweep_dir = plan.sweep_dir
            if plan.sweep_dir is not None:
                command = shlex.join(["bptt-train", *sys.argv[1:]])
                known = plan.jobs[: len(plan.folders)]
                sweep.announce(plan.sweep_dir, command, plan.folders, known)
            argv = [plan.reworded.get(argument, argument) for argument in argv]
    except (ConfigError, KeyboardInterrupt) as error:
        return _report(error)
    except BrokenPipeError:
        return _no_reader()
    sys.argv[1:] = argv
    code = _run_hydra()
    if sweep_dir is not None and sweep_dir.is_dir():
        failed = sweep.print_table(sweep_dir)
        best.print_best(sweep_dir)
        _report_sweep(sweep_dir)
        return code or (FAILED if failed else 0)
    return code


def _report_sweep(sweep_dir: Path) -> None:
    """Write the sweep's report; what goes wrong there is no fault of its jobs."""
    from bptt_lab.commands.report import write_report

    try:
        page = write_report(sweep_dir)
    except Exception as error:
        again = shlex.join(["bptt-report", locate.shown(sweep_dir)])
        print(f"bptt-train: no report ({error}); {again} tries again", file=sys.stderr)
    else:
        print(f"report       {locate.shown(page)}")


def _run_hydra() -> int:
    """Hand the command line to Hydra; what fails here failed outside of any job."""
    run = hydra.main(
        version_base=compose.VERSION_BASE,
        config_path=compose.CONFIG_PATH,
        config_name=CONFIG_NAME,
    )(task)
    try:
        with _errors_raised():
            run()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except (ConfigError, KeyboardInterrupt) as error:
        return _report(error)
    except Interrupted as error:  # the jobs have stopped
        print("bptt-train:", error, file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        return _no_reader()
    except Exception as error:
        if os.environ.get(FULL_ERROR) == "1":
            raise
        from bptt_lab.config.errors import explain

        return _report(ConfigError(explain(error, None, sys.argv[1:])))
    return 0


@contextmanager
def _errors_raised() -> Iterator[None]:
    """Have Hydra raise its errors; otherwise it prints several lines and exits."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = before


def _no_reader() -> int:
    """Stop quietly when what read our output is gone, as in `bptt-train --help | head`."""
    # The interpreter flushes stdout once more on its way out.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _report(error: BaseException) -> int:
    """Print an error for whom it concerns, and return the exit code."""
    if isinstance(error, ConfigError):
        print("bptt-train:", *str(error).split(), file=sys.stderr)
        return REFUSED
    if isinstance(error, KeyboardInterrupt):
        print("bptt-train: interrupted", file=sys.stderr)
        return INTERRUPTED
    traceback.print_exception(error)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
