"""The comparison on screen: a line for each strategy, numbers under their heads."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bptt_lab.commands.compare.measurement import Comparison, Measurement
from bptt_lab.commands.timing import UNSTEADY

LEGEND = """\
cosine, norm ratio, rel. error   of the gradient of all the network's parameters, against full
                                 BPTT's on the same batch; a random strategy's are means of draws
bias, variance, snr              of a random strategy over its draws: relative error of the mean,
                                 variance over |full|^2, signal-to-noise ratio of powers
ms, x full                       forward and backward pass, median of interleaved rounds, and the
                                 median of its ratio to full BPTT's in the same round
peak MB                          memory of both passes above network and batch"""
TEXTS = 3  # columns that are not numbers
_HEADS = ["strategy", "k", "claims", "cosine", "norm ratio", "rel. error"]
_RANDOM = ["bias", "variance", "snr"]
_COSTS = ["ms", "x full", "peak MB"]


def write(comparison: Comparison, title: str, draws: int) -> str:
    """Lay out the table; `draws` are those of the random strategies."""
    L, N, I, H = comparison.shape
    lines = [f"{title}: L={L} steps, N={N} sequences, I={I} inputs, H={H} hidden units, cpu"]
    random = any(row.draws for row in comparison.strategies)
    if random:
        lines[0] += f", {draws} draws"
    if comparison.strategies:
        heads = [*_HEADS, *(_RANDOM if random else ()), *_COSTS]
        rows = [_cells(row, random) for row in comparison.strategies]
        lines += ["", *_aligned([heads, *rows]), "", LEGEND]
    if comparison.unsteady > UNSTEADY:
        slower = f"full BPTT usually took {comparison.unsteady:.1f} times its best"
        lines += ["", f"warning: {slower}; other processes disturb the times, repeat when idle"]
    if comparison.spectrum is not None:
        lines += ["", *_lags(comparison)]
    if comparison.refused:
        lines += ["", "not compared:"]
        lines += [f"  {name}: {why}" for name, why in comparison.refused.items()]
    return "\n".join(lines)


def _cells(row: Measurement, random: bool) -> list[str]:
    a, option = row.aligned, row.option
    cells = [option.label, "" if option.k is None else str(option.k), row.claims]
    cells += [f"{a.cosine.value:.4f}", f"{a.norm_ratio.value:.4f}", _short(a.relative_error.value)]
    if random and row.draws:
        bias = f"{_short(a.bias.value)} ± {_short(a.bias.standard_error)}"
        cells += [bias, _short(a.variance.value), _short(a.snr.value)]
    elif random:
        cells += ["", "", ""]
    peak = "" if row.peak is None else f"{row.peak / 1e6:.1f}"
    return [*cells, f"{row.seconds * 1e3:.2f}", f"{row.times_full:.2f}", peak]


def _lags(comparison: Comparison) -> list[str]:
    spectrum = comparison.spectrum
    assert spectrum is not None
    lines = []
    for share in (0.5, 0.9):
        k = spectrum.effective_lag(share)
        if k is not None and len(spectrum.norms["total"]) == comparison.shape[0]:
            lines.append(f"{share:.0%} of the gradient's lag norms lie within lag k = {k}")
    for bias in (0.5, 0.1):
        k = spectrum.smallest_k(bias)
        reached = f"from k = {k} on" if k is not None else "at no k that was measured"
        lines.append(f"the lag-k gradient's relative error is at most {bias:g} {reached}")
    return lines


def _short(value: float) -> str:
    """Three digits, in the plain form where that is readable."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.1e}" if abs(value) < 1e-3 or abs(value) >= 1e4 else f"{value:.3g}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if number in (0, TEXTS - 1) else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]
