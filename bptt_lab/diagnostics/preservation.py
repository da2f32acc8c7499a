"""Omega: how far one step of the recurrence is from handing credit on at its own length.

    (1) Omega = sum_s (|c_{s+1} J_{s+1}| / |c_{s+1}| - 1)^2,  c_s = dE/dh_s

Zero where every step hands on exactly as much as it received, as an orthogonal W_hh without
nonlinearity does. Reference: Pascanu, Mikolov & Bengio (2013), "On the difficulty of training
recurrent neural networks", section 3.3, who add it to the loss.
"""

import torch
from torch import Tensor

from bptt_lab.core.cell import Layer
from bptt_lab.diagnostics.jacobians import check_layer
from bptt_lab.diagnostics.linearise import Loss, immediate_credit, linearise
from bptt_lab.gradients.base import RecurrentNet
from bptt_lab.gradients.stack import Stack


def omega(
    rnn: RecurrentNet, input: Tensor, loss: Loss, hx: Tensor | None = None, *, layer: int = 0
) -> Tensor:
    """Measure Pascanu's regulariser, Eq. (1), for s = 0 to T - 1, averaged over the batch.

    Steps that receive no credit count nothing. The sweep is done in float64, so that credit too
    small for the net's type still counts.

    Cost: one backward sweep.

    Args:
        rnn: the network.
        input: (T, N, I), time first.
        loss: maps the last layer's states (T, N, H) to a scalar.
        hx: state before the first step, (num_layers, N, H); zeros by default.
        layer: which layer's recurrence, 0 for the first.

    Returns:
        A scalar, float64.

    Raises:
        ConfigError: where `layer` is out of range.
        ValueError: where `input` or `hx` has the wrong shape.

    Examples:
        >>> import torch
        >>> from bptt_lab import VanillaRNN
        >>> bool(omega(VanillaRNN(2, 3), torch.randn(9, 4, 2), torch.sum) > 0)
        True
    """
    check_layer(rnn, layer)
    run = linearise(rnn, input, hx)
    q_LNH = immediate_credit(run, loss).double()
    layers = [_double(each) for each in run.layers]
    swept = Stack(layers, run.cell, None, {"delta", "credit"}, q_LNH).sweep()[layer]
    assert swept.delta is not None and swept.credit is not None
    handed = swept.delta @ layers[layer].weights.hh + (1 - run.cell.leak) * swept.credit
    before, after = swept.credit.norm(dim=-1), handed.norm(dim=-1)
    terms_LN = torch.where(before == 0, 0, (after / before - 1).square())
    return terms_LN.sum(0).mean()


def _double(layer: Layer) -> Layer:
    weights = layer.weights._replace(
        **{name: w.double() for name, w in layer.weights._asdict().items() if w is not None}
    )
    states, values = layer.states.double(), layer.values.double()
    return Layer(layer.input.double(), states, values, weights)
