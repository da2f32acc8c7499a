"""A loss taken segment by segment is the loss, and its gradient full BPTT's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bptt_lab import VanillaRNN
from bptt_lab.core import recurrence
from bptt_lab.gradients.checkpointed import Checkpointed
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.truncated import Truncated
from bptt_lab.nn.losses import LOSSES, masked_sum
from bptt_lab.nn.segmented import segmented_loss

L, N, I, H, O = 23, 3, 2, 5, 4


def problem(num_layers=1, loss="cross_entropy", bias=True, leak=1.0):
    torch.manual_seed(0)
    rnn = VanillaRNN(I, H, num_layers, bias=bias, leak=leak, dtype=torch.float64)
    readout = nn.Linear(H, O, dtype=torch.float64)
    input = torch.randn(L, N, I, dtype=torch.float64)
    target = torch.randint(O, (L, N)) if loss != "mse" else torch.randn(L, N, O).double()
    mask = torch.rand(L, N) < 0.7
    hx = torch.randn(num_layers, N, H, dtype=torch.float64, requires_grad=True)
    return rnn, readout, LOSSES[loss], input, target, mask, hx


def gradients(total, rnn, readout, hx):
    leaves = [*rnn.parameters(), *readout.parameters(), hx]
    return torch.autograd.grad(total * 0.5, leaves)


@pytest.mark.parametrize("every", [1, 4, 23, 100, None])
@pytest.mark.parametrize(
    "kind",
    [{}, {"num_layers": 3}, {"loss": "mse"}, {"loss": "softmax_mse", "bias": False}, {"leak": 0.5}],
    ids=str,
)
def test_it_is_the_loss_and_the_gradient(every, kind):
    rnn, readout, loss, input, target, mask, hx = problem(**kind)
    total, h_n = segmented_loss(rnn, readout, loss, input, target, mask, hx, every)
    output, expected_h_n = rnn(input, hx)
    expected = masked_sum(loss(readout(output), target), mask)
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(h_n, expected_h_n.detach(), rtol=0, atol=1e-12)
    assert not h_n.requires_grad
    for ours, wanted in zip(
        gradients(total, rnn, readout, hx), gradients(expected, rnn, readout, hx), strict=True
    ):
        torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-12)


def test_refusals():
    rnn, readout, loss, input, target, mask, hx = problem(num_layers=2)
    with pytest.raises(ValueError, match="wants a gradient"):
        segmented_loss(rnn, readout, loss, input.requires_grad_(), target, mask, hx)
    with pytest.raises(ValueError, match="target wants a gradient"):
        wanting = torch.randn(L, N, O, requires_grad=True)
        segmented_loss(rnn, readout, LOSSES["mse"], input.detach(), wanting, mask, hx)
    total, _ = segmented_loss(rnn, readout, loss, input.detach(), target, mask, hx)
    with pytest.raises(RuntimeError, match=r"create_graph=True: segmented_loss .* Autograd\(\)"):
        torch.autograd.grad(total, rnn.weight_hh_l0, create_graph=True)
    for every in (0, 2.5, "2"):
        with pytest.raises(ValueError, match=f"every={every}"):
            segmented_loss(rnn, readout, loss, input.detach(), target, mask, hx, every)
    rnn.batch_first = True
    with pytest.raises(ValueError, match="batch_first=True: must be False"):
        segmented_loss(rnn, readout, loss, input.detach(), target, mask, hx)
    rnn.batch_first = False
    rnn.gradient = Truncated(k=2)
    with pytest.raises(ValueError, match="not exact"):
        segmented_loss(rnn, readout, loss, input.detach(), target, mask, hx)
    rnn.gradient = Full()
    rnn.dropout = 0.5
    with pytest.raises(ValueError, match=r"dropout=0\.5.*use dropout=0"):
        segmented_loss(rnn, readout, loss, input.detach(), target, mask, hx)
    rnn.eval()
    segmented_loss(rnn, readout, loss, input.detach(), target, mask, hx)


@pytest.mark.parametrize(("leak", "again"), [(1.0, 2), (0.5, 3)])
def test_a_checkpointed_sweep_unrolls_all_but_the_last_segment(leak, again, monkeypatch):
    """With a leak phi's values were not kept, and the last segment is unrolled as any."""
    rnn, _, _, input, _, _, hx = problem(num_layers=2, leak=leak)
    rnn.gradient = Checkpointed(every=8)  # of 23 steps: three segments
    output, h_n = rnn(input, hx)
    unrolled, unroll = [], recurrence.unroll

    def counting(*args, **kwargs):
        unrolled.append(args)
        return unroll(*args, **kwargs)

    monkeypatch.setattr(recurrence, "unroll", counting)
    found = torch.autograd.grad((output.sin().sum(), h_n.sum()), [*rnn.parameters(), hx])
    assert len(unrolled) == 2 * again
    rnn.gradient = Full()
    output, h_n = rnn(input, hx)
    wanted = torch.autograd.grad((output.sin().sum(), h_n.sum()), [*rnn.parameters(), hx])
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
