"""Peak memory, each in a process of its own: above what it held before, warmed up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's peak counter"
)

MEASURE = """
import ctypes, gc, torch
from bptt_lab import VanillaRNN
from bptt_lab.core.kernels import core
from bptt_lab.nn.losses import mse
from bptt_lab.nn.segmented import segmented_loss
torch.set_num_threads(1)

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

def peak(work):
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the peak so far
    before = status("VmRSS")
    work()
    return status("VmHWM") - before
"""

FULL = """
if {reference}:
    core.supports = lambda *tensors: False
rnn, weight = VanillaRNN(16, 512), torch.randn(512)

def work(num_steps):
    output, _ = rnn(torch.randn(num_steps, 64, 16))
    (output * weight).sum().backward()  # its gradient is as large as the states

work(3)
print(peak(lambda: work(800)) / (800 * 64 * 512 * 4))
"""

SEGMENTED = """
rnn, readout = VanillaRNN(1, 256), torch.nn.Linear(256, 1)

def work(num_steps):
    x, count = torch.randn(num_steps, 1, 1), torch.ones(num_steps, 1, dtype=torch.bool)
    total, _ = segmented_loss(rnn, readout, mse, x, x, count, torch.zeros(1, 1, 256))
    total.backward()

work(1000)
print(peak(lambda: work({num_steps})) / 1e6)
"""


def measure(script: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE + script], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.parametrize("reference", [False, True])
def test_full_peaks_at_two_copies_of_the_states(reference):
    """States and the gradient of the output; delta only for a few steps at a time."""
    assert 1.9 < measure(FULL.format(reference=reference)) < 2.3


@pytest.mark.parametrize("num_steps", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_million_steps_fit_in_32_megabytes(num_steps):
    """All states would take 1 kB a step."""
    assert measure(SEGMENTED.format(num_steps=num_steps)) < 32
