"""Milliseconds a step of every rule, measured here: they take turns on the same net and batch.

A step is the unroll and the backward pass of one chunk, with the influence that the steps before
have left. Loss and readout are in it, the optimizer is not.
"""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from bptt_lab.commands import timing
from bptt_lab.commands.compare.batch import TrainingBatch, prepare
from bptt_lab.commands.compare.request import CPU
from bptt_lab.commands.league.streams import Stream, representative
from bptt_lab.config.parse import parse
from bptt_lab.config.schema import Experiment
from bptt_lab.core import machine
from bptt_lab.core.messages import printable
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients.base import Carry, GradientStrategy
from bptt_lab.runs import Run
from bptt_lab.training.build import make

Timed = str  # what was timed: a rule on sizes, as text
UNWATCHED = {"every_n_steps": 1, "probe_size": 1, "shadow": []}
LONGEST = 1000  # steps at most that are remembered by the first that is timed
SIZES = ("model", "dataset", "trainer", "segment_length")  # what a batch depends on


@dataclass
class Costs:
    """What steps cost here, and why some could not be timed."""

    median: dict[tuple[str, str], float] = field(default_factory=dict)  # ms, by stream and rule
    least: dict[tuple[str, str], float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # why, by rule
    place: str = ""  # machine, threads, sizes; empty where nothing was timed
    unsteady: float = 1.0  # median over minimum, of the rule for which it is largest


def measure(streams: Sequence[Stream], allow: Sequence[str]) -> Costs:
    """Time one step of each rule of each stream; what is the same step is timed once.

    Args:
        streams: whose rules' configurations say what to build.
        allow: packages beside ours whose classes these may name.
    """
    costs = Costs()
    calls: dict[Timed, Callable[[], object]] = {}
    of: dict[tuple[str, str], Timed] = {}
    batches: dict[str, TrainingBatch] = {}
    shapes, threads = [], set()
    for stream in streams:
        for rule in stream.rules:
            run = representative(rule)
            if run is None:
                continue
            try:
                experiment = _experiment(run, allow)
                key = _text(experiment.plain(), SIZES)
                if key not in batches:
                    batches[key] = prepare(experiment, None)
                batch = batches[key]
                step = _step(batch, make("gradient", experiment.gradient))
            except (ConfigError, ValueError, RuntimeError, NotImplementedError) as error:
                costs.left_out[rule.name] = printable(str(error))
                continue
            shapes.append(batch.shape)
            threads.add(experiment.threads)
            what = _text(experiment.plain(), ("gradient", "model"))
            timed = f"{batch.shape} {batch.hx.dtype} {what}"
            of[stream.name, rule.name] = timed
            calls.setdefault(timed, step)
    if not calls:
        return costs
    torch.set_num_threads(min(threads))
    seconds = timing.alternate(calls, None)
    for key_, timed in of.items():
        costs.median[key_] = 1000 * statistics.median(seconds[timed])
        costs.least[key_] = 1000 * min(seconds[timed])
    costs.unsteady = max(statistics.median(each) / min(each) for each in seconds.values())
    number, (L, N, I, H) = min(threads), shapes[0]
    used = f"{number} thread{'s' * (number > 1)} of {machine.processor()}"
    several = ", and others" if len(set(shapes)) > 1 else ""
    costs.place = (
        f"{used}; L={L} steps a chunk, N={N} sequences, I={I} inputs, H={H} units{several}"
    )
    return costs


def _experiment(run: Run, allow: Sequence[str]) -> Experiment:
    """Return a run's configuration, which its folder may have from anyone, for this CPU."""
    settings: Mapping[str, Any] = run.config
    return parse({**settings, "allow": [*allow], "device": CPU, "callbacks": UNWATCHED})


def _text(plain: Mapping[str, object], names: Sequence[str]) -> str:
    return json.dumps({name: plain[name] for name in names}, sort_keys=True, default=str)


def _step(batch: TrainingBatch, strategy: GradientStrategy) -> Callable[[], object]:
    """Return a training step's two passes as a call, each of which goes on from the one before.

    The memory of a rule that remembers steps is full then, or holds LONGEST steps.
    """
    rnn, parameters = batch.module.rnn, [*batch.module.parameters()]
    carry = strategy.init_carry(rnn, batch.hx.shape[1])._replace(hx=batch.hx)

    def step() -> object:
        nonlocal carry
        output, carry = strategy.unroll(rnn, batch.sequences.input, carry)
        return torch.autograd.grad(batch.loss(output), parameters, materialize_grads=True)

    step()
    while strategy.grows and (known := _remembered(carry)) < LONGEST:
        step()
        if _remembered(carry) == known:
            break
    return step


def _remembered(carry: Carry) -> int:
    """How many steps an influence that grows holds."""
    part = carry.influence
    if not isinstance(part, torch.Tensor):
        part = next(iter(part))
    return int(part.shape[1])
