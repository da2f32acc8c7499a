"""States, gradient and credit under any mask, worked out by hand on a small net.

L N I H: steps, batch, input, hidden. This file shares no code with what it verifies.
"""

# mypy: disallow-untyped-calls=False

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bptt_lab.diagnostics.conformance.nets import Gradients, Net
from bptt_lab.nn.rnn import VanillaRNN

PHI: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "identity": torch.clone,
    "sigmoid": torch.sigmoid,
}


class Layer(NamedTuple):
    """One layer's inputs, pre-activations and states, each a list over time."""

    x: list[Tensor]
    a: list[Tensor]
    h: list[Tensor]  # one more: h[0] is hx


def unroll_by_hand(
    rnn: VanillaRNN, input: Tensor, hx: Tensor, dropout: list[Tensor | None] | None = None
) -> list[Layer]:
    """Every layer's inputs, pre-activations and states, each a tensor of its own in the graph."""
    layers = []
    x_LNI: Tensor = input
    for index, (weight_ih, weight_hh, *biases) in enumerate(rnn.all_weights):
        if dropout is not None and (dropped := dropout[index]) is not None:
            x_LNI = x_LNI * dropped
        layer = Layer(list(x_LNI), [], [hx[index]])
        for x in layer.x:
            layer.a.append(x @ weight_ih.T + layer.h[-1] @ weight_hh.T + sum(biases))
            phi = PHI[rnn.nonlinearity](layer.a[-1])
            layer.h.append((1 - rnn.leak) * layer.h[-1] + rnn.leak * phi)
        layers.append(layer)
        x_LNI = torch.stack(layer.h[1:])
    return layers


def masked_by_hand(
    net: Net,
    mask: Tensor,
    q: Tensor,
    q_h_n: Tensor | None = None,
    dropout: list[Tensor | None] | None = None,
) -> tuple[Gradients, Tensor]:
    """The masked gradient, and the masked credit dE/dh_t (num_layers, L, N, H).

    torch says what each loss time t gives to each a_s and h_s; the mask chooses, and the sums
    over s are written out.
    """
    rnn, (input, hx), num_steps = net.rnn(), net.data(), net.num_steps
    hx = hx.detach().requires_grad_()
    layers = unroll_by_hand(rnn, input, hx, dropout)
    targets = [(layer, s) for layer in range(len(layers)) for s in range(num_steps)]
    delta = torch.zeros(len(layers), num_steps, *q.shape[1:], dtype=q.dtype)
    credit, grad_hx = torch.zeros_like(delta), torch.zeros_like(hx)
    for t in range(num_steps):
        loss_t = (q[t] * layers[-1].h[t + 1]).sum()
        if t == num_steps - 1 and q_h_n is not None:
            loss_t = loss_t + sum((q_h_n[i] * x.h[-1]).sum() for i, x in enumerate(layers))
        wanted = [layers[i].a[s] for i, s in targets] + [layers[i].h[s + 1] for i, s in targets]
        wanted.append(hx)
        found = torch.autograd.grad(loss_t, wanted, retain_graph=True, materialize_grads=True)
        for n, (i, s) in enumerate(targets):
            delta[i, s] += mask[t, s] * found[n]
            credit[i, s] += mask[t, s] * found[n + len(targets)]
        grad_hx += mask[t, 0] * found[-1]  # hx is used at the first step

    result = {}
    if net.leaves:
        result = {"input": delta[0] @ rnn.all_weights[0][0].detach(), "hx": grad_hx}
    for i, layer in enumerate(layers):
        x, h_tm1 = torch.stack(layer.x).detach(), torch.stack(layer.h[:-1]).detach()
        result[f"weight_ih_l{i}"] = torch.einsum("lnh,lni->hi", delta[i], x)
        result[f"weight_hh_l{i}"] = torch.einsum("lnh,lnk->hk", delta[i], h_tm1)
        if rnn.bias:
            result[f"bias_ih_l{i}"] = result[f"bias_hh_l{i}"] = delta[i].sum((0, 1))
    return result, credit
