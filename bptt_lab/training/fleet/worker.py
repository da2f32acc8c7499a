"""What the process of a fleet does: its jobs, side by side."""

import os
import pickle
import statistics
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from bptt_lab.runs import outcome, signals, streams
from bptt_lab.runs.outcome import Interrupted
from bptt_lab.training import fork_server
from bptt_lab.training.launchers import worker
from bptt_lab.training.launchers.worker import Sweep, SweepJob

if TYPE_CHECKING:
    from bptt_lab.training.fleet.lockstep import Replica

ALONE = 3  # steps that each job takes by itself, as a measure of what the others save
SAVED = -1  # in place of a job's number: what follows are seconds a step, alone and together


def work(
    shared: bytes,
    jobs: Sequence[tuple[SweepJob, DictConfig]],
    limit: float | None,
    grace: float,
    steps: Any,
    ended: Connection,
) -> None:
    """Run jobs side by side in this process, which ends with them.

    Args:
        shared: the sweep.
        jobs: each with its configuration, composed and verified.
        limit: seconds that a job may take.
        grace: seconds to save in, once the process that started this one is gone.
        steps: counts whenever another job is at work, for whoever watches this process.
        ended: gets each job's number, exit code, seconds and whether its time was over; at the end
            what a step took.
    """
    # Not above: whoever starts this process needs no torch.
    from bptt_lab.training.fleet.lockstep import Lockstep, Replica
    from bptt_lab.training.fleet.together import Together

    os.setsid()
    fork_server.begin(grace)
    sweep: Sweep = pickle.loads(shared)
    worker.enter(sweep)
    code = outcome.FAILED
    numbers: dict[Replica, int] = {}
    codes: dict[int, int] = {}

    def tell(replica: "Replica") -> None:
        number = numbers[replica]
        replica.log.flush()
        ended.send((number, codes.get(number, outcome.FAILED), replica.seconds, replica.stop.over))

    def watch(replica: "Replica | None") -> None:
        steps.value += 1

    try:
        with streams.lasting(), signals.caught() as stop, ExitStack() as files:
            stop.patient = True
            replicas = []
            for job, config in jobs:
                log = streams.log(files.enter_context(worker.open_log(job)).fileno())
                alone = partial(_run, sweep, job, config, codes)
                draws = bool(config.model.dropout or config.allow)
                replicas.append(Replica(alone, log, stop, draws=draws))
                numbers[replicas[-1]] = job.number
            together = Together()
            for replica in replicas:  # all of them, so that they stay in step
                replica.alone = ALONE
            Lockstep(replicas, together, stop, tell, watch, limit).run()
            if together.steps and (times := [t for replica in replicas for t in replica.times]):
                each = (together.latest - together.began) / together.steps
                ended.send((SAVED, statistics.median(times), each, False))
            code = outcome.COMPLETED
    except Interrupted as error:
        code = error.exit_code
    except BaseException as error:
        outcome.report(error)
    finally:
        with suppress(OSError):
            ended.close()
        os._exit(code)


def _run(sweep: Sweep, job: SweepJob, config: DictConfig, codes: dict[int, int]) -> None:
    """Run one job and note its exit code; it harms no other."""
    codes[job.number] = outcome.FAILED
    try:
        worker.start(sweep, job, config)
        codes[job.number] = outcome.COMPLETED
    except SystemExit as stop:
        codes[job.number] = stop.code if isinstance(stop.code, int) else outcome.FAILED
    except BaseException as error:
        outcome.report(error)
