"""The exact expectation of a rule that draws signs: all patterns of them, side by side in a batch.

Sequences of a batch have signs of their own, so that a batch of one sequence many times over, each
with another pattern, gives the sum over patterns in one backward pass.
"""

import copy
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.gradients.full import Full

from .nets import Gradients, Net, collect


def all_signs(num_steps: int, per_step: int) -> Tensor:
    """Every pattern of signs, (num_steps, 2^(num_steps per_step), per_step)."""
    patterns = list(itertools.product((-1.0, 1.0), repeat=num_steps * per_step))
    signs = torch.tensor(patterns, dtype=torch.float64)
    return signs.view(-1, num_steps, per_step).transpose(0, 1)


def with_signs(strategy: GradientStrategy, signs: Tensor) -> GradientStrategy:
    """A copy whose draws are given, chunk after chunk."""
    told, position = copy.copy(strategy), 0

    def next_signs(chunk, *_) -> Tensor:
        nonlocal position
        begin, position = position, position + len(chunk.input)
        return signs[begin:position]

    told.signs = next_signs
    return told


def summed_over_chunks(
    strategy: GradientStrategy,
    net: Net,
    input: Tensor,
    chunk_lengths: Sequence[int],
    draw: int = 0,
) -> Gradients:
    """The parameters' gradient, from zero states and a draw on, summed over chunks."""
    rnn = net.rnn(strategy)
    carry = strategy.init_carry(rnn, input.shape[1])._replace(draw=draw)
    for chunk in input.split(list(chunk_lengths)):
        output, carry = strategy.unroll(rnn, chunk, carry)
        net.loss_of(output).backward()
    return collect(rnn)


def expected_over_chunks(
    strategy: GradientStrategy, per_step: int, net: Net, chunk_lengths: Sequence[int]
) -> tuple[Gradients, Gradients]:
    """The expectation of a strategy's gradient, and full BPTT's of the whole, for one sequence."""
    input = net.data()[0].detach()[:, :1]
    signs = all_signs(len(input), per_step)
    count = signs.shape[1]
    many = input.expand(-1, count, -1)
    total = summed_over_chunks(with_signs(strategy, signs), net, many, chunk_lengths)
    mean = {name: g / count for name, g in total.items()}
    return mean, summed_over_chunks(Full(), net, input, [len(input)])


def draws(strategy: GradientStrategy, net: Net, count: int) -> Tensor:
    """Independent draws of one sequence's gradient of W_hh and W_ih, (count, H (H + I))."""
    input, rows = net.data()[0].detach()[:, :1], []
    for draw in range(count):
        g = summed_over_chunks(strategy, net, input, [net.num_steps], draw)
        rows.append(torch.cat([g["weight_hh_l0"].flatten(), g["weight_ih_l0"].flatten()]))
    return torch.stack(rows)
