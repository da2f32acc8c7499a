"""The slow and obvious truth: every term of the gradient, one by one.

    (1) dE_t/dtheta = sum_{s<=t} q_t J_t J_{t-1} ... J_{s+1} Mbar_s

The oracle gives each step s a copy theta_s of the parameters; what torch's own differentiation
then says of E_t and theta_s is the term (t, s) of Eq. (1), whatever the number of layers, since
only time is copied. A truncation is a choice of terms, a lag is t - s, and the sum over all terms
is the gradient. Cost: T backward passes and T^2 copies of the parameters; for small nets only.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from bptt_lab.core.cell import Cell, Weights, project, step
from bptt_lab.gradients.base import RecurrentNet, parameter_names

Loss = Callable[[Tensor], Tensor]


def terms(
    rnn: RecurrentNet, input: Tensor, loss: Loss, hx: Tensor | None = None
) -> dict[str, Tensor]:
    """Every term of Eq. (1).

    Args:
        rnn: the network; its own gradient strategy plays no part. Nothing is dropped.
        input: (T, N, I), time first.
        loss: maps the last layer's states (T, N, H) to a scalar.
        hx: state before the first step, (num_layers, N, H); zeros by default.

    Returns:
        For each parameter's name a tensor (T, T, *shape), entry [t, s] being the term of loss
        time t and use time s; for "input" (T, T, N, I), the input at s; for "hx"
        (T, T, num_layers, N, H), which is used at the first step only.

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> rnn = VanillaRNN(2, 3)
        >>> G = terms(rnn, torch.randn(4, 1, 2), torch.sum)["weight_hh_l0"]
        >>> G.sum((0, 1)).shape
        torch.Size([3, 3])
    """
    names = parameter_names(rnn)
    num_steps, batch_size, _ = input.shape
    if hx is None:
        hx = input.new_zeros(rnn.num_layers, batch_size, rnn.hidden_size)
    copies = {
        name: [parameter.detach().clone().requires_grad_() for _ in range(num_steps)]
        for layer, parameters in zip(names, rnn.all_weights, strict=True)
        for name, parameter in zip(layer, parameters, strict=True)
    }
    copies["input"] = [x_t.detach().clone().requires_grad_() for x_t in input]
    copies["hx"] = [hx.detach().clone().requires_grad_()]

    cell = Cell(rnn.nonlinearity, rnn.leak)
    h, output = list(copies["hx"][0]), []
    for s in range(num_steps):
        x = copies["input"][s]
        for layer, layer_names in enumerate(names):
            weights = Weights(*(copies[name][s] for name in layer_names))
            projected = project(x, weights)
            h[layer] = step(projected, h[layer], weights.hh, cell)
            x = h[layer]
        output.append(x)

    stacked = torch.stack(output).detach().requires_grad_()
    (q,) = torch.autograd.grad(loss(stacked), stacked)
    result = {
        name: input.new_zeros(num_steps, num_steps, *tensors[0].shape)
        for name, tensors in copies.items()
    }
    flat = [tensor for tensors in copies.values() for tensor in tensors]
    for t in range(num_steps):
        term = (q[t] * output[t]).sum()
        found = iter(torch.autograd.grad(term, flat, retain_graph=True, materialize_grads=True))
        for name, tensors in copies.items():
            result[name][t, : len(tensors)] = torch.stack([next(found) for _ in tensors])
    return result


def masked_gradient(terms: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    """The gradient under any mask M[t, s]: the sum of the terms it keeps.

    Args:
        terms: as `terms` returns them.
        mask: (T, T).

    Returns:
        For each parameter's name its gradient; for "input" (T, N, I), for "hx" its shape.
    """
    result = {}
    for name, G in terms.items():
        kept = G * mask.to(G).view(*mask.shape, *[1] * (G.dim() - 2))
        result[name] = kept.sum(0) if name == "input" else kept.sum((0, 1))
    return result


def lag_terms(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """G_d, the part of each parameter's gradient with lag d = t - s, (T, *shape).

    Their sum over d is the full gradient, and the sum of the first k the gradient of lag k.
    """
    return {
        name: torch.stack([G.diagonal(-lag).sum(-1) for lag in range(len(G))])
        for name, G in terms.items()
        if name not in ("input", "hx")
    }
