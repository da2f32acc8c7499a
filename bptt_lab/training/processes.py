"""One process a device: each builds the whole experiment from the config and takes its share.

Lightning's own launchers start a run's command line again, which inside a sweep means the wrong
job. Here the processes of a run are its children and are told everything.
"""

import os
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess

from lightning.fabric.plugins.environments.lightning import find_free_network_port

from bptt_lab.runs import streams
from bptt_lab.runs.signals import Stop
from bptt_lab.training import fork_server

GRACE = 30.0  # seconds for a rank to save once the process that started it is gone


class RankEnded(RuntimeError):
    """One of a run's processes ended badly."""

    def __init__(self, rank: int, num_ranks: int, code: int | None) -> None:
        self.code = code
        what = f"process {rank} of {num_ranks} ended with exit code {code}"
        super().__init__(f"{what}; its own message stands above")


def launch(
    target: Callable[..., None], args: tuple[object, ...], num_ranks: int, stop: Stop | None = None
) -> None:
    """Run target(*args), as `fork_server.start` does, in processes that find one another.

    The first signal to this process, which `stop` tells of, is passed on to the others as SIGTERM.

    Raises:
        RankEnded: where one ends badly; the others are ended with it.
    """
    # What Lightning and torch.distributed read; LOCAL_RANK says that nobody else need be started.
    environment = dict(os.environ) | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(find_free_network_port()),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(num_ranks),
    }
    processes: list[ForkServerProcess] = []

    def end_all(_: int = 0) -> None:
        for process in processes:
            if process.is_alive():
                process.terminate()

    try:
        for rank in range(num_ranks):
            own = {**environment, "LOCAL_RANK": str(rank)}
            processes.append(fork_server.start(_rank, (own, target, args)))
        if stop is not None:
            stop.pass_on, stop.patient = end_all, True
            if stop.asked is not None:  # while they started
                end_all()
        running = dict(enumerate(processes))
        while running:
            wait([process.sentinel for process in running.values()])
            for rank, process in list(running.items()):
                if process.exitcode is None:
                    continue
                del running[rank]
                if process.exitcode != 0:
                    raise RankEnded(rank, num_ranks, process.exitcode)
    finally:
        if stop is not None:
            stop.pass_on, stop.patient = None, False
        end_all()
        for process in processes:
            process.join(10)


def _rank(
    environment: dict[str, str], target: Callable[..., None], args: tuple[object, ...]
) -> None:
    os.environ.update(environment)  # the server has that of the moment when it started
    fork_server.begin(GRACE)
    with streams.lasting():
        target(*args)
