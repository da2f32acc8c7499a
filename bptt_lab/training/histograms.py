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
EDGES = torch.linspace(LOW, HIGH, (HIGH - LOW) * BINS_PER_DECADE + 1, dtype=torch.float64)


class LogHistogram(NamedTuple):
    """Counts of log10 magnitudes between EDGES, one bin more than edges."""

    counts: Tensor  # (B,), the first for values below 10^LOW, the last for 10^HIGH and above
    log10: Tensor  # the values, clamped to half a bin beyond LOW and HIGH


def log_histogram(magnitudes: Tensor) -> LogHistogram:
    """Sort magnitudes, each 0 or more, inf or NaN, into fixed bins of their log10."""
    return log_histograms(magnitudes.flatten()[None])[0]


def log_histograms(magnitudes: Tensor) -> list[LogHistogram]:
    """Make a histogram of each row, (rows, values), at the price of one."""
    magnitudes = magnitudes.detach().double().cpu().contiguous()
    half_bin = 0.5 / BINS_PER_DECADE
    log10 = magnitudes.log10().nan_to_num(HIGH + half_bin, HIGH + half_bin, LOW - half_bin)
    log10 = log10.clamp(LOW - half_bin, HIGH + half_bin)
    num_bins = len(EDGES) + 1
    rows = torch.arange(len(log10))[:, None] * num_bins
    bins = torch.bucketize(log10, EDGES, right=True) + rows
    counts = torch.bincount(bins.flatten(), minlength=len(log10) * num_bins)
    return list(map(LogHistogram, counts.view(len(log10), num_bins), log10))


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
        bucket_limits=[*EDGES.tolist(), top],
        bucket_counts=histogram.counts.tolist(),
        global_step=step,
    )
