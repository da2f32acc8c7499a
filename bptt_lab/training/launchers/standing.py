"""How a sweep stands: jobs done, running and failed, the time left, and what a job last said."""

import sys
import time
from collections.abc import Callable, Iterable

from tqdm import tqdm

from bptt_lab.core.messages import printable
from bptt_lab.runs import files, streams
from bptt_lab.runs.sweep import LOG
from bptt_lab.training.launchers.worker import SweepJob

TAIL = 400  # bytes of a log in which its last line is looked for
REDRAWN = 1.0  # seconds between two drawings on a terminal
SILENT = 60.0  # seconds after which a pipe gets a sign of life


class Standing:
    """Counts the jobs that have ended, and tells now and then how the others do.

    Of the `total` jobs of a sweep some are not to do, `done`, and of these some have `failed`.
    """

    def __init__(self, total: int, done: int, failed: int) -> None:
        self.total, self.done, self.failed = total, done, failed
        self._before = done
        self._told = time.monotonic()
        self._began = 0.0  # where no job has

    def starts(self) -> None:
        """Start the clock at the first job, which may have waited for a server or a cluster."""
        self._began = self._began or time.monotonic()

    def ended(self, *, completed: bool) -> None:
        """Count a job that has ended."""
        self.done += 1
        self.failed += not completed

    def words(self, running: int) -> str:
        """Say it in a few words."""
        counts = f"{self.done} of {self.total} done, {running} running, {self.failed} failed"
        if not self._began or self.done in (self._before, self.total):
            return counts  # nothing to estimate by, or nothing to do
        each = (time.monotonic() - self._began) / (self.done - self._before)
        return f"{counts}, {tqdm.format_interval(each * (self.total - self.done))} left"

    def tell(self, running: Callable[[], Iterable[SweepJob]]) -> None:
        """Give a sign of life, where the last one is long ago: on one line of a terminal."""
        now, drawn = time.monotonic(), sys.stderr.isatty()
        if now - self._told < (REDRAWN if drawn else SILENT):
            return
        self._told = now
        jobs = [*running()]
        if jobs:
            self.starts()
        said = [f"job {job.number}: {line}" for job in jobs if (line := last_line(job))]
        text = "; ".join([self.words(len(jobs)), *said[:1]])
        streams.progress(text) if drawn else print(text, flush=True)


def last_line(job: SweepJob) -> str:
    """Return what a job's process printed last; empty where it printed nothing or has no log."""
    try:
        with files.reading(job.folder / LOG) as log:
            log.seek(max(0, log.seek(0, 2) - TAIL))
            lines = log.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return printable(next(filter(None, reversed(lines)), ""))
