"""One job from its first moment to its last: what is written down of how it stands.

Torch comes in only once the folder says `running`, so that a job that never gets further is known
to have begun.
"""

import os
import platform
import shlex
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from bptt_lab import runs
from bptt_lab.config import schema
from bptt_lab.config.parse import parse
from bptt_lab.config.schema import Experiment
from bptt_lab.config.strategies import options_of_job
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import Run, files, lock, signals, streams
from bptt_lab.runs.job import Job
from bptt_lab.runs.outcome import COMPLETED, REFUSED, conclude, report, start_anew
from bptt_lab.runs.resume import ends_later


def task(cfg: DictConfig) -> None:
    """Run one job; Hydra calls this, in this process or another.

    Raises:
        SystemExit: with the exit code of a single run; of a sweep's job, whose folder says how it
            ended, only where that ends the sweep.
    """
    mode = HydraConfig.get().mode  # other jobs of this process may replace it
    code = run(cfg)
    if code and (mode != RunMode.MULTIRUN or code > 128 or cfg.fail_fast):
        raise SystemExit(code)


def run(cfg: DictConfig) -> int:
    """Run what the command line asked for, in the folder that Hydra made for it.

    Returns:
        The exit code: 0 completed, 1 failed, 2 refused, 3 diverged, 128 + signal.
    """
    hydra = HydraConfig.get()
    own: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    overrides = tuple(o for o in own if o.lstrip("+").partition("=")[0] not in schema.CONTROL)
    sources = [s.path for s in hydra.runtime.config_sources if s.provider == "command-line"]
    options = [word for path in sources for word in ("--config-dir", path)]
    # A preset may ask for a sweep; one of its jobs by itself does not.
    alone = ["hydra.mode=RUN"] if hydra.mode == RunMode.MULTIRUN else []
    allow = [o for o in own if o.startswith("allow=")]
    job = Job(
        choices={
            group: choice
            for group, choice in hydra.runtime.choices.items()
            if "/" not in group and choice is not None
        },
        overrides=overrides,
        command=shlex.join(["bptt-train", *options, *overrides, *allow, *alone]),
    )
    folder = _listed(Path(hydra.runtime.output_dir), hydra)
    composed: Any = OmegaConf.to_container(cfg, resolve=True)
    try:
        experiment = parse(composed, options=options_of_job())
    except ConfigError as error:  # of a search, whose jobs are not all known beforehand
        if runs.read_status(folder) == "waiting":
            runs.write_status(folder, "running")
            return conclude(folder, error)
        report(error)
        return REFUSED
    return attempt(experiment, folder, job, in_sweep=hydra.mode == RunMode.MULTIRUN)


def _listed(made: Path, hydra: HydraConf) -> Path:
    """Return the folder that the sweep lists for a job, instead of the one that Hydra has made."""
    jobs = []
    if hydra.mode == RunMode.MULTIRUN:
        jobs = runs.read_sweep_file(made.parent).get("jobs", [])[hydra.job.num :]
    return made.parent / Path(jobs[0]["folder"]).name if jobs else made


def attempt(experiment: Experiment, folder: Path, job: Job, *, in_sweep: bool = False) -> int:
    """Start or continue a run, write status.json whatever becomes of it, and return the exit code.

    In a sweep a run that failed by an error of its own starts anew.
    """
    try:
        if _is_done(experiment, folder):
            return COMPLETED
        with lock.held(folder):
            if _is_done(experiment, folder):  # by another process, until this one had the lock
                return COMPLETED
            files.refuse_strange(folder)
            return _attempt(experiment, folder, job, in_sweep)
    except ConfigError as error:
        report(error)
        return REFUSED  # with nothing touched: that run may be at work


def _is_done(experiment: Experiment, folder: Path) -> bool:
    """Whether there is nothing left to do; refuse to begin where another run has begun."""
    run = runs.read_run(folder)
    if experiment.control.resume:
        done = run.is_done and not ends_later(run, experiment)
        if done:
            print(f"{runs.shown(folder)}: is completed already", flush=True)
        return done
    if run.status != "waiting" or runs.leftovers(folder):
        problem = f"holds a run already ({run.status}); continue it with resume={folder}"
        raise ConfigError(f"hydra.run.dir={folder}: {problem}, or give another folder")
    return False


def _attempt(experiment: Experiment, folder: Path, job: Job, in_sweep: bool) -> int:
    before = runs.read_run(folder)
    with signals.caught() as stop:
        try:
            if before.raised and in_sweep:
                start_anew(folder, "it failed by an error of its own")
                before = Run(folder, before.status, before.reason)
            if not before.manifest:  # what it takes to continue, should it get no further
                runs.write_json(folder / runs.MANIFEST, job.manifest(experiment))
            runs.write_status(folder, "running", pid=os.getpid(), host=platform.node())
            streams.loading("torch")
            from bptt_lab.training.train import perform

            perform(experiment, folder, job, stop)
        except ConfigError as error:
            if before.status == "waiting":
                return conclude(folder, error)
            # Refused, so all is as it was; of a run whose papers are damaged that is not known.
            was = "interrupted" if before.status == "unreadable" else before.status
            runs.write_status(folder, was, before.reason, raised=before.raised)
            report(error)
            return REFUSED
        except BaseException as error:
            return conclude(folder, error)
    runs.write_status(folder, "completed")
    return COMPLETED
