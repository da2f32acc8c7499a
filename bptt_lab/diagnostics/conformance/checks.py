"""What every gradient strategy promises, as checks that take a strategy.

A check raises AssertionError naming what broke, so that deliberately broken strategies can be run
through the same checks as the real ones. What a strategy refuses it need not do: a stack of layers
and a gradient of input or hx may be refused, aloud and with a way out. A strategy that draws random
numbers is asked for the same draw wherever two of its gradients are compared; what its draws share
with full BPTT is their mean.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import torch
from torch.nn.utils.rnn import pack_sequence

from bptt_lab.diagnostics.conformance.compare import (
    assert_identical,
    assert_same,
    by_hand,
    draws,
    gradients,
    has_mask,
    is_linear,
    mask_of,
    random_tensor,
    refusal,
    suited,
    without_leaves,
)
from bptt_lab.diagnostics.conformance.nets import (
    INPUT_SIZE,
    LOSSES,
    Net,
    collect,
    full_mask,
    masked_by_hand,
    oracle_terms,
    unroll_by_hand,
)
from bptt_lab.gradients import oracle
from bptt_lab.gradients.base import GradientStrategy, dropout_masks


def check_forward(strategy: GradientStrategy, net: Net) -> None:
    """The strategy changes no state."""
    net = suited(strategy, net)
    rnn, (input, hx) = net.rnn(strategy), net.data()
    output, h_n = net.run(rnn, input, hx)
    if net.nonlinearity in ("tanh", "relu") and net.leak == 1:
        reference = torch.nn.RNN(
            INPUT_SIZE, net.hidden_size, net.num_layers, net.nonlinearity, net.bias, dtype=hx.dtype
        )
        reference.load_state_dict(rnn.state_dict())
        expected_output, expected_h_n = reference(input, hx)
    else:
        layers = unroll_by_hand(rnn, input, hx)
        expected_output = torch.stack(layers[-1].h[1:])
        expected_h_n = torch.stack([layer.h[-1] for layer in layers])
    assert_same({"output": output}, {"output": expected_output}, "forward values", 1e-12)
    assert_same({"h_n": h_n}, {"h_n": expected_h_n}, "forward values", 1e-12)
    with torch.no_grad():
        ungraphed, _ = net.run(rnn, input, hx)
    assert torch.equal(ungraphed, output), "forward values: others without gradient"
    assert not ungraphed.requires_grad, "forward values: a graph under no_grad"


def check_gradient(strategy: GradientStrategy, net: Net) -> None:
    """Parameters, input and hx get the masked oracle's gradient."""
    net = suited(strategy, net)
    expected = oracle.masked_gradient(oracle_terms(net), mask_of(strategy, net.num_steps))
    expected = without_leaves(expected, net)
    assert_same(gradients(strategy, net), expected, f"masked oracle, {strategy}")


def check_credit(strategy: GradientStrategy, net: Net) -> None:
    """`credit` is dE/dh_t under the mask, in every layer, unless the rule forms none."""
    net = suited(strategy, net)
    q = random_tensor(net.num_steps, net.batch_size, net.hidden_size)
    _, expected = by_hand(strategy, net, q)
    input, hx = net.data()
    try:
        actual = strategy.credit(net.rnn(strategy), input.detach(), hx.detach(), q)
    except NotImplementedError:
        return
    assert_same({"credit": actual}, {"credit": expected}, f"credit, {strategy}")


def check_h_n(strategy: GradientStrategy) -> None:
    """A loss of every layer's last state counts, at the last step."""
    net = suited(strategy, Net(4, 7, num_layers=3))
    rnn, (input, hx) = net.rnn(strategy), net.data()
    q, q_h_n = random_tensor(7, 3, 4), random_tensor(*net.state_shape)
    output, h_n = net.run(rnn, input, hx)
    ((output * q).sum() + (h_n * q_h_n).sum()).backward()
    assert_same(
        collect(rnn, input=input, hx=hx), by_hand(strategy, net, q, q_h_n)[0], "h_n's gradient"
    )

    rnn, (input, hx) = net.rnn(strategy), net.data()
    (net.run(rnn, input, hx)[1] * q_h_n).sum().backward()
    expected, _ = by_hand(strategy, net, torch.zeros_like(q), q_h_n)
    assert_same(collect(rnn, input=input, hx=hx), expected, "h_n's gradient alone")


def check_mask(strategy: GradientStrategy) -> None:
    """No loss reaches a later step; an exact strategy's mask keeps all the rest."""
    for num_steps in (1, 2, 7, 30):
        mask = strategy.mask(num_steps) if has_mask(strategy) else full_mask(num_steps)
        assert mask.dtype == torch.bool and mask.shape == (num_steps, num_steps), "mask: form"
        assert not (mask & ~full_mask(num_steps)).any(), "mask: a loss reaches the future"
        if strategy.exact_within_chunk:
            assert torch.equal(mask, full_mask(num_steps)), "mask: exact, but not full"


def check_linear(strategy: GradientStrategy) -> None:
    """Gradients scale and add as losses do, unless the strategy says that they do not."""
    if not is_linear(strategy):
        return
    net = suited(strategy, Net(4, 7, num_layers=2))
    first, second = net.loss_of, lambda output: output.sin().sum()
    one, two = (gradients(strategy, net, loss=loss) for loss in (first, second))
    mixed = gradients(strategy, net, loss=lambda output: -2.5 * first(output) + 4 * second(output))
    expected = {name: -2.5 * one[name] + 4 * two[name] for name in one}
    assert_same(mixed, expected, "not linear in the loss", 1e-12)


def check_sum_over_batch_and_time(strategy: GradientStrategy) -> None:
    """`.grad` is a sum over sequences and steps; a mean's factor is kept and nothing else."""
    net = suited(strategy, Net(4, 7, num_layers=2))
    total = gradients(strategy, net)
    mean = gradients(strategy, net, loss=LOSSES["mean"])
    count = net.num_steps * net.batch_size * net.hidden_size
    scaled = {name: g * count for name, g in mean.items()}
    if is_linear(strategy):
        assert_same(scaled, total, "mean and sum losses: the factor is lost", 1e-12)

    if not draws(strategy):  # or else the draws would differ
        rnn, (input, hx) = net.rnn(strategy), net.data()
        for n in range(net.batch_size):
            net.loss_of(net.run(rnn, input[:, n : n + 1], hx[:, n : n + 1])[0]).backward()
        assert_same(collect(rnn, input=input, hx=hx), total, "not a sum over the batch", 1e-12)
    if not is_linear(strategy):
        return

    rnn, (input, hx) = net.rnn(strategy), net.data()
    for t in range(net.num_steps):
        net.loss_of(net.run(rnn, input, hx)[0][t]).backward()
    assert_same(collect(rnn, input=input, hx=hx), total, "not a sum over time", 1e-12)


def check_accumulates(strategy: GradientStrategy) -> None:
    """Two backward passes add up, through one graph kept or through two."""
    net = suited(strategy, Net(4, 7, num_layers=2, leak=0.5))
    twice = {name: 2 * g for name, g in gradients(strategy, net).items()}
    rnn, (input, hx) = net.rnn(strategy), net.data()
    for _ in range(2):
        net.loss_of(net.run(rnn, input, hx)[0]).backward()
    assert_identical(collect(rnn, input=input, hx=hx), twice, "does not accumulate")

    rnn, (input, hx) = net.rnn(strategy), net.data()
    loss = net.loss_of(net.run(rnn, input, hx)[0])
    loss.backward(retain_graph=True)
    loss.backward()
    assert_identical(collect(rnn, input=input, hx=hx), twice, "a kept graph gives another gradient")


def check_repeatable(strategy: GradientStrategy) -> None:
    """Two calls, the same answer to the last bit; copies of the strategy too."""
    net = suited(strategy, Net(4, 20, num_layers=2, leak=0.5))
    first = gradients(strategy, net)
    assert_identical(gradients(strategy, net), first, "two calls, two answers")
    assert_identical(gradients(copy.deepcopy(strategy), net), first, "a deep copy differs")
    pickled = pickle.loads(pickle.dumps(strategy))
    assert_identical(gradients(pickled, net), first, "a pickled copy differs")


def check_autocast(strategy: GradientStrategy) -> None:
    """Under bfloat16 autocast the gradients keep the parameters' dtype and direction."""
    for net in (Net(16, 9, num_layers=2), Net(16, 9, nonlinearity="relu", leak=0.5)):
        net = suited(strategy, net)
        expected = gradients(strategy, net, torch.float32)
        rnn, (input, hx) = net.rnn(strategy, torch.float32), net.data(torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            output, _ = net.run(rnn, input, hx)
        assert output.dtype == torch.bfloat16, f"autocast: output in {output.dtype}"
        net.loss_of(output.float()).backward()
        actual = collect(rnn, input=input, hx=hx)
        assert actual.keys() == expected.keys(), "autocast: gradients missing"
        for name, g in actual.items():
            assert g.dtype == torch.float32, f"autocast: {name}'s gradient in {g.dtype}"
            assert g.isfinite().all(), f"autocast: {name}'s gradient is not finite"
            cosine = torch.cosine_similarity(g.flatten(), expected[name].flatten(), dim=0)
            assert cosine > 0.9 or not expected[name].any(), f"autocast: {name} at {cosine:.2f}"


def check_frozen(strategy: GradientStrategy) -> None:
    """Parameters that ask for no gradient get none and change nobody else's."""
    net = suited(strategy, Net(4, 7, num_layers=2))
    everything = gradients(strategy, net)
    parameters = [name for name in everything if name not in ("input", "hx")]
    stacked = ["weight_ih_l1", "bias_hh_l0"] if net.num_layers > 1 else ["weight_ih_l0"]
    choices = [["weight_hh_l0"], stacked, parameters, ["input", "hx"]]
    for frozen in choices if net.leaves else choices[:2]:
        rnn, (input, hx) = net.rnn(strategy), net.data()
        named = {**dict(rnn.named_parameters()), "input": input, "hx": hx}
        for name in frozen:
            named[name].requires_grad_(False)
        net.loss_of(net.run(rnn, input, hx)[0]).backward()
        expected = {name: g for name, g in everything.items() if name not in frozen}
        assert_same(collect(rnn, input=input, hx=hx), expected, f"with {frozen} frozen", 1e-12)


def check_packed(strategy: GradientStrategy) -> None:
    """A ragged batch gives the sum over its sequences run one by one, h_n's loss included."""
    if draws(strategy):
        return
    for lengths in ([4, 11, 1, 7, 11], [9, 6, 8]):
        check_packed_lengths(strategy, lengths)


def check_packed_lengths(strategy: GradientStrategy, lengths: list[int]) -> None:
    """As `check_packed`, for sequences of these lengths."""
    net = suited(strategy, Net(4, max(lengths), len(lengths), num_layers=2, leak=0.5))
    data, hx = net.data()
    q_h_n = random_tensor(*net.state_shape)
    parts = [data[:length, n].detach() for n, length in enumerate(lengths)]

    packed_rnn, packed_hx = net.rnn(strategy), hx.detach().clone().requires_grad_(net.leaves)
    leaves = [part.clone().requires_grad_(net.leaves) for part in parts]
    begin = None if strategy.carries_influence else packed_hx
    packed_rnn.estimate = dict(net.estimate)
    output, h_n = packed_rnn(pack_sequence(leaves, enforce_sorted=False), begin)
    (net.loss_of(output.data) + (h_n * q_h_n).sum()).backward()
    actual = collect(packed_rnn, hx=packed_hx)
    if net.leaves:
        actual["input"] = torch.cat([leaf.grad for leaf in leaves if leaf.grad is not None])

    rnn, hx = net.rnn(strategy), torch.zeros_like(hx) if begin is None else hx
    singles = [part.clone().requires_grad_(net.leaves) for part in parts]
    for n, single in enumerate(singles):
        output, h_n = net.run(rnn, single[:, None], hx[:, n : n + 1])
        (net.loss_of(output) + (h_n * q_h_n[:, n : n + 1]).sum()).backward()
    expected = collect(rnn, hx=hx)
    if net.leaves:
        expected["input"] = torch.cat([leaf.grad for leaf in singles if leaf.grad is not None])
    assert_same(actual, expected, f"packed sequences, {strategy}")


def check_dropout(strategy: GradientStrategy) -> None:
    """With the same states dropped between layers, the masked gradient by hand."""
    net = suited(strategy, Net(6, 9, num_layers=3, leak=0.5))
    if net.num_layers == 1:
        return
    rnn, (input, hx) = net.rnn(strategy, dropout=0.4), net.data()
    q = random_tensor(9, 3, 6)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        dropped = dropout_masks(rnn, input)
        torch.manual_seed(5)
        output, _ = net.run(rnn, input, hx)
    (output * q).sum().backward()
    mask = mask_of(strategy, net.num_steps)
    clone = net.rnn(dropout=0.4)
    expected, _ = masked_by_hand(clone, *net.data(), mask, q, dropout=dropped)
    expected = without_leaves(expected, net)
    assert_same(collect(rnn, input=input, hx=hx), expected, f"dropout, {strategy}")


def check_claims_are_stated(strategy: GradientStrategy) -> None:
    """Claims, cost and space stand in the class's own body."""
    body = vars(type(strategy))
    for claim in ("exact_within_chunk", "exact_across_chunks", "unbiased"):
        assert isinstance(body.get(claim), bool | property), f"{claim} is not stated"
    for text in ("cost", "space"):
        assert isinstance(body.get(text), str) and "O(" in body[text], f"{text} is not stated"


def check_refuses(strategy: GradientStrategy) -> None:
    """What it cannot do it refuses on one line, naming strategies that can."""
    plain = Net(2, 2, 1, leaves=False)
    assert refusal(strategy, plain) is None, "refuses the plainest net"
    for net in (plain._replace(num_layers=2), plain._replace(leaves=True)):
        message = refusal(strategy, net)
        if message is not None:
            assert "\n" not in message, f"refusal: more than a line: {message}"
            assert "full" in message, f"refusal: names no strategy that can: {message}"


ON_NETS: list[Callable[[GradientStrategy, Net], None]] = [
    check_forward,
    check_gradient,
    check_credit,
]
BASIC: list[Callable[[GradientStrategy], None]] = [
    check_h_n,
    check_mask,
    check_linear,
    check_sum_over_batch_and_time,
    check_accumulates,
    check_repeatable,
    check_autocast,
    check_frozen,
    check_packed,
    check_dropout,
    check_claims_are_stated,
    check_refuses,
]
