"""Bias and cost of every strategy on the same batch and parameters."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bptt_lab.commands.bench.timing import alternate
from bptt_lab.commands.compare import memory
from bptt_lab.commands.compare.question import Option, Question, truncations
from bptt_lab.commands.compare.subject import Subject, make
from bptt_lab.config.errors import printable
from bptt_lab.diagnostics import LagSpectrum, alignment, lag_spectrum
from bptt_lab.diagnostics.alignments import Aligned
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.gradients.full import Full

LARGEST_SPECTRUM = 2**28  # numbers in the parts of all lags together
ROWS_OF_A_MODE = 3  # the table's; the figure has all of them


@dataclass(frozen=True)
class Measured:
    """What one strategy showed."""

    option: Option
    aligned: Aligned
    draws: bool  # whether its gradient is random
    seconds: float  # of a forward and backward pass, median
    times_full: float  # the same over full BPTT's, median of paired rounds
    peak: int | None = None  # bytes; None where it was not measured


@dataclass(frozen=True)
class Comparison:
    """All strategies on one batch."""

    shape: tuple[int, int, int, int]  # L, N, I, H
    strategies: Sequence[Measured]  # of the table
    curve: Sequence[Measured]  # every mode of truncation at every k
    spectrum: LagSpectrum | None  # None without truncation
    refused: Mapping[str, str]  # strategies that cannot work here, and why
    unsteady: float  # median over minimum of full BPTT's times; near 1 on an idle machine


def compare(
    question: Question, subject: Subject, draws: int, note: Callable[[str], None]
) -> Comparison:
    """Measure everything.

    Args:
        question: what to compare.
        subject: on what.
        draws: gradients that a random strategy is asked for.
        note: is told what goes on.
    """
    ks = grid(subject.shape[0])
    options = [*question.options, *truncations(question, ks)]
    refused = dict(question.refused)
    usable: list[tuple[Option, GradientStrategy]] = []
    for option in options:
        try:
            strategy = make(option)
            subject.gradient(strategy)
        except (ValueError, RuntimeError, NotImplementedError) as error:
            refused[option.label] = printable(str(error))
        else:
            usable.append((option, strategy))
    note(f"{len(usable)} gradients against full BPTT's")
    found, unsteady = _measure(usable, subject, draws)
    spectrum = None
    if question.truncated is not None:
        note("the gradient's parts by lag")
        spectrum = _spectrum(subject)
    curve = [each for each in found if each.option.mode]
    shown = set(_shown(ks))
    if question.truncated is not None:
        shown.add(question.truncated.k or 0)
    rows = []
    for each in found:
        if each.option.mode and each.option.k not in shown:
            continue
        note(f"memory of {each.option.label}")
        peak = memory.peak(question.experiment, question.checkpoint, each.option)
        rows.append(Measured(**{**vars(each), "peak": peak}))
    return Comparison(subject.shape, rows, curve, spectrum, refused, unsteady)


def grid(num_steps: int) -> list[int]:
    """Powers of two below the number of steps; with as many, nothing is truncated."""
    return [2**i for i in range((num_steps - 1).bit_length())] or [1]


def _shown(ks: Sequence[int]) -> Sequence[int]:
    return ks[-ROWS_OF_A_MODE:]


def _measure(
    usable: Sequence[tuple[Option, GradientStrategy]], subject: Subject, draws: int
) -> tuple[list[Measured], float]:
    net = subject.module.rnn, subject.batch.input, subject.loss
    strategies = {str(number): strategy for number, (_, strategy) in enumerate(usable)}
    if not strategies:
        return [], 1.0
    # More than two draws only pay for the random ones: whose two differ, or who need not be exact
    # in each to be so in the mean; of those, two may be alike by chance.
    aligned = alignment(*net, strategies, subject.hx, draws=2).strategies
    random = {
        name: strategies[name]
        for name, (option, _) in zip(strategies, usable, strict=True)
        if option.claims == "unbiased" or aligned[name].variance.value > 0
    }
    if random and draws > 2:
        aligned |= alignment(*net, random, subject.hx, draws=draws).strategies
    # Full BPTT is timed once, under its own number where it is among them.
    full = next((name for name, s in strategies.items() if type(s) is Full), "full")
    calls: dict[str, GradientStrategy] = {full: Full(), **strategies}
    seconds = alternate({name: _call(subject, s) for name, s in calls.items()}, None)
    measured = [
        Measured(
            option,
            aligned[name],
            name in random,
            statistics.median(seconds[name]),
            statistics.median(a / b for a, b in zip(seconds[name], seconds[full], strict=True)),
        )
        for name, (option, _) in zip(strategies, usable, strict=True)
    ]
    return measured, statistics.median(seconds[full]) / min(seconds[full])


def _call(subject: Subject, strategy: GradientStrategy) -> Callable[[], object]:
    return lambda: subject.gradient(strategy)


def _spectrum(subject: Subject) -> LagSpectrum:
    rnn = subject.module.rnn
    most = max(1, LARGEST_SPECTRUM // sum(p.numel() for p in rnn.parameters()))
    max_lag = min(len(subject.batch.input), most)
    return lag_spectrum(rnn, subject.batch.input, subject.loss, subject.hx, max_lag=max_lag)
