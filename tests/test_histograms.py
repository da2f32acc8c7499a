from __future__ import annotations

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from bptt_lab.training.histograms import (
    EDGES,
    HIGH,
    LOW,
    log_histogram,
    log_histograms,
    write_histogram,
)

WILD = torch.tensor([0.0, 1e-30, 1e-3, 2e-3, 1.0, 1e30, float("inf"), float("nan")])


def test_every_value_falls_into_one_bin():
    histogram = log_histogram(WILD)
    assert int(histogram.counts.sum()) == len(WILD)
    assert len(histogram.counts) == len(EDGES) + 1


def test_the_outer_bins_take_what_the_scale_does_not_hold():
    histogram = log_histogram(WILD)
    assert int(histogram.counts[0]) == 2 and int(histogram.counts[-1]) == 3


def test_bins_are_half_decades():
    counts = log_histogram(torch.tensor([1.01e-3, 3.1e-3, 3.2e-3, 9.9e-3])).counts
    inside = counts.nonzero().flatten().tolist()
    assert counts[inside].tolist() == [2, 2] and inside[1] == inside[0] + 1
    below_one = (0 - LOW) * 2
    assert int(log_histogram(torch.tensor([0.99])).counts[below_one]) == 1
    assert int(log_histogram(torch.tensor([1.0])).counts[below_one + 1]) == 1
    assert int(log_histogram(torch.tensor([10.0**HIGH])).counts[-1]) == 1


def test_tensorboard_reads_the_bins_back(tmp_path):
    histogram = log_histogram(WILD)
    with SummaryWriter(str(tmp_path)) as writer:
        write_histogram(writer, "wild", histogram, 7)
    accumulator = EventAccumulator(str(tmp_path)).Reload()
    (event,) = accumulator.Histograms("wild")
    assert event.step == 7
    assert event.histogram_value.num == len(WILD)
    assert event.histogram_value.bucket == histogram.counts.tolist()
    assert event.histogram_value.bucket_limit[:-1] == EDGES.tolist()


def test_rows_are_histograms_of_their_own():
    rows = torch.stack([WILD, WILD.flip(0) * 3])
    for row, together in zip(rows, log_histograms(rows), strict=True):
        alone = log_histogram(row)
        assert torch.equal(alone.counts, together.counts)
        assert torch.equal(alone.log10, together.log10)
