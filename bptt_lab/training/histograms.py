"""Histograms of magnitudes that survive zero, infinity and NaN: log10 in bins that fit the values.

TensorBoard's own histogram of a tensor fails on what is not finite or above 1e20, exactly when
gradients explode. Here every value falls into a bin: equal ones between the smallest and the
largest value from 1e-20 to 1e8, one below for everything smaller (zero too), one above for
everything larger or not finite.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import histogram_raw

LOW, HIGH, BEYOND = -20.0, 8.0, 0.25  # where what is beyond stands
NARROWEST = 1e-3  # decades that the bins of equal values span
DENSE = 6  # powers of two of windows; later ones have fewer and fewer histograms


class LogHistogram(NamedTuple):
    """Counts of log10 magnitudes."""

    limits: Tensor  # (B,), right edges, LOW, the smallest value, ..., the largest, HIGH, top
    counts: Tensor  # (B,), the first for values below 10^LOW, the last for 10^HIGH and above
    log10: Tensor  # the values, clamped to a little beyond LOW and HIGH


def log_histogram(magnitudes: Tensor) -> LogHistogram:
    """Sort magnitudes, each 0 or more, inf or NaN, into bins of their log10."""
    return log_histograms(magnitudes.flatten()[None])[0]


def log_histograms(magnitudes: Tensor) -> list[LogHistogram]:
    """Make a histogram of each row, (rows, values), at the price of one."""
    magnitudes = magnitudes.detach().double().cpu().contiguous()
    log10 = magnitudes.log10().nan_to_num(HIGH + BEYOND, HIGH + BEYOND, LOW - BEYOND)
    log10 = log10.clamp(LOW - BEYOND, HIGH + BEYOND)
    below, above = log10 < LOW, log10 >= HIGH
    outside = below | above
    low = log10.masked_fill(outside, HIGH - NARROWEST).amin(1, keepdim=True)
    high = torch.maximum(log10.masked_fill(outside, LOW).amax(1, keepdim=True), low + NARROWEST)
    inner = math.ceil(2 * log10.shape[1] ** (1 / 3))  # Rice's rule
    width = (high - low) / inner
    place = ((log10 - low) / width).long().clamp(0, inner - 1) + 2
    place = place.masked_fill(below, 0).masked_fill(above, inner + 3)
    rows, bins = len(log10), inner + 4
    place += torch.arange(rows)[:, None] * bins
    counts = torch.bincount(place.flatten(), minlength=rows * bins).view(rows, bins)
    edges = low + width * torch.arange(inner + 1)
    ends = [torch.full_like(low, end) for end in (LOW, HIGH, HIGH + 2 * BEYOND)]
    limits = torch.cat([ends[0], edges, *ends[1:]], 1)
    return list(map(LogHistogram, limits, counts, log10))


def is_kept(step: int, every_n_steps: int) -> bool:
    """Whether the histogram of a window is written: of the first 64 all, then 32 a doubling.

    TensorBoard shows no more, and of a long run they would be most of its file.
    """
    window = step // every_n_steps
    return window % (1 << max(0, window.bit_length() - DENSE)) == 0


def write_histograms(
    writer: SummaryWriter, histograms: Mapping[str, LogHistogram], step: int
) -> None:
    """Write bins as they are to TensorBoard, by tag; the axis is log10 of the magnitude."""
    written = []
    for tag, (limits, counts, log10) in histograms.items():
        bins, numbers = limits.tolist(), counts.tolist()
        kept = slice(2 * (numbers[0] == 0), len(numbers) - 2 * (numbers[-1] == 0))
        ends = {"min": float(log10.min()), "max": float(log10.max()), "num": log10.numel()}
        sums = {"sum": float(log10.sum()), "sum_squares": float(log10.square().sum())}
        summary = histogram_raw(  # type: ignore[no-untyped-call]
            tag, **ends, **sums, bucket_limits=bins[kept], bucket_counts=numbers[kept]
        )
        written.extend(summary.value)
    # One event for all: each costs as much as its file's lock.
    writer._get_file_writer().add_summary(Summary(value=written), step)  # type: ignore[no-untyped-call]
