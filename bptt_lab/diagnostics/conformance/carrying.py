"""What a strategy promises of whole chunks, and of what it carries from one to the next."""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from bptt_lab.diagnostics.conformance.compare import (
    VISIBLE,
    assert_same,
    difference,
    draws,
    suited,
)
from bptt_lab.diagnostics.conformance.nets import Gradients, Net, collect
from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.base import GradientStrategy


def check_exact_within_chunk(strategy: GradientStrategy) -> None:
    """Equal to full BPTT's gradient if it says so, visibly different on a long sequence if not."""
    actual, expected = (remembering_gradients(s, [200]) for s in (strategy, Autograd()))
    if strategy.exact_within_chunk:
        assert_same(actual, expected, "claims to be exact within a chunk")
        assert strategy.unbiased, "exact within a chunk, but not unbiased"
    else:
        off = difference(actual["weight_hh_l0"], expected["weight_hh_l0"])
        assert off > VISIBLE, f"claims to be inexact within a chunk, but is off by {off:.1e}"


def check_exact_across_chunks(strategy: GradientStrategy) -> None:
    """Summed over chunks: full BPTT's gradient of the whole if it says so, visibly off if not."""
    expected = remembering_gradients(Autograd(), [30])
    for lengths in ([6, 6, 6, 6, 5, 1], [1] * 30, [3] * 10, [4] * 7 + [2], [5] * 6):
        actual = remembering_gradients(strategy, lengths)
        if strategy.exact_across_chunks:
            assert_same(actual, expected, "claims to be exact across chunks")
        else:
            off = difference(actual["weight_hh_l0"], expected["weight_hh_l0"])
            assert off > VISIBLE, f"claims to be inexact across chunks, but is off by {off:.1e}"


def remembering_gradients(strategy: GradientStrategy, chunk_lengths: list[int]) -> Gradients:
    """Parameters' gradient of a net that forgets nothing, summed over chunks."""
    net = Net(5, sum(chunk_lengths), nonlinearity="identity")
    rnn, (input, _) = net.rnn(strategy), net.data()
    torch.nn.init.orthogonal_(rnn.all_weights[0][1], generator=torch.Generator().manual_seed(3))
    carry = strategy.init_carry(rnn, net.batch_size)
    for chunk in input.detach().split(chunk_lengths):
        output, carry = strategy.unroll(rnn, chunk, carry)
        net.loss_of(output).backward()
    return collect(rnn)


def check_carry(strategy: GradientStrategy) -> None:
    """The carry continues the states exactly and is never attached to a graph."""
    net = suited(strategy, Net(4, 9, num_layers=2, leak=0.5))._replace(leaves=False)
    rnn, (input, _) = net.rnn(strategy), net.data()
    carry = strategy.init_carry(rnn, net.batch_size)
    assert carry.hx.shape == net.state_shape and not carry.hx.any(), "carry: not zeros at first"
    whole, _ = rnn(input)
    outputs = []
    for chunk in input.split([4, 1, 4]):
        output, carry = strategy.unroll(rnn, chunk, carry)
        outputs.append(output)
        for tensor in tensors_in(carry):
            assert not tensor.requires_grad, "carry: attached to a graph"
    assert_same({"h": torch.cat(outputs)}, {"h": whole}, "carry: states not continued", 1e-12)


def check_memory(strategy: GradientStrategy) -> None:
    """What is carried besides the state: plain, detached, one row for each sequence and its own."""
    net = suited(strategy, Net(4, 8, 3, leak=0.5))._replace(leaves=False)
    input = net.data()[0]
    memory = list(tensors_in(memory_after(strategy, net, input)))
    for tensor in memory:
        assert not tensor.requires_grad, "memory: attached to a graph"
        assert tensor.dim() and len(tensor) == net.batch_size, "memory: not one row a sequence"
    if draws(strategy):  # or else the draws would differ
        return
    for n in range(net.batch_size):
        alone = list(tensors_in(memory_after(strategy, net, input[:, n : n + 1])))
        assert len(alone) == len(memory), "memory: another form for one sequence"
        for own, tensor in zip(alone, memory, strict=True):
            assert_same({"": tensor[n : n + 1]}, {"": own}, "memory: sequences mixed")


def memory_after(strategy: GradientStrategy, net: Net, input: Tensor) -> Any:
    """The memory after two chunks that were learnt from."""
    rnn = net.rnn(strategy)
    carry = strategy.init_carry(rnn, input.shape[1])
    for chunk in input.split([5, 3]):
        before = list(tensors_in(carry.influence))
        unspoilt = [tensor.clone() for tensor in before]
        output, carry = strategy.unroll(rnn, chunk, carry)
        net.loss_of(output).backward()
        for tensor, copy in zip(before, unspoilt, strict=True):
            assert torch.equal(tensor, copy), "memory: changed in place"
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
    else:
        plain = value is None or isinstance(value, bool | int | float | str)
        assert plain, f"carry: holds a {type(value).__name__}, which is no plain container"


CARRYING: list[Callable[[GradientStrategy], None]] = [
    check_exact_within_chunk,
    check_exact_across_chunks,
    check_carry,
    check_memory,
]
