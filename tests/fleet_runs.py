"""Runs side by side in one process, and the same runs alone."""

from __future__ import annotations

import io
import json
from pathlib import Path

from runs import config, job, resumed

from bptt_lab.runs import signals
from bptt_lab.training.fleet.lockstep import Lockstep, Replica
from bptt_lab.training.fleet.together import Together
from bptt_lab.training.job import attempt

TASKS = {
    "adding": ("dataset=adding", "dataset.num_steps=9", "dataset.train_size=40",
               "dataset.val_size=8", "dataset.test_size=8", "dataset.batch_size=16"),
    "echo": ("dataset=echo", "dataset.stream_length=24", "dataset.chunk_length=7",
             "dataset.batch_size=6"),
    "echo_by_step": ("dataset=echo", "dataset.stream_length=12", "dataset.chunk_length=1",
                     "dataset.batch_size=6"),
    "chaos": ("dataset=chaos", "dataset.stream_length=12", "dataset.eval_length=7",
              "dataset.reset_every=5", "dataset.batch_size=3", "model.zero_bias=true"),
    "digits": ("dataset=digits", "dataset.layout=rows", "dataset.batch_size=400"),
}  # fmt: skip
QUIET = (
    "callbacks=none", "trainer.max_epochs=2", "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=3", "model.hidden_size=7",
)  # fmt: skip
# What may differ in a fleet, all of it at once; the last one diverges.
APART = (
    ("seed=1", "optimizer.lr=3e-3", "model.gain=1.2"),
    ("seed=2", "optimizer.weight_decay=.02", "trainer.gradient_clip_val=.05", "model.leak=.6"),
    ("seed=3", "optimizer.betas=[.7,.95]", "trainer.ema_decay=.8", "model.init=gaussian"),
    ("seed=4", "optimizer.lr=1e6"),
)


def side_by_side(folder: Path, jobs: list[tuple[str, ...]], **how: int) -> float:
    """Run jobs together; return which part of all that they waited for was done at once."""
    counts = [0, 0]
    together = Together()

    def compute(waiting, goes_on):
        together(waiting, goes_on)
        counts[0] += sum(replica.answer is not None for replica in waiting)
        counts[1] += len(waiting)

    with signals.caught() as stop:
        stop.patient = True
        replicas = [
            Replica(
                lambda own=own, n=n: attempt(
                    resumed(config(*own), folder / str(n)) if how.get("resume") else config(*own),
                    folder / str(n), job(*own),
                ),
                io.StringIO(), stop, draws=how.get("draws", False),
            )
            for n, own in enumerate(jobs)
        ]  # fmt: skip
        replicas[0].alone = how.get("alone", 0)
        Lockstep(replicas, compute, stop, lambda _: None, lambda _: None).run()
    return counts[0] / counts[1]


def left(folder: Path) -> dict[str, object]:
    """All that a run has left, but for times."""
    found = {
        name: json.loads((folder / name).read_text()) for name in ("summary.json", "status.json")
    }
    del found["summary.json"]["seconds"]
    metrics = folder / "metrics.jsonl"
    return {**found, "metrics": metrics.read_text() if metrics.exists() else ""}


def compared(tmp_path: Path, jobs: list[tuple[str, ...]], **how: int) -> float:
    share = side_by_side(tmp_path / "fleet", jobs, **how)
    for number, own in enumerate(jobs):
        alone = tmp_path / "alone" / str(number)
        attempt(config(*own), alone, job(*own))
        assert left(tmp_path / "fleet" / str(number)) == left(alone), own
    return share
