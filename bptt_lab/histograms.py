"""Histograms of magnitudes that survive zero, infinity and NaN: log10 in fixed bins.

TensorBoard's own histogram of a tensor fails on what is not finite or above 1e20, exactly when
gradients explode. Here every value falls into a bin: half decades from 1e-20 to 1e8, everything
smaller (zero too) in one bin below, everything larger or not finite in one bin above.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

LOW, HIGH, BINS_PER_DECADE = -20, 8, 2


class LogHistogram(NamedTuple):
    """Counts of log10 magnitudes in fixed bins."""

    edges: Tensor  # right edges of all bins but the last, (B - 1,)
    counts: Tensor  # (B,), the first for values below 10^LOW, the last for 10^HIGH and above
    log10: Tensor  # the values, clamped to half a bin beyond LOW and HIGH
    zeros: int
    nonfinite: int


def log_histogram(magnitudes: Tensor) -> LogHistogram:
    """Sort magnitudes, each 0 or more, inf or NaN, into fixed bins of their log10."""
    magnitudes = magnitudes.detach().flatten().double().cpu()
    half_bin = 0.5 / BINS_PER_DECADE
    edges = torch.linspace(LOW, HIGH, (HIGH - LOW) * BINS_PER_DECADE + 1, dtype=torch.float64)
    log10 = magnitudes.log10().nan_to_num(HIGH + half_bin, HIGH + half_bin, LOW - half_bin)
    log10 = log10.clamp(LOW - half_bin, HIGH + half_bin)
    bins = torch.bucketize(log10, edges, right=True)
    return LogHistogram(
        edges,
        torch.bincount(bins, minlength=len(edges) + 1),
        log10,
        int((magnitudes == 0).sum()),
        int((~magnitudes.isfinite()).sum()),
    )


def write_histogram(writer: SummaryWriter, tag: str, histogram: LogHistogram, step: int) -> None:
    """Write the bins as they are to TensorBoard; the axis is log10 of the magnitude."""
    top = HIGH + 1 / BINS_PER_DECADE
    writer.add_histogram_raw(
        tag,
        min=float(histogram.log10.min()),
        max=float(histogram.log10.max()),
        num=histogram.log10.numel(),
        sum=float(histogram.log10.sum()),
        sum_squares=float(histogram.log10.square().sum()),
        bucket_limits=[*histogram.edges.tolist(), top],
        bucket_counts=histogram.counts.tolist(),
        global_step=step,
    )
