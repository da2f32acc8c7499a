"""VanillaRNN under torch.export, torch.jit.trace and torch.onnx.export."""

from __future__ import annotations

import io

import pytest
import torch

from bptt_lab import VanillaRNN
from bptt_lab.gradients import RTRL, Autograd, Checkpointed, Full, Truncated

L, N, I, H = 5, 3, 4, 6
STRATEGIES = [Full(), Autograd(), Checkpointed(), Truncated(k=2), RTRL()]
# torch 2.13 deprecates torch.jit and warns of checks of sizes; may go when the tests of it do.
TRACING = pytest.mark.filterwarnings(
    "ignore:`torch.jit.*is deprecated:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)
KINDS = [{}, {"nonlinearity": "relu", "bias": False}, {"leak": 0.3}, {"nonlinearity": "sigmoid"}]


def network(gradient, num_layers=2, **kind):
    torch.manual_seed(0)
    num_layers = gradient.max_layers or num_layers
    return VanillaRNN(I, H, num_layers, gradient=gradient, dtype=torch.float64, **kind).eval()


def sequences(rnn, steps=L):
    args = torch.randn(steps, N, I).double(), torch.randn(rnn.num_layers, N, H).double()
    with torch.no_grad():
        return args, rnn(*args)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("gradient", STRATEGIES, ids=repr)
def test_an_exported_program_has_the_networks_numbers(gradient, kind):
    rnn = network(gradient, **kind)
    args, _ = sequences(rnn)
    with torch.no_grad():
        program = torch.export.export(rnn, args, strict=False).module()
    others, expected = sequences(rnn)
    torch.testing.assert_close(program(*others), expected, rtol=0, atol=1e-12)


def test_an_exported_program_has_the_gradient_of_an_exact_strategy():
    rnn = network(Full())
    args, _ = sequences(rnn)
    program = torch.export.export(rnn, args, strict=False).module()
    mine, theirs = (
        torch.autograd.grad(run(*args)[0].square().sum(), [*run.parameters()])
        for run in (rnn, program)
    )
    torch.testing.assert_close(theirs, mine, rtol=0, atol=1e-12)


@TRACING
@pytest.mark.parametrize("record", [torch.export.export, torch.jit.trace])
def test_a_gradient_that_the_graph_would_not_have_is_refused(record):
    rnn = network(Truncated(k=2))
    with pytest.raises(RuntimeError, match=r"Truncated.*no_grad\(\), or write ONNX by bptt-export"):
        record(rnn, sequences(rnn)[0])


@TRACING
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_a_trace_is_saved_and_runs_on_other_lengths_and_batches(nonlinearity):
    rnn = network(Truncated(k=2), nonlinearity=nonlinearity)
    file = io.BytesIO()
    with torch.no_grad():
        torch.jit.save(torch.jit.trace(rnn, sequences(rnn)[0]), file)
    file.seek(0)
    others, expected = sequences(rnn, 3 * L)
    torch.testing.assert_close(torch.jit.load(file)(*others), expected, rtol=0, atol=1e-12)


def test_recording_leaves_the_network_as_it_was():
    rnn = network(Full())
    with torch.no_grad():
        torch.export.export(rnn, sequences(rnn)[0], strict=False)
    assert rnn.draw == 1  # of the call for its numbers
