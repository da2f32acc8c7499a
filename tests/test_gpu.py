"""On a CUDA device the reference kernel gives the CPU's numbers, and a run trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from runs import WATCHED, quick_run
from torch.nn.utils.rnn import pack_sequence

from bptt_lab import VanillaRNN
from bptt_lab.nn.segmented import segmented_loss

pytestmark = pytest.mark.gpu

CONF = Path(__file__).parents[1] / "conf" / "gradient"
STRATEGIES = sorted(path.stem for path in CONF.glob("*.yaml"))
VARIANTS = [
    {"k": 3, "mode": "lag"},
    {"k": 3, "mode": "window", "k1": 2},
    {"k": 3, "mode": "tail"},
    {"k": 3, "mode": "chunk"},
]


def strategies():
    from hydra.utils import instantiate

    for name in STRATEGIES:
        config = OmegaConf.load(CONF / f"{name}.yaml")
        variants = VARIANTS if name == "truncated" else [{}]
        for variant in variants:
            yield pytest.param(
                lambda c=config, v=variant: instantiate(c, **v), id=f"{name} {variant}"
            )


def gradients(make, device, packed, num_layers=2):
    torch.manual_seed(0)
    rnn = VanillaRNN(3, 16, num_layers, leak=0.5, dtype=torch.float64, gradient=make()).to(device)
    sequences = [torch.randn(n, 3, dtype=torch.float64) for n in (11, 7, 4)]
    if packed:
        output, h_n = rnn(pack_sequence(sequences).to(device))
        output = output.data
    else:
        output, h_n = rnn(torch.stack([s[:4] for s in sequences], 1).to(device))
    (output.sin().sum() + h_n.square().sum()).backward()
    return [output, h_n, *(p.grad for p in rnn.parameters())]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("make", list(strategies()))
def test_gradients_are_the_cpus(make, packed):
    on_cpu, on_gpu = (gradients(make, device, packed) for device in ("cpu", "cuda"))
    for expected, actual in zip(on_cpu, on_gpu, strict=True):
        torch.testing.assert_close(actual.cpu(), expected, rtol=1e-10, atol=1e-10)


def test_a_segmented_loss_is_the_cpus():
    from bptt_lab.nn.losses import mse

    results = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        rnn, readout = VanillaRNN(2, 8).double(), torch.nn.Linear(8, 2).double()
        x, hx = torch.randn(40, 3, 2).double(), torch.zeros(1, 3, 8).double()
        rnn, readout, x, hx = (thing.to(device) for thing in (rnn, readout, x, hx))
        count = torch.ones(40, 3, dtype=torch.bool, device=device)
        total, _ = segmented_loss(rnn, readout, mse, x, x, count, hx, every=7)
        total.backward()
        results.append([p.grad.cpu() for p in (*rnn.parameters(), *readout.parameters())])
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_run_trains_there(strategy, precision, tmp_path):
    options = (WATCHED, "device=gpu", f"gradient={strategy}", f"trainer.precision={precision}")
    first = quick_run(tmp_path / "first", *options, "dataset.layout=rows")
    again = quick_run(tmp_path / "again", *options, "dataset.layout=rows")
    assert first["parameters_sha256"] == again["parameters_sha256"]
