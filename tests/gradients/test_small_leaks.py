"""A small leak costs no digits: the error is at most ten times that of torch's own graph."""

import pytest
import torch
from instruction_sets import running_on

from bptt_lab import VanillaRNN
from bptt_lab.core.kernels import core
from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.checkpointed import Checkpointed
from bptt_lab.gradients.credit_clip import CreditClip
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.rtrl import RTRL
from bptt_lab.gradients.truncated import Truncated

L, N, I, H = 30, 3, 2, 8
EXACT = [
    Full(),
    Checkpointed(every=7),
    Truncated(k=L - 1, mode="lag"),
    CreditClip(of=Full(), clip=1e9),
    RTRL(),
    RTRL(block=10),
]


@pytest.fixture(params=["avx512", "avx2", "generic", "torch"])
def kernel(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(core, "supports", lambda *tensors: False)
        yield request.param
        return
    with running_on(request.param):
        yield request.param


def gradients(strategy, phi, leak, rounded, dtype):
    """At numbers that `rounded` can hold."""
    torch.manual_seed(0)
    rnn = VanillaRNN(I, H, nonlinearity=phi, leak=leak, gradient=strategy).to(rounded).to(dtype)
    input, hx = torch.randn(L, N, I), torch.randn(1, N, H)
    output, _ = rnn.unroll(input.to(rounded).to(dtype), hx=hx.to(rounded).to(dtype))
    output[:-1].square().sum().backward()  # so that lag L - 1 misses nothing
    return [p.grad.double() for p in rnn.parameters()]


def error(actual, expected):
    return max(float((a - b).norm() / b.norm()) for a, b in zip(actual, expected, strict=True))


@pytest.mark.parametrize("leak", [1.0, 0.1, 1e-3, 1e-5])
@pytest.mark.parametrize("phi", ["tanh", "relu", "identity", "sigmoid"])
def test_the_error_is_that_of_torch(kernel, phi, leak):
    for dtype in (torch.float32, torch.bfloat16) if kernel == "torch" else (torch.float32,):
        truth = gradients(Autograd(), phi, leak, dtype, torch.float64)
        allowed = 10 * error(gradients(Autograd(), phi, leak, dtype, dtype), truth)
        for strategy in EXACT:
            found = error(gradients(strategy, phi, leak, dtype, dtype), truth)
            assert found < allowed, (strategy, dtype)
