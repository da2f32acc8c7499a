"""What a job's process does, whichever launcher started it."""

import fcntl
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hydra import version
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from bptt_lab.config import output_paths
from bptt_lab.config.strategies import VERSION_BASE
from bptt_lab.runs import files, streams
from bptt_lab.runs.sweep import LOG
from bptt_lab.training.job import task


@dataclass(frozen=True)
class Sweep:
    """What the jobs of a sweep have in common; goes to their processes as it is."""

    config: DictConfig  # the sweep's, its `hydra` section included
    context: HydraContext
    name: str  # hydra.job.name, where nobody says another
    cwd: str
    path: tuple[str, ...]  # where Python finds the user's own classes


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep."""

    number: int
    overrides: tuple[str, ...]
    folder: Path  # absolute


def work(sweep: Sweep, job: SweepJob, config: DictConfig, *, resume: bool = False) -> None:
    """Run a job in this process, which does nothing else: its output goes to log.txt.

    Its `config` is composed and verified. To `resume` is to continue what its folder holds, though
    the command line did not ask for that.
    """
    enter(sweep)
    with open_log(job) as file:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    with streams.lasting():
        start(sweep, job, config, resume=resume)


def enter(sweep: Sweep) -> None:
    """Set up this process for jobs of a sweep."""
    os.chdir(sweep.cwd)
    sys.path.extend(entry for entry in sweep.path if entry not in sys.path)
    version.setbase(VERSION_BASE)
    setup_globals()
    output_paths.register()
    Plugins.instance()
    JobRuntime.instance().set("name", sweep.name)


def open_log(job: SweepJob) -> BinaryIO:
    """Open a job's log.txt, once nobody else has it.

    The driver of a sweep may be killed and started again while a job of before still saves. The
    lock goes with the open file, and lasts as long as any process that this one starts.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    file = files.writing(job.folder / LOG, "append")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def start(sweep: Sweep, job: SweepJob, config: DictConfig, *, resume: bool = False) -> None:
    """Run a job as Hydra does; arguments as for `work`."""
    if resume and config.resume is None:
        with open_dict(config):
            config.resume = str(job.folder.parent)
    run_job(
        hydra_context=sweep.context,
        task_function=task,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
