"""What each gradient strategy takes and what it refuses, found by trying it; docs/choosing.md.

A strategy that is added to conf/gradient is tried as the others are. A refusal is an error that
says so; any other outcome, a gradient that is missing or not finite among them, ends the build.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from bptt_lab import VanillaRNN
from bptt_lab.config.strategies import from_name, packaged
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.nn.losses import LOSSES
from bptt_lab.training.build import make
from bptt_lab.training.fleet.fused import fits
from bptt_lab.training.module import SequenceModule

L, N, I, H = 9, 3, 2, 4
YES, NO = "✓", "-"
REFUSALS = (ValueError, RuntimeError, NotImplementedError)
Probe = Callable[[GradientStrategy], str]


class Answer(NamedTuple):
    """What came of a trial."""

    word: str  # a cell of the table
    refusal: str = ""  # the error's first line


class Row(NamedTuple):
    """A strategy with its defaults, and what came of each trial."""

    name: str
    strategy: GradientStrategy
    answers: dict[str, Answer]  # by the column's heading


def rows(probes: dict[str, Probe], names: Sequence[str] | None = None) -> list[Row]:
    """Try every strategy of the package, in the order exact, unbiased, biased.

    Args:
        probes: by the column's heading.
        names: options of the group `gradient`; None for all.
    """
    strategies = {name: _made(name) for name in names or packaged().trusted()}
    order = sorted(strategies, key=lambda name: (-RANK.index(strategies[name].claim), name))
    return [
        Row(
            name, strategies[name], {head: tried(p, strategies[name]) for head, p in probes.items()}
        )
        for name in order
    ]


RANK = ("biased", "unbiased", "exact")


def _made(name: str) -> GradientStrategy:
    strategy: GradientStrategy = make("gradient", from_name("gradient", name, {}, packaged()))
    return strategy


def tried(probe: Probe, strategy: GradientStrategy) -> Answer:
    """Make one trial."""
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # torch's compiler says at length where it gives up
        torch.manual_seed(0)
        try:
            return Answer(probe(strategy))
        except REFUSALS as error:
            return Answer(NO, str(error).splitlines()[0])


def _net(strategy: GradientStrategy, num_layers: int = 1, dropout: float = 0.0) -> VanillaRNN:
    return VanillaRNN(I, H, num_layers, dropout=dropout, gradient=strategy)


def _learn(rnn: VanillaRNN, output: Tensor) -> None:
    """Take a gradient, which every parameter must get."""
    output.float().square().sum().backward()
    for name, parameter in rnn.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def layers(strategy: GradientStrategy) -> str:
    """Three layers."""
    rnn = _net(strategy, 3)
    _learn(rnn, rnn(torch.randn(L, N, I))[0])
    return YES


def dropout(strategy: GradientStrategy) -> str:
    """Dropout between two layers."""
    rnn = _net(strategy, 2, 0.5)
    _learn(rnn, rnn(torch.randn(L, N, I))[0])
    return YES


def packed(strategy: GradientStrategy) -> str:
    """Sequences of unequal length."""
    rnn = _net(strategy)
    parts = [torch.randn(length, I) for length in (4, 9, 1)]
    _learn(rnn, rnn(pack_sequence(parts, enforce_sorted=False))[0].data)
    return YES


def input_gradient(strategy: GradientStrategy) -> str:
    """A gradient for the input, so that layers in front of the network can learn."""
    rnn, input = _net(strategy), torch.randn(L, N, I, requires_grad=True)
    _learn(rnn, rnn(input)[0])
    assert input.grad is not None
    return YES


def autocast(strategy: GradientStrategy) -> str:
    """bfloat16 by torch.autocast, gradients in the parameters' own type."""
    rnn = _net(strategy)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = rnn(torch.randn(L, N, I))
    assert output.dtype == torch.bfloat16
    _learn(rnn, output)
    assert rnn.weight_hh_l0.grad is not None and rnn.weight_hh_l0.grad.dtype == torch.float32
    return YES


def across_chunks(strategy: GradientStrategy) -> str:
    """Influence in the carry, by which a chunk's loss reaches the chunks before it."""
    rnn = _net(strategy)
    output, carry = rnn.unroll(torch.randn(L, N, I))
    _learn(rnn, output)
    return NO if carry.influence is None else YES


def fleet(strategy: GradientStrategy) -> str:
    """Jobs of a sweep in one process, and one backward pass for all of them."""
    if not strategy.fuses:
        return NO
    readout, adam = nn.Linear(H, 1), torch.optim.Adam
    module = SequenceModule(_net(strategy), readout, LOSSES["mse"], lambda *_: {}, adam)
    return f"{YES} {YES}" if fits(module, L) else YES


def second_derivative(strategy: GradientStrategy) -> str:
    """A gradient of the gradient, under create_graph."""
    rnn = _net(strategy)
    loss = rnn(torch.randn(L, N, I))[0].square().sum()
    (first,) = torch.autograd.grad(loss, rnn.weight_hh_l0, create_graph=True)
    assert torch.autograd.grad(first.square().sum(), rnn.weight_hh_l0)[0].any()
    return YES


def functional(strategy: GradientStrategy) -> str:
    """torch.func.grad of a functional call."""
    rnn, input = _net(strategy), torch.randn(L, N, I)

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        total: Tensor = torch.func.functional_call(rnn, parameters, (input,))[0].square().sum()
        return total

    found = torch.func.grad(loss)({name: p.detach() for name, p in rnn.named_parameters()})
    assert found["weight_hh_l0"].any()
    return YES


def exported(strategy: GradientStrategy) -> str:
    """torch.export, with a gradient."""
    rnn, input = _net(strategy), torch.randn(L, N, I)
    program = torch.export.export(rnn, (input,)).module()
    torch.testing.assert_close(program(input)[0], rnn(input)[0])
    return YES


def compiled(strategy: GradientStrategy) -> str:
    """torch.compile of the network as one graph."""
    torch.compiler.reset()
    rnn = _net(strategy)
    _learn(rnn, torch.compile(rnn, backend="eager", fullgraph=True)(torch.randn(L, N, I))[0])
    return YES


TRAINING: dict[str, Probe] = {
    "layers": layers,
    "dropout": dropout,
    "packed": packed,
    "input's gradient": input_gradient,
    "autocast": autocast,
    "across chunks": across_chunks,
    "fleet": fleet,
}
TOOLS: dict[str, Probe] = {
    "second derivative": second_derivative,
    "torch.func": functional,
    "torch.export": exported,
    "torch.compile": compiled,
}


def support(found: Sequence[Row]) -> str:
    """The table of what is supported, as Markdown in a block of its own."""
    heads = list(found[0].answers)
    lines = [["strategy", *heads], ["---", *[":-:"] * len(heads)]]
    lines += [[f"`{row.name}`", *(row.answers[head].word for head in heads)] for row in found]
    return f'<div class="marks" markdown="1">\n\n{_table(lines)}\n\n</div>'


def costs(found: Sequence[Row]) -> str:
    """The table of what strategies claim of their cost, as Markdown."""
    lines = [["strategy", "claim", "across chunks", "time of a backward pass", "stored"]]
    lines.append(["---"] * len(lines[0]))
    for row in found:
        own = row.strategy
        across = (
            "exact" if own.exact_across_chunks else "carried" if own.carries_influence else "cut"
        )
        lines.append([f"`{row.name}`", own.claim, across, own.cost, own.space])
    return _table(lines)


def refusals(found: Sequence[Row]) -> str:
    """What is said where something is refused, one example for each column, as Markdown."""
    said: dict[str, str] = {}
    for row in found:
        for head, answer in row.answers.items():
            if "; " in answer.refusal:  # torch's compiler names no way out
                said.setdefault(head, answer.refusal)
    return "\n".join(f"* {head}: `{line}`" for head, line in said.items())


def _table(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
