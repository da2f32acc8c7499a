from __future__ import annotations

import itertools

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from bptt_lab.training.histograms import (
    HIGH,
    LOW,
    is_kept,
    log_histogram,
    log_histograms,
    write_histograms,
)

WILD = torch.tensor([0.0, 1e-30, 1e-3, 2e-3, 1.0, 1e30, float("inf"), float("nan")])
ROWS = {
    "wild": WILD,
    "narrow": torch.linspace(0.9, 1.1, 8),
    "equal": torch.full((8,), 0.5),
    "zeros": torch.zeros(8),
    "infinite": torch.full((8,), torch.inf),
    "ends": torch.tensor([1e-20, 9.9e7, 1e8, 1e-21] * 2),
    "no two alike": 10.0 ** torch.arange(-19, 5, 3),
}


def by_hand(histogram) -> list[int]:
    """Count again, by comparing each value with the limits."""
    edges = [-torch.inf, *histogram.limits.tolist()]
    pairs = itertools.pairwise(edges)
    return [int(((histogram.log10 > a) & (histogram.log10 <= b)).sum()) for a, b in pairs]


@pytest.mark.parametrize("name", ROWS)
def test_every_value_falls_into_one_bin_whose_limits_rise(name):
    histogram = log_histogram(ROWS[name])
    assert int(histogram.counts.sum()) == len(ROWS[name])
    assert bool((histogram.limits.diff() >= 0).all())
    assert len(histogram.counts) == len(histogram.limits)


def test_the_outer_bins_take_what_the_scale_does_not_hold():
    histogram = log_histogram(WILD)
    assert int(histogram.counts[0]) == 2 and int(histogram.counts[-1]) == 3
    assert histogram.counts.tolist() == [2, 0, *histogram.counts[2:-2].tolist(), 0, 3]
    assert int(log_histogram(torch.tensor([10.0**HIGH])).counts[-1]) == 1
    assert int(log_histogram(torch.tensor([10.0**LOW], dtype=torch.float64)).counts[2]) == 1


def test_the_bins_between_span_the_values():
    values = 10 ** torch.linspace(-2.5, -2.0, 1000, dtype=torch.float64)
    histogram = log_histogram(values)
    inner = histogram.limits[1:-2]
    assert (float(inner[0]), float(inner[-1])) == pytest.approx((-2.5, -2.0))
    assert len(inner) == 21  # 2 times the third root of 1000 values, and an edge more
    assert by_hand(histogram)[2:-2] == pytest.approx([50] * 20, abs=2)
    assert histogram.counts[2:-2].tolist() == pytest.approx([50] * 20, abs=2)


@pytest.mark.parametrize("name", ROWS)
def test_tensorboard_reads_the_bins_back_without_those_that_are_empty(name, tmp_path):
    histogram = log_histogram(ROWS[name])
    with SummaryWriter(str(tmp_path)) as writer:
        write_histograms(writer, {name: histogram}, 7)
    accumulator = EventAccumulator(str(tmp_path)).Reload()
    (event,) = accumulator.Histograms(name)
    value = event.histogram_value
    assert event.step == 7
    assert value.num == sum(value.bucket) == len(ROWS[name])
    found = dict(zip(histogram.limits.tolist(), histogram.counts.tolist(), strict=True))
    assert all(found[limit] == n for limit, n in zip(value.bucket_limit, value.bucket, strict=True))
    if name in ("narrow", "equal"):
        assert 0.0 < value.bucket_limit[-1] - value.bucket_limit[0] < 0.2


def test_rows_are_histograms_of_their_own():
    together = log_histograms(torch.stack([*ROWS.values()]).double())
    for row, its in zip(ROWS.values(), together, strict=True):
        for one, other in zip(log_histogram(row.double()), its, strict=True):
            assert torch.equal(one, other)


def test_fewer_and_fewer_are_kept():
    kept = [n for n in range(1, 10_000) if is_kept(50 * n, 50)]
    assert kept[:63] == list(range(1, 64))
    assert len(kept) < 64 + 32 * 8
    assert max(b / a for a, b in itertools.pairwise(kept[63:])) < 1.05
    assert is_kept(1, 50) and is_kept(50, 50)
