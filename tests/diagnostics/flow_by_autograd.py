"""Credit flow the slow way: torch's own differentiation, one loss step at a time."""

import torch
from gradients.nets import unroll_by_hand
from torch import Tensor

from bptt_lab.nn.rnn import VanillaRNN


def credit(rnn: VanillaRNN, input: Tensor, loss, hx: Tensor | None = None) -> Tensor:
    """dE_t/dh_s of every layer and sequence, (num_layers, T, T, N, H), zero above the diagonal."""
    num_steps, batch_size, _ = input.shape
    if hx is None:
        hx = input.new_zeros(rnn.num_layers, batch_size, rnn.hidden_size)
    layers = unroll_by_hand(rnn, input.detach(), hx.detach().requires_grad_())
    output = torch.stack(layers[-1].h[1:])
    leaf = output.detach().requires_grad_()
    (q,) = torch.autograd.grad(loss(leaf), leaf)
    states = [h for layer in layers for h in layer.h[1:]]
    result = input.new_zeros(len(layers), num_steps, num_steps, *output.shape[1:])
    for t in q.flatten(1).any(1).nonzero().flatten().tolist():
        gradients = torch.autograd.grad(
            (q[t] * output[t]).sum(), states, retain_graph=True, materialize_grads=True
        )
        result[:, t] = torch.stack(gradients).unflatten(0, (len(layers), num_steps))
    return result
