"""The search itself: have Optuna draw a batch of trials, and the launcher run them.

A batch is drawn once all jobs of the one before have ended. So the next trials do not depend on
which job was faster, and a search that was killed completes its last batch as it would have.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from bptt_lab import runs
from bptt_lab.commands.search import record
from bptt_lab.config.compose import compose_job, hydra_setting
from bptt_lab.core.machine import cores
from bptt_lab.core.validation import ConfigError, Ge, checked
from bptt_lab.runs import Run
from bptt_lab.runs.outcome import TIME_LIMIT
from bptt_lab.runs.resume import experiment_lines
from bptt_lab.training.launchers.base import require
from bptt_lab.training.launchers.worker import SweepJob


class FinalMetric:
    """The value is the tag of a metric that a run ends with."""

    def unmet(self, value: str, siblings: Any) -> str | None:
        """Say what a tag looks like where the value is none."""
        if value.startswith(("val/", "test/")):
            return None
        return "must be a metric at the end of a run, as val/loss"


class SearchSweeper(Sweeper):
    """Runs a sweep whose jobs Optuna chooses.

    A trial that completed is told to Optuna with its metric. A trial that diverged is told as
    pruned, so Optuna avoids its region. A trial that failed by an exception, or took longer than
    the launcher's limit, is told as failed, so Optuna leaves it out. A trial that was killed runs
    once more, from its checkpoint.

    Args:
        n_trials: how many trials the sweep has in the end, failed ones included.
        metric: tag of the final metric to go by.
        direction: which way is better.
        batch: how many trials are chosen at a time, knowing those before; None for as many as run
            at a time on this machine.
        sampler: Optuna's TPE, or random choice.
        seed: of the choice; None for the experiment's.
        params: the search space, beside the command line's.

    Raises:
        ConfigError: where a value is outside its limits, or Optuna is not installed.
    """

    @checked
    def __init__(
        self,
        *,
        n_trials: Annotated[int, Ge(1)] = 20,
        metric: Annotated[str, FinalMetric()] = "val/loss",
        direction: Literal["minimize", "maximize"] = "minimize",
        batch: Annotated[int | None, Ge(1)] = None,
        sampler: Literal["tpe", "random"] = "tpe",
        seed: Annotated[int | None, Ge(0)] = None,
        params: Any = None,
    ) -> None:
        require("optuna", "hydra/sweeper", "search")
        self.n_trials = n_trials
        self.metric = metric
        self.direction = direction
        self.batch = batch
        self.sampler = sampler
        self.seed = seed

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what Hydra hands over; Hydra calls this once, before all trials."""
        self.loader = hydra_context.config_loader
        self._config = config
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.sweep_dir = Path(str(config.hydra.sweep.dir)).absolute()

    def sweep(self, arguments: list[str]) -> None:
        """Search, or continue the search in the sweep's folder.

        Raises:
            ConfigError: where runs do not report the metric.
        """
        self.space = record.space(self.loader, self._config)
        self.sweep_dir.mkdir(parents=True, exist_ok=True)
        self._announce()
        tries: Counter[int] = Counter()
        while batch := self._batch(tries):
            tries.update(trial.number for trial in batch)
            self._launch(batch)
            if not self._goes_on(batch):
                break

    def _announce(self) -> None:
        """Describe the search in sweep.json, for a later one that continues it."""
        OmegaConf.save(self._config, self.sweep_dir / "multirun.yaml")
        search = record.description(self.space, self._config.hydra.sweeper)
        new = {"jobs": [], record.SEARCH: search}
        runs.write_json(self.sweep_dir / runs.SWEEP, new | runs.read_sweep_file(self.sweep_dir))

    def _batch(self, tries: Counter[int]) -> list[SweepJob]:
        """Return the trials that wait or were killed, or else new ones; none when all are done."""
        known = list(enumerate(runs.read_sweep(self.sweep_dir)))
        left = [(number, run) for number, run in known if was_killed(run) and tries[number] < 2]
        if not left and len(known) < self.n_trials:
            self._draw([run for _, run in known])
            return self._batch(tries)
        fixed = [line for line in self.space.fixed.values() if not experiment_lines([line])]
        control = [line for line in fixed if not line.startswith("resume=")]
        words = QuotedString(str(self.sweep_dir), Quote.single).with_quotes()
        jobs = []
        for number, run in left:
            again = [] if run.status == "waiting" else [f"resume={words}"]
            jobs.append(SweepJob(number, (*control, *run.overrides, *again), run.folder))
        return jobs

    def _draw(self, known: Sequence[Run]) -> None:
        """List the trials of a new batch in sweep.json, drawn by the results of those before."""
        import optuna

        from bptt_lab.commands.search import draws

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(direction=self.direction)
        study.add_trials(draws.ended(run, self.space.drawn, self.metric) for run in known)
        seed = self._config.seed if self.seed is None else self.seed
        at_a_time = self._config.hydra.launcher.get("n_jobs")
        at_a_time = at_a_time or max(1, cores() // int(self._config.num_threads))
        sweep = runs.read_sweep_file(self.sweep_dir)
        for number in range(len(known), self.n_trials):
            lines = self.space.draw(draws.next_trial(study, self.sampler, seed))
            composed = compose_job(self.loader, self._config, number, lines)
            folder = hydra_setting(composed, "sweep.subdir")
            sweep["jobs"].append({"folder": folder, "overrides": experiment_lines(lines)})
            if (number + 1) % (self.batch or at_a_time) == 0:
                break
        runs.write_json(self.sweep_dir / runs.SWEEP, sweep)

    def _launch(self, trials: Sequence[SweepJob]) -> None:
        in_a_row = itertools.groupby(enumerate(trials), lambda pair: pair[1].number - pair[0])
        for _, group in in_a_row:  # a launcher numbers jobs one after the other
            jobs = [trial for _, trial in group]
            for job in self.launcher.launch([trial.overrides for trial in jobs], jobs[0].number):
                _ = job.return_value  # raises an error that came from outside of the run

    def _goes_on(self, batch: Sequence[SweepJob]) -> bool:
        """Return whether the search goes on after a batch."""
        ended = [runs.read_run(trial.folder) for trial in batch]
        for run in ended:
            if run.status == "completed" and self.metric not in run.metrics:
                tags = ", ".join(sorted(run.metrics))
                raise ConfigError(
                    f"hydra.sweeper.metric={self.metric}: no run reports that; start a new search "
                    f"with one of {tags}"
                )
        return not self._config.fail_fast or all(run.status == "completed" for run in ended)


def was_killed(run: Run) -> bool:
    """Whether a run was ended from outside and can go on; its launcher's limit does not count."""
    if run.reason.startswith(TIME_LIMIT):
        return False
    return run.status in ("waiting", "running", "interrupted", "unreadable") or (
        run.status == "failed" and not run.raised
    )
