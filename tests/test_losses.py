from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from bptt_lab.nn.losses import LOSSES, masked_sum

PREDICTION = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([[0, 1, 2], [3, 4, 0], [1, 1, 1], [4, 3, 2]])


def test_cross_entropy_is_torchs_per_element():
    losses = LOSSES["cross_entropy"](PREDICTION, CLASSES)
    expected = functional.cross_entropy(PREDICTION.flatten(0, 1), CLASSES.flatten())
    torch.testing.assert_close(losses.mean(), expected)
    torch.testing.assert_close(
        losses[1, 2], functional.cross_entropy(PREDICTION[1, 2], CLASSES[1, 2])
    )


def test_mse_is_the_mean_over_outputs():
    target = torch.zeros_like(PREDICTION)
    torch.testing.assert_close(LOSSES["mse"](PREDICTION, target), PREDICTION.square().mean(-1))


def test_binary_cross_entropy_is_the_sum_over_the_outputs_of_minus_log_their_chances():
    target = (PREDICTION.roll(1, 0) > 0).double()
    chance = 1 / (1 + (-PREDICTION).exp())
    said = torch.where(target == 1, chance, 1 - chance)
    losses = LOSSES["binary_cross_entropy"](PREDICTION, target)
    torch.testing.assert_close(losses, -said.log().sum(-1), rtol=0, atol=1e-12)
    far = torch.full((1, 1, 2), 1e4)
    assert LOSSES["binary_cross_entropy"](far, torch.tensor([[[1.0, 0.0]]])).item() == 1e4


def test_softmax_mse_is_the_sources_squared_error():
    """E_t = (d_t - softmax(z_t))^2, and its gradient through the softmax's Jacobian."""
    z = PREDICTION[0, 0].clone().requires_grad_()
    loss = LOSSES["softmax_mse"](z[None, None], torch.tensor([[2]])).squeeze()
    y = torch.softmax(z, 0)
    d = torch.eye(5, dtype=torch.float64)[2]
    torch.testing.assert_close(loss, ((d - y) ** 2).sum())
    loss.backward()
    jacobian = torch.diag(y) - torch.outer(y, y)
    torch.testing.assert_close(z.grad, (2 * (y - d) @ jacobian).detach())


@pytest.mark.parametrize("hidden", [float("nan"), float("inf")])
def test_masked_sum_ignores_whatever_does_not_count(hidden):
    values = torch.tensor([[1.0, hidden], [2.0, 4.0]], requires_grad=True)
    mask = torch.tensor([[True, False], [True, True]])
    total = masked_sum(values, mask)
    total.backward()
    assert float(total.detach()) == 7
    assert values.grad.tolist() == [[1, 0], [1, 1]]
