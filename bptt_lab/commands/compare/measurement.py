"""Bias and cost of every strategy on the same batch and parameters."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bptt_lab.commands import peak_memory, strategies
from bptt_lab.commands.compare.batch import TrainingBatch, prepare
from bptt_lab.commands.compare.request import Option, Request, truncations
from bptt_lab.commands.timing import alternate
from bptt_lab.config.schema import Component, Experiment
from bptt_lab.core.messages import printable
from bptt_lab.diagnostics import LagSpectrum, alignment, lag_spectrum
from bptt_lab.diagnostics.alignments import Aligned
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.gradients.full import Full
from bptt_lab.training.build import make

LARGEST_SPECTRUM = 2**28  # numbers in the parts of all lags together
ROWS_OF_A_MODE = 3  # the table's; the figure has all of them


@dataclass(frozen=True)
class Measurement:
    """One strategy's gradient and cost."""

    option: Option
    claims: str  # exact | unbiased | biased
    aligned: Aligned
    draws: bool  # whether its gradient is random
    seconds: float  # of a forward and backward pass, median
    times_full: float  # the same over full BPTT's, median of paired rounds
    peak: int | None = None  # bytes; None where it was not measured


@dataclass(frozen=True)
class Comparison:
    """All strategies on one batch."""

    shape: tuple[int, int, int, int]  # L, N, I, H
    strategies: Sequence[Measurement]  # of the table
    curve: Sequence[Measurement]  # every mode of truncation at every k
    spectrum: LagSpectrum | None  # None without truncation
    refused: Mapping[str, str]  # strategies that cannot work here, and why
    unsteady: float  # median over minimum of full BPTT's times; near 1 on an idle machine


def compare(
    request: Request, batch: TrainingBatch, draws: int, note: Callable[[str], None]
) -> Comparison:
    """Measure everything; `draws` gradients of a random strategy. `note` is told what goes on."""
    ks = grid(batch.shape[0])
    options = [*request.options, *truncations(request, ks)]
    refused = dict(request.refused)
    usable: list[tuple[Option, GradientStrategy]] = []
    for option in options:
        try:
            strategy = make("gradient", option.component)
            batch.gradient(strategy)
        except (ValueError, RuntimeError, NotImplementedError) as error:
            refused[option.label] = printable(str(error))
        else:
            usable.append((option, strategy))
    note(f"{len(usable)} gradients against full BPTT's")
    found, unsteady = _measure(usable, batch, draws)
    spectrum = None
    if request.truncated is not None:
        note("the gradient's parts by lag")
        spectrum = _spectrum(batch)
    curve = [each for each in found if each.option.mode]
    shown = {*ks[-ROWS_OF_A_MODE:], request.truncated and request.truncated.k}
    rows = []
    for each in found:
        if each.option.mode and each.option.k not in shown:
            continue
        note(f"memory of {each.option.label}")
        rows.append(replace(each, peak=_peak(request, each.option)))
    return Comparison(batch.shape, rows, curve, spectrum, refused, unsteady)


def grid(num_steps: int) -> list[int]:
    """Powers of two below the number of steps; with as many, nothing is truncated."""
    return [2**i for i in range((num_steps - 1).bit_length())] or [1]


def _measure(
    usable: Sequence[tuple[Option, GradientStrategy]], batch: TrainingBatch, draws: int
) -> tuple[list[Measurement], float]:
    net = batch.module.rnn, batch.sequences.input, batch.loss
    if not usable:
        return [], 1.0
    by_name = {str(number): strategy for number, (_, strategy) in enumerate(usable)}
    claims = {name: strategies.claims(strategy) for name, strategy in by_name.items()}
    # More than two draws only pay for the random ones: whose two differ, or who need not be exact
    # in each to be so in the mean; of those, two may be alike by chance.
    aligned = alignment(*net, by_name, batch.hx, draws=2).strategies
    random = {
        name: strategy
        for name, strategy in by_name.items()
        if claims[name] == "unbiased" or aligned[name].variance.value > 0
    }
    if random and draws > 2:
        aligned |= alignment(*net, random, batch.hx, draws=draws).strategies
    # Full BPTT is timed once, under its own number where it is among them.
    full = next((name for name, s in by_name.items() if type(s) is Full), "full")
    calls: dict[str, GradientStrategy] = {full: Full(), **by_name}
    seconds = alternate({name: _call(batch, s) for name, s in calls.items()}, None)
    measured = [
        Measurement(
            option,
            claims[name],
            aligned[name],
            name in random,
            statistics.median(seconds[name]),
            statistics.median(a / b for a, b in zip(seconds[name], seconds[full], strict=True)),
        )
        for name, (option, _) in zip(by_name, usable, strict=True)
    ]
    return measured, statistics.median(seconds[full]) / min(seconds[full])


def _peak(request: Request, option: Option) -> int | None:
    try:
        return peak_memory.peak(one_pass, request.experiment, request.checkpoint, option.component)
    except peak_memory.NotMeasuredError:
        return None


def one_pass(
    experiment: Experiment, checkpoint: Path | None, component: Component
) -> Callable[[], object]:
    """Return a strategy's forward and backward pass as a call, made from its configuration."""
    return _call(prepare(experiment, checkpoint), make("gradient", component))


def _call(batch: TrainingBatch, strategy: GradientStrategy) -> Callable[[], object]:
    return lambda: batch.gradient(strategy)


def _spectrum(batch: TrainingBatch) -> LagSpectrum:
    rnn = batch.module.rnn
    most = max(1, LARGEST_SPECTRUM // sum(p.numel() for p in rnn.parameters()))
    max_lag = min(len(batch.sequences.input), most)
    return lag_spectrum(rnn, batch.sequences.input, batch.loss, batch.hx, max_lag=max_lag)
