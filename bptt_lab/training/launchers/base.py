"""What all launchers of ours do: find the jobs still to do, have them run, say how they stand."""

import os
import shlex
import sys
from abc import abstractmethod
from collections.abc import Sequence, Set
from pathlib import Path

from hydra.core.utils import JobReturn, JobRuntime, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from bptt_lab import runs
from bptt_lab.config.compose import compose_job, hydra_setting
from bptt_lab.core.messages import escaped, rounded
from bptt_lab.core.validation import ConfigError, missing
from bptt_lab.runs import Run, files, outcome, signals, streams
from bptt_lab.runs.outcome import Interrupted
from bptt_lab.training.launchers.standing import Standing
from bptt_lab.training.launchers.worker import Sweep, SweepJob

POLL = 0.2  # seconds between two looks at clocks and signals
GRACE = 30.0  # seconds between asking a job to stop and killing it
_DID = {"failed": "failed", "diverged": "diverged", "interrupted": "was interrupted"}


class SweepLauncher(Launcher):
    """A launcher whose jobs have processes of their own, and status.json the last word."""

    sweep: Sweep
    sweep_dir: Path  # absolute
    marks: dict[int, tuple[int, int]]  # of each job's status.json, before the job may write it
    left: list[SweepJob]  # those that have not ended
    standing: Standing
    stopped = ""  # why no further job may start
    _common: Set[str] = frozenset()  # overrides of all jobs, which tell none apart

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra has to tell; called once, before all jobs."""
        self.sweep = Sweep(
            config,
            hydra_context,
            JobRuntime.instance().get("name"),
            os.getcwd(),
            tuple(os.path.abspath(entry) for entry in sys.path),
        )

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run jobs and wait for them.

        Raises:
            Interrupted: where a signal came; the jobs have stopped by then.
        """
        setup_globals()
        config = self.sweep.config
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        self.sweep_dir = Path(str(config.hydra.sweep.dir)).absolute()
        self.sweep_dir.mkdir(parents=True, exist_ok=True)
        listed = runs.read_sweep(self.sweep_dir)
        todo = jobs = self._jobs(listed, job_overrides, initial_job_idx)
        if config.resume is not None:
            todo = [job for job in jobs if not runs.read_run(job.folder).is_done]
            if len(todo) < len(jobs):
                print(f"{len(jobs) - len(todo)} of {len(jobs)} jobs are completed already")
        for job in todo:
            if job.folder.is_symlink():
                raise ConfigError(f"{job.folder}: is a link, which is not followed; move it away")
            files.refuse_strange(job.folder)
        self.marks = {job.number: outcome.mark(job.folder) for job in todo}
        self.left = list(todo)
        self.standing = self._stands(listed, jobs, initial_job_idx)
        with signals.caught() as stop:
            stop.patient = True
            if todo and not self.stopped:
                try:
                    self.run(todo, stop)
                finally:
                    streams.progress("")
        if stop.asked is not None:
            raise Interrupted(stop.asked)
        # A failure is in status.json, and none of Hydra's; it would forget the other jobs.
        return [
            JobReturn(overrides=list(job.overrides), status=JobStatus.COMPLETED) for job in jobs
        ]

    @abstractmethod
    def run(self, jobs: Sequence[SweepJob], stop: signals.Stop) -> None:
        """Run jobs until all have ended; `stop` tells when a signal has asked to stop."""

    def composed(self, job: SweepJob) -> DictConfig:
        """Compose a job's configuration, which goes to its process."""
        loader = self.sweep.context.config_loader
        config = compose_job(loader, self.sweep.config, job.number, job.overrides)
        place = os.path.relpath(job.folder, self.sweep_dir)
        with open_dict(config):  # as listed, where an earlier version has named it
            config.hydra.sweep.subdir = place.replace("${", "\\${")
        return config

    def halted(self, stop: signals.Stop) -> str:
        """Why all jobs are to stop; empty while they are not."""
        if stop.asked is not None:
            return f"interrupted by {stop.asked.name}"
        return self.stopped

    def wrote(self, job: SweepJob) -> bool:
        """Whether a job has written its status.json."""
        return outcome.mark(job.folder) != self.marks[job.number]

    def conclude(self, job: SweepJob, ended: str, asked: str, seconds: float | None = None) -> None:
        """Say in status.json and on the terminal how a job ended; with fail_fast, start no other.

        Args are as `outcome.conclude_process` has them; `seconds` are those of its process.
        """
        run = outcome.conclude_process(job.folder, self.marks[job.number], ended, asked)
        took = "" if seconds is None else f"{seconds:.1f} s"
        completed = run.status == "completed"
        metric = self.sweep.config.hydra.sweeper.get("metric")  # that a search goes by
        tags = [tag for tag in run.metrics if tag.startswith("test/") or tag == metric]
        more = [f"{tag} {rounded(run.metrics[tag])}" for tag in tags] if completed else [run.reason]
        self.left = [other for other in self.left if other.number != job.number]
        self.standing.ended(completed=completed)
        self.say(job, run.status, took, *more, end=f"[{self.standing.words(len(self.at_work()))}]")
        if self.sweep.config.fail_fast and run.status != "completed" and not self.stopped:
            self.stopped = f"job {job.number} {_DID[run.status]}, and fail_fast=true"
            print(f"{self.stopped}: no other job starts", flush=True)

    def at_work(self) -> list[SweepJob]:
        """The jobs that have begun and not ended."""
        return [job for job in self.left if self.wrote(job)]

    def sign_of_life(self) -> None:
        """Tell now and then how the sweep stands; called often."""
        self.standing.tell(self.at_work)

    def _stands(self, listed: Sequence[Run], jobs: Sequence[SweepJob], first: int) -> Standing:
        """What is known of the whole sweep before any of some jobs begins."""
        # A search lists them as it goes.
        trials = self.sweep.config.hydra.sweeper.get("n_trials") or 0
        total = max(len(listed), first + len(jobs), trials)
        others = [run.status for run in listed[:first]]
        done = len(others) + len(jobs) - len(self.left)
        return Standing(total, done, len(others) - others.count("completed"))

    def say(self, job: SweepJob, what: str, *more: str, end: str = "") -> None:
        """Tell the terminal that a job starts, or how it ended."""
        own = [line for line in job.overrides if line not in self._common]
        words = [f"job {job.number:>3}", f"{what:<11}", *more, shlex.join(own), end]
        words = [word for word in words if word]
        streams.progress("")
        print(escaped("  ".join(words).rstrip().replace("\n", " ")), flush=True)

    def _jobs(
        self, listed: Sequence[Run], overrides: Sequence[Sequence[str]], first: int
    ) -> list[SweepJob]:
        """Find each job's folder: sweep.json says it, else Hydra has to compose it."""
        jobs = []
        for number, lines in enumerate(overrides, first):
            if number < len(listed):
                folder = listed[number].folder
            else:
                loader = self.sweep.context.config_loader
                composed = compose_job(loader, self.sweep.config, number, lines)
                folder = self.sweep_dir / hydra_setting(composed, "sweep.subdir")
            jobs.append(SweepJob(number, tuple(lines), folder))
        if len(jobs) > 1:
            self._common = set.intersection(*(set(job.overrides) for job in jobs))
        return jobs


def require(library: str, group: str, option: str) -> None:
    """Refuse an option whose library is not installed; its name is also the extra's."""
    if problem := missing(library, f"bptt_lab[{option}]"):
        raise ConfigError(f"{group}={option}: {problem}")
