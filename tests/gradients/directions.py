"""What is known of a rule that multiplies slopes with random directions, sign by sign.

A chunk's gradient is a sum of parts: a_i stems from the parameters' uses in chunk i. With them the
rules' gradients are known for every draw, and so are mean and variance.
S patterns of signs, C chunks; N K H J as in the rules.
"""

import copy
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.random_directions import RandomDirections
from bptt_lab.gradients.rtrl import RTRL

from .nets import INPUT_SIZE, Gradients, Net, collect


def with_directions(strategy: RandomDirections, drawn: Sequence[Tensor]) -> RandomDirections:
    """A copy whose draws are given one by one, each (N, K, H, J)."""
    told, left = copy.copy(strategy), iter(drawn)
    told.signs = lambda *_: next(left)
    return told


def every(*shape: int) -> Tensor:
    """All patterns of signs of a shape, (S, *shape)."""
    patterns = list(itertools.product((-1.0, 1.0), repeat=torch.Size(shape).numel()))
    return torch.tensor(patterns, dtype=torch.float64).view(-1, *shape)


def orthogonal(*shape: int) -> Tensor:
    """Fewer patterns, with the same mean of a product of any two signs; Sylvester's matrix.

    A gradient is a sum of such products, so that its mean is the one over all patterns.
    """
    count, signs = torch.Size(shape).numel(), torch.ones(1, 1, dtype=torch.float64)
    while len(signs) < count:
        signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
    return signs[:, :count].view(-1, *shape)


def matrix(gradients: Gradients) -> Tensor:
    """The gradient as the rules have it, (H, J)."""
    columns = [gradients["weight_ih_l0"], gradients["weight_hh_l0"]]
    columns += [gradients[name][:, None] for name in ("bias_ih_l0",) if name in gradients]
    return torch.cat(columns, 1)


def shape_of(net: Net) -> tuple[int, int]:
    """H and J."""
    return net.hidden_size, INPUT_SIZE + net.hidden_size + net.bias


def found(
    strategy: RandomDirections, net: Net, lengths: Sequence[int], drawn: Tensor
) -> tuple[Tensor, Tensor]:
    """Each chunk's gradient for each pattern, (C, S, H, J), and the mean M at its end, (C, N, ...).

    All patterns run side by side, as sequences of one batch; `drawn` is (draws, S, N, K, H, J).
    """
    input, num_patterns = net.data()[0].detach(), drawn.shape[1]
    rnn = net.rnn(with_directions(strategy, drawn.flatten(1, 2)))
    carry, gradients, means = None, [], []
    for x in input.split(list(lengths)):
        output, carry = rnn.unroll(x.repeat(1, num_patterns, 1), carry)
        states = output.unflatten(1, (num_patterns, -1))
        for s in range(num_patterns):
            rnn.zero_grad()
            net.loss_of(states[:, s]).backward(retain_graph=True)
            gradients.append(matrix(collect(rnn)))
        M = strategy.matrix(carry.influence)
        means.append(M.unflatten(0, (num_patterns, -1)).mean(0))
    rows = torch.stack(gradients).unflatten(0, (len(lengths), num_patterns))
    return rows, torch.stack(means)


def parts(net: Net, lengths: Sequence[int]) -> Tensor:
    """a_i of the losses in chunk c, (C, C, N, H, J), 0 for i > c: by autograd, in one graph.

    Each chunk has parameters of its own, and each sequence runs alone.
    """
    input = net.data()[0].detach()
    a = torch.zeros(len(lengths), len(lengths), input.shape[1], *shape_of(net)).to(input)
    for n in range(input.shape[1]):
        copies, losses, hx = [net.rnn(Autograd()) for _ in lengths], [], None
        for rnn, x in zip(copies, input[:, n : n + 1].split(list(lengths)), strict=True):
            output, hx = rnn(x, hx)
            losses.append(net.loss_of(output))
        for c, loss in enumerate(losses):
            for rnn in copies:
                rnn.zero_grad()
            loss.backward(retain_graph=True)
            for i, rnn in enumerate(copies[: c + 1]):
                a[c, i, n] = matrix(collect(rnn))
    return a


def influences(net: Net, lengths: Sequence[int]) -> Tensor:
    """M at the end of each chunk, (C, N, H, H, J), by RTRL."""
    rnn, carry, found = net.rnn(RTRL()), None, []
    for x in net.data()[0].detach().split(list(lengths)):
        _, carry = rnn.unroll(x, carry)
        found.append(carry.influence.unflatten(-1, shape_of(net)))
    return torch.stack(found)
