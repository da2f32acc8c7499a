"""A run as the instruments see it: states, slopes and immediate credit, with no graph.

(1) J_t = (1 - leak) I + diag(slope_t) W_hh,  slope_t = leak phi'(a_t)    recurrent Jacobian
(2) q_t = dE_t/dh_t                                                       immediate credit
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bptt_lab.core.cell import Cell, Layer, Weights, slopes
from bptt_lab.gradients.base import RecurrentNet
from bptt_lab.gradients.stack import unroll_layers

Loss = Callable[[Tensor], Tensor]


class Linearised(NamedTuple):
    """A net along one run over T steps, all layers first to last."""

    layers: list[Layer]  # input (T, N, I), states (T + 1, N, H), weights
    slopes: list[Tensor]  # leak * phi'(a_t), (T, N, H) each
    cell: Cell

    def jacobians(self, layer: int) -> Tensor:
        """Eq. (1) of one layer, dense, in float64: (T, N, H, H)."""
        hh = self.layers[layer].weights.hh.double()
        J = self.slopes[layer].double().unsqueeze(-1) * hh
        if self.cell.leak != 1:
            J.diagonal(dim1=-2, dim2=-1).add_(1 - self.cell.leak)
        return J


@torch.no_grad()
def linearise(rnn: RecurrentNet, input: Tensor, hx: Tensor | None = None) -> Linearised:
    """Run the net, dropping nothing, and keep what its derivatives need.

    Raises:
        ValueError: where `input` or `hx` has another shape, or no step at all.
        FloatingPointError: where a weight or a state is inf or NaN; LAPACK would end the process.
    """
    if input.dim() != 3 or 0 in input.shape[:2] or input.shape[2] != rnn.input_size:
        wanted = f"must be (T, N, {rnn.input_size}), time first, with one step and sequence or more"
        raise ValueError(f"input of shape {tuple(input.shape)}: {wanted}")
    shape = (rnn.num_layers, input.shape[1], rnn.hidden_size)
    hx = input.new_zeros(shape) if hx is None else hx
    if hx.shape != shape:
        raise ValueError(f"hx of shape {tuple(hx.shape)}: must be (num_layers, N, H) = {shape}")
    cell = Cell(rnn.nonlinearity, rnn.leak)
    weights = [Weights(*(p.detach() for p in parameters)) for parameters in rnn.all_weights]
    layers = list(unroll_layers(input.detach(), hx, weights, cell))
    for index, layer in enumerate(layers):
        tensors = (*layer.weights, layer.states)
        if not all(bool(tensor.isfinite().all()) for tensor in tensors if tensor is not None):
            problem = "weights or states are inf or NaN; nothing can be measured"
            raise FloatingPointError(f"layer {index}: {problem}")
    return Linearised(layers, [slopes(layer.values, cell) for layer in layers], cell)


def immediate_credit(run: Linearised, loss: Loss) -> Tensor:
    """Eq. (2): what the loss says of the last layer's every state, (T, N, H)."""
    with torch.enable_grad():
        output = run.layers[-1].states[1:].detach().requires_grad_()
        (q_LNH,) = torch.autograd.grad(loss(output), output, materialize_grads=True)
    return q_LNH


def reach(q_LNH: Tensor, num_lags: int) -> tuple[Tensor, list[tuple[slice, int]]]:
    """The credit of the steps that have any of their own, and where it comes to lag by lag.

    For each lag that there is: the steps so far before the loss steps, and whether (1) the earliest
    of the losses one lag before has no step left to reach, or not (0).
    """
    own = q_LNH.flatten(1).any(1).nonzero().flatten().tolist()
    begin, end = (own[0], own[-1] + 1) if own else (0, 0)
    lags = range(min(num_lags, end))
    reached = [(slice(max(begin - lag, 0), end - lag), int(lag > begin)) for lag in lags]
    return q_LNH[begin:end], reached
