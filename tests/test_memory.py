"""Peak memory, each in a process of its own: above what it held before, warmed up."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bptt_lab import VanillaRNN
from bptt_lab.core.kernels import core
from bptt_lab.nn.losses import mse
from bptt_lab.nn.segmented import segmented_loss
from bptt_lab.training import fork_server

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's peak counter"
)


def status(name: str) -> int:
    """A figure of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def peak(work: Callable[[int], None], few: int, many: int) -> int:
    """What many steps take at their peak, in bytes, once a few have been taken."""
    work(few)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status("VmRSS")
    work(many)
    return status("VmHWM") - before


def full(result: Path, reference: bool) -> None:
    """Write the peak of full BPTT in sizes of its states."""
    torch.set_num_threads(1)
    if reference:
        core.supports = lambda *tensors: False  # type: ignore[assignment]
    rnn, weight = VanillaRNN(16, 512), torch.randn(512)

    def work(num_steps: int) -> None:
        output, _ = rnn(torch.randn(num_steps, 64, 16))
        (output * weight).sum().backward()  # its gradient is as large as the states

    result.write_text(str(peak(work, 3, 400) / (400 * 64 * 512 * 4)))


def segmented(result: Path, num_steps: int) -> None:
    """Write the peak of a loss in segments in megabytes."""
    torch.set_num_threads(1)
    rnn, readout = VanillaRNN(1, 256), torch.nn.Linear(256, 1)

    def work(num_steps: int) -> None:
        x, count = torch.randn(num_steps, 1, 1), torch.ones(num_steps, 1, dtype=torch.bool)
        total, _ = segmented_loss(rnn, readout, mse, x, x, count, torch.zeros(1, 1, 256))
        total.backward()

    result.write_text(str(peak(work, 1000, num_steps) / 1e6))


def measure(target: Callable[..., None], result: Path, *arguments: Any) -> float:
    process = fork_server.start(target, (result, *arguments))
    process.join()
    assert process.exitcode == 0
    return float(result.read_text())


@pytest.mark.parametrize("reference", [False, True])
def test_full_peaks_at_two_copies_of_the_states(reference, tmp_path):
    """States and the gradient of the output; delta only for a few steps at a time."""
    # A third copy would be 3; what the allocator keeps is some tenths.
    assert 1.9 < measure(full, tmp_path / "peak", reference) < 2.5


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_million_steps_fit_in_32_megabytes(num_steps, tmp_path):
    """All states would take 1 kB a step."""
    assert measure(segmented, tmp_path / "peak", num_steps) < 32
