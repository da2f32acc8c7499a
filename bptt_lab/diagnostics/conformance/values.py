"""States, gradients and credit, against torch.nn.RNN and a slow oracle under the mask."""

# mypy: disallow-untyped-calls=False

import torch

from bptt_lab.diagnostics.conformance.by_hand import masked_by_hand, unroll_by_hand
from bptt_lab.diagnostics.conformance.compare import (
    Skipped,
    assert_same,
    mask_of,
    random_tensor,
    require,
    suited,
)
from bptt_lab.diagnostics.conformance.nets import INPUT_SIZE, Net, gradients, oracle_terms, run
from bptt_lab.gradients import oracle
from bptt_lab.gradients.base import GradientStrategy


def check_forward(strategy: GradientStrategy, net: Net) -> None:
    """States are torch.nn.RNN's, or those by hand; the same without a graph, and as a drop-in."""
    net = suited(strategy, net)
    rnn, (input, hx) = net.rnn(strategy), net.data()
    output, h_n, *_ = run(rnn, input, hx)
    if net.nonlinearity in ("tanh", "relu") and net.leak == 1:
        reference = torch.nn.RNN(
            INPUT_SIZE, net.hidden_size, net.num_layers, net.nonlinearity, net.bias, dtype=hx.dtype
        )
        reference.load_state_dict(rnn.state_dict())
        expected = reference(input, hx)
    else:
        layers = unroll_by_hand(rnn, input, hx)
        ends = torch.stack([layer.h[-1] for layer in layers])
        expected = torch.stack(layers[-1].h[1:]), ends
    found = {"output": output, "h_n": h_n}
    assert_same(found, dict(zip(found, expected, strict=True)), "forward values", 1e-12)
    with torch.no_grad():
        ungraphed = run(rnn, input, hx).output
    require(torch.equal(ungraphed, output), "forward values: others under no_grad")
    require(not ungraphed.requires_grad, "forward values: a graph under no_grad")
    dropped_in, from_zeros = rnn(input)[0], run(rnn, input, torch.zeros_like(hx)).output
    require(torch.equal(dropped_in, from_zeros), "forward values: others as rnn(input)")


def check_gradient(strategy: GradientStrategy, net: Net) -> None:
    """Parameters, input and hx get the masked oracle's gradient."""
    net = suited(strategy, net)
    expected = oracle.masked_gradient(oracle_terms(net), mask_of(strategy, net.num_steps))
    if not net.leaves:
        del expected["input"], expected["hx"]
    assert_same(gradients(strategy, net), expected, f"not the masked oracle's gradient, {strategy}")


def check_credit(strategy: GradientStrategy, net: Net) -> None:
    """`credit` is dE/dh_t under the mask, in every layer, unless the rule forms none."""
    net = suited(strategy, net)
    q = random_tensor(net.num_steps, net.batch_size, net.hidden_size)
    _, expected = masked_by_hand(net, mask_of(strategy, net.num_steps), q)
    input, hx = net.data()
    try:
        actual = strategy.credit(net.rnn(strategy), input.detach(), hx.detach(), q)
    except NotImplementedError:
        raise Skipped(f"{strategy} forms no credit") from None
    assert_same({"credit": actual}, {"credit": expected}, f"credit under the mask, {strategy}")
