"""What a strategy carries from one chunk to the next: states, influence, the draw's number."""

# mypy: disallow-untyped-calls=False

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bptt_lab.diagnostics.conformance import compare
from bptt_lab.diagnostics.conformance.compare import Skipped, assert_same, draws, require, suited
from bptt_lab.diagnostics.conformance.nets import Net, gradients, start
from bptt_lab.gradients.base import GradientStrategy


def check_carry(strategy: GradientStrategy) -> None:
    """The carry continues the states exactly and is never attached to a graph."""
    net = suited(strategy, Net(4, 9, num_layers=2, leak=0.5))._replace(leaves=False)
    rnn, (input, _) = net.rnn(strategy), net.data()
    carry = strategy.init_carry(rnn, net.batch_size)
    zeros = carry.hx.shape == net.state_shape and not carry.hx.any()
    require(zeros, "carry: the states are not zeros at first")
    whole, _ = rnn(input)
    outputs = []
    for chunk in input.split([4, 1, 4]):
        output, carry = strategy.unroll(rnn, chunk, carry)
        outputs.append(output)
        for tensor in tensors_in(carry):
            require(not tensor.requires_grad, "carry: attached to a graph")
    assert_same({"h": torch.cat(outputs)}, {"h": whole}, "carry: states not continued", 1e-12)


def check_influence(strategy: GradientStrategy) -> None:
    """The influence is detached, has a row for each sequence, and is not changed in place."""
    net = suited(strategy, Net(4, 8, 3, leak=0.5))._replace(leaves=False)
    for tensor in tensors_in(influence_after(strategy, net, net.data()[0])):
        require(not tensor.requires_grad, "influence: attached to a graph")
        rows = tensor.dim() and len(tensor) == net.batch_size
        require(rows, "influence: must have one row a sequence")


def check_sequences_apart(strategy: GradientStrategy) -> None:
    """Each sequence's influence is the one that it has when it runs alone."""
    if draws(strategy):
        raise Skipped(f"{strategy} draws other random numbers for a sequence that runs alone")
    net = suited(strategy, Net(4, 8, 3, leak=0.5))._replace(leaves=False)
    input = net.data()[0]
    together = list(tensors_in(influence_after(strategy, net, input)))
    for n in range(net.batch_size):
        alone = list(tensors_in(influence_after(strategy, net, input[:, n : n + 1])))
        require(len(alone) == len(together), "influence: another form for one sequence")
        for own, tensor in zip(alone, together, strict=True):
            assert_same({"": tensor[n : n + 1]}, {"": own}, "influence: sequences mixed")


def check_draws(strategy: GradientStrategy) -> None:
    """A draw belongs to its number and moves on with every unroll."""
    if not draws(strategy):
        raise Skipped(f"{strategy} gives the same gradient at all draws that were tried")
    net = suited(strategy, Net(4, 20, 2))._replace(leaves=False)
    rnn, (input, hx) = net.rnn(strategy), net.data()
    _, carry = strategy.unroll(rnn, input, start(rnn, hx, draw=3))
    number = carry.draw
    require(number == 4, f"draw: the number is {number} after an unroll at 3, not 4")
    twice = [gradients(copy.deepcopy(strategy), net, draw=7) for _ in range(2)]
    assert_same(twice[0], twice[1], "draw: two gradients at one number", 0)


def influence_after(strategy: GradientStrategy, net: Net, input: Tensor) -> Any:
    """The influence after two chunks that were learnt from."""
    rnn = net.rnn(strategy)
    carry = start(rnn, net.data()[1][:, : input.shape[1]].zero_())
    for chunk in input.split([5, 3]):
        before = list(tensors_in(carry.influence))
        copies = [tensor.clone() for tensor in before]
        output, carry = strategy.unroll(rnn, chunk, carry)
        net.loss_of(output).backward()
        for tensor, kept in zip(before, copies, strict=True):
            require(torch.equal(tensor, kept), "influence: changed in place")
    return carry.influence


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested plain containers, which is all that a carry may hold."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif not (value is None or isinstance(value, bool | int | float | str)):
        raise compare.Failed(f"carry: holds a {type(value).__name__}, which is no plain container")
