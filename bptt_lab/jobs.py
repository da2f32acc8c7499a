"""One job from its first moment to its last: what is written down of how it stands.

Torch comes in only once the folder says `running`, so that a job that never gets further is known
to have begun.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from bptt_lab import continuing, runs, schema, signals
from bptt_lab.endings import CheckpointError, Diverged, Interrupted
from bptt_lab.limits import ConfigError

COMPLETED, FAILED, REFUSED, DIVERGED = 0, 1, 2, 3
Config = dict[str, Any]  # plain containers: what a process or a file can be handed


@dataclass(frozen=True)
class Job:
    """Who asked for a run: the options chosen in each group, the overrides, the command."""

    choices: Mapping[str, str]
    overrides: tuple[str, ...] = ()
    command: str = ""

    def papers(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a run's manifest begins with."""
        return {
            "command": self.command,
            "overrides": list(self.overrides),
            "choices": dict(self.choices),
            "config": continuing.experiment(config),
        }


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
    config = cast(Config, OmegaConf.to_container(cfg, resolve=True))
    return attempt(config, Path(hydra.runtime.output_dir), job)


def attempt(config: Config, folder: Path, job: Job) -> int:
    """Start or continue a run and write status.json, whatever becomes of it.

    Args:
        config: the resolved config as plain containers, schema.CONTROL included.
        folder: the run folder.
        job: who asked for it.

    Returns:
        The exit code.
    """
    before = runs.read_run(folder)
    if config["resume"] and before.status == "completed":
        print(f"{folder}: is completed already", flush=True)
        return COMPLETED
    if before.status != "waiting" and not config["resume"]:
        problem = f"holds a run already ({before.status}); continue it with resume={folder}"
        report(ConfigError(f"hydra.run.dir={folder}: {problem}, or give another folder"))
        return REFUSED  # with nothing touched: that run may be at work
    with signals.caught() as stop:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not before.manifest:  # what it takes to continue, should it get no further
                runs.write_json(folder / runs.MANIFEST, job.papers(config))
            runs.write_status(folder, "running", pid=os.getpid(), host=platform.node())
            from bptt_lab import training

            training.perform(config, folder, job, stop)
        except ConfigError as error:
            if before.status == "waiting":
                return conclude(folder, error)
            # Refused, so all is as it was.
            runs.write_status(folder, before.status, before.reason, raised=before.raised)
            report(error)
            return REFUSED
        except BaseException as error:
            return conclude(folder, error)
    runs.write_status(folder, "completed")
    return COMPLETED


def conclude(folder: Path, error: BaseException) -> int:
    """Write down what ended a run early, unless another of its processes has done so.

    Returns:
        The exit code.
    """
    status, code = _verdict(error)
    if runs.read_run(folder).status == "running":
        runs.write_status(folder, status, _reason(error), raised=status == "failed")
    if not isinstance(error, SystemExit):
        report(error)
    return code


def report(error: BaseException) -> None:
    """Tell whom it concerns: a line where a line says it all, the way here where not."""
    if isinstance(error, _SAYING):
        print("bptt-train:", *str(error).split(), file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error)


_SAYING = (ConfigError, Interrupted, Diverged, CheckpointError)


def _verdict(error: BaseException) -> tuple[runs.Status, int]:
    if isinstance(error, Interrupted):
        return "interrupted", error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if isinstance(error, Diverged):
        return "diverged", DIVERGED
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return "failed", error.code or FAILED  # of a process of the run, which has said why
    return "failed", REFUSED if isinstance(error, ConfigError) else FAILED


def _reason(error: BaseException) -> str:
    if isinstance(error, _SAYING):
        return str(error)
    return f"{type(error).__name__}: {error}".removesuffix(": ")
