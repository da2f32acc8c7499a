"""Passes: states, gradients and credit against torch.nn.RNN and a slow oracle under the mask.

What backward passes add up to, repeated, with dropout, in bfloat16, on ragged batches.
"""

# mypy: disallow-untyped-calls=False

import copy
import pickle

import torch
from torch.nn.utils.rnn import pack_sequence

from bptt_lab.diagnostics.conformance import compare, nets
from bptt_lab.diagnostics.conformance.by_hand import masked_by_hand, unroll_by_hand
from bptt_lab.diagnostics.conformance.compare import Skipped, assert_same, require, suited
from bptt_lab.diagnostics.conformance.nets import Net, collect, gradients, run
from bptt_lab.gradients import oracle
from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.base import GradientStrategy, dropout_masks


def check_forward(strategy: GradientStrategy, net: Net) -> None:
    """States are torch.nn.RNN's, or those by hand; the same without a graph, and as a drop-in."""
    net = suited(strategy, net)
    rnn, (input, hx) = net.rnn(strategy), net.data()
    output, h_n, *_ = run(rnn, input, hx)
    if net.nonlinearity in ("tanh", "relu") and net.leak == 1:
        sizes = input.shape[2], net.hidden_size, net.num_layers
        reference = torch.nn.RNN(*sizes, net.nonlinearity, net.bias, dtype=hx.dtype)
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
    mask = compare.mask_of(strategy, net.num_steps)
    expected = oracle.masked_gradient(nets.oracle_terms(net), mask)
    if not net.leaves:
        del expected["input"], expected["hx"]
    assert_same(gradients(strategy, net), expected, f"not the masked oracle's gradient, {strategy}")


def check_credit(strategy: GradientStrategy, net: Net) -> None:
    """`credit` is dE/dh_t under the mask, in every layer, unless the rule forms none."""
    net = suited(strategy, net)
    q = compare.random_tensor(net.num_steps, net.batch_size, net.hidden_size)
    _, expected = masked_by_hand(net, compare.mask_of(strategy, net.num_steps), q)
    input, hx = net.data()
    try:
        actual = strategy.credit(net.rnn(strategy), input.detach(), hx.detach(), q)
    except NotImplementedError:
        raise Skipped(f"{strategy} forms no credit") from None
    assert_same({"credit": actual}, {"credit": expected}, f"credit under the mask, {strategy}")


def check_h_n(strategy: GradientStrategy) -> None:
    """A loss of every layer's last state counts, at the last step."""
    net = suited(strategy, Net(4, 7, num_layers=3))
    mask = compare.mask_of(strategy, net.num_steps)
    q, q_h_n = compare.random_tensor(7, 3, 4), compare.random_tensor(*net.state_shape)
    for alone in (False, True):
        rnn, (input, hx) = net.rnn(strategy), net.data()
        output, h_n, *_ = run(rnn, input, hx)
        loss = (h_n * q_h_n).sum()
        (loss if alone else loss + (output * q).sum()).backward()
        expected, _ = masked_by_hand(net, mask, 0 * q if alone else q, q_h_n)
        assert_same(collect(rnn, input=input, hx=hx), expected, "h_n's gradient")


def check_dropout(strategy: GradientStrategy) -> None:
    """With the same states dropped between layers, the masked gradient by hand."""
    net = suited(strategy, Net(6, 9, num_layers=3, leak=0.5))
    if net.num_layers == 1:
        raise Skipped(f"{strategy} takes one layer; nothing is dropped between layers")
    rnn, (input, hx) = net.rnn(strategy, dropout=0.4), net.data()
    q = compare.random_tensor(9, 3, 6)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        dropped = dropout_masks(rnn, input)
        torch.manual_seed(5)
        output = run(rnn, input, hx).output
    (output * q).sum().backward()
    expected, _ = masked_by_hand(net, compare.mask_of(strategy, net.num_steps), q, dropout=dropped)
    assert_same(collect(rnn, input=input, hx=hx), expected, f"dropout, {strategy}")


def check_sum_over_batch_and_time(strategy: GradientStrategy) -> None:
    """`.grad` is a sum over sequences and steps; a mean's factor is kept and nothing else.

    Sequences alone are not compared where they would draw other random numbers, nor losses of
    single steps where the strategy is not linear.
    """
    net = suited(strategy, Net(4, 7, num_layers=2))
    total = gradients(strategy, net)
    if strategy.linear:
        mean = gradients(strategy, net, loss=nets.LOSSES["mean"])
        count = net.num_steps * net.batch_size * net.hidden_size
        scaled = {name: g * count for name, g in mean.items()}
        assert_same(scaled, total, "mean and sum losses: the factor is lost", 1e-12)

    if not compare.draws(strategy):
        rnn, (input, hx) = net.rnn(strategy), net.data()
        for n in range(net.batch_size):
            net.loss_of(run(rnn, input[:, n : n + 1], hx[:, n : n + 1]).output).backward()
        assert_same(collect(rnn, input=input, hx=hx), total, "not a sum over the batch", 1e-12)
    if strategy.linear:
        rnn, (input, hx) = net.rnn(strategy), net.data()
        for t in range(net.num_steps):
            net.loss_of(run(rnn, input, hx).output[t]).backward()
        assert_same(collect(rnn, input=input, hx=hx), total, "not a sum over time", 1e-12)


def check_accumulates(strategy: GradientStrategy) -> None:
    """Two backward passes add up, through one graph kept or through two."""
    net = suited(strategy, Net(4, 7, num_layers=2, leak=0.5))
    twice = {name: 2 * g for name, g in gradients(strategy, net).items()}
    rnn, (input, hx) = net.rnn(strategy), net.data()
    for _ in range(2):
        net.loss_of(run(rnn, input, hx).output).backward()
    assert_same(collect(rnn, input=input, hx=hx), twice, "does not accumulate", 0)

    rnn, (input, hx) = net.rnn(strategy), net.data()
    loss = net.loss_of(run(rnn, input, hx).output)
    loss.backward(retain_graph=True)
    loss.backward()
    assert_same(collect(rnn, input=input, hx=hx), twice, "a kept graph gives another gradient", 0)


def check_second_derivative(strategy: GradientStrategy) -> None:
    """Under create_graph the gradient is the same and can be differentiated, or it is refused."""
    net = suited(strategy, Net(4, 7, num_layers=2, leak=0.5))

    def twice(strategy: GradientStrategy) -> tuple[nets.Gradients, nets.Gradients]:
        rnn, (input, hx) = net.rnn(strategy), net.data()
        leaves = {**dict(rnn.named_parameters()), "input": input, "hx": hx}
        leaves = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
        loss = net.loss_of(run(rnn, input, hx).output)
        first = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
        require(all(g.requires_grad for g in first), "a constant under create_graph")
        second = torch.autograd.grad(
            torch.stack([g.square().sum() for g in first]).sum(), list(leaves.values())
        )
        found = (dict(zip(leaves, g, strict=True)) for g in (first, second))
        return next(found), next(found)

    try:
        first, second = twice(strategy)
    except RuntimeError as refusal:
        message = str(refusal)
        require("Autograd()" in message and "\n" not in message, f"refuses with {message!r}")
        require(not strategy.twice_differentiable, "claims to be differentiable twice, but refuses")
        return
    require(strategy.twice_differentiable, "is differentiable twice, but does not claim it")
    assert_same(first, gradients(strategy, net), "another gradient under create_graph")
    assert_same(second, twice(Autograd())[1], "another second derivative than autograd's")


def check_repeatable(strategy: GradientStrategy) -> None:
    """Two calls give the same gradient to the last bit; copies of the strategy do too."""
    net = suited(strategy, Net(4, 20, num_layers=2, leak=0.5))
    first = gradients(strategy, net)
    assert_same(gradients(strategy, net), first, "two calls give two gradients", 0)
    assert_same(gradients(copy.deepcopy(strategy), net), first, "a deep copy differs", 0)
    pickled = pickle.loads(pickle.dumps(strategy))
    assert_same(gradients(pickled, net), first, "a pickled copy differs", 0)


def check_autocast(strategy: GradientStrategy) -> None:
    """Under bfloat16 autocast the gradients keep the parameters' dtype and direction."""
    for net in (Net(16, 9, num_layers=2), Net(16, 9, nonlinearity="relu", leak=0.5)):
        net = suited(strategy, net)
        expected = gradients(strategy, net, torch.float32)
        rnn, (input, hx) = net.rnn(strategy, torch.float32), net.data(torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            output = run(rnn, input, hx).output
        require(output.dtype == torch.bfloat16, f"autocast: output in {output.dtype}")
        net.loss_of(output.float()).backward()
        actual = collect(rnn, input=input, hx=hx)
        require(actual.keys() == expected.keys(), "autocast: gradients missing")
        for name, g in actual.items():
            require(g.dtype == torch.float32, f"autocast: {name}'s gradient in {g.dtype}")
            require(g.isfinite().all(), f"autocast: {name}'s gradient is not finite")
            cosine = torch.cosine_similarity(g.flatten(), expected[name].flatten(), dim=0)
            aligned = cosine > 0.9 or not expected[name].any()
            require(aligned, f"autocast: {name}'s gradient has cosine {cosine:.2f} with float32's")


def check_frozen(strategy: GradientStrategy) -> None:
    """Parameters that ask for no gradient get none and leave the others' unchanged."""
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
        net.loss_of(run(rnn, input, hx).output).backward()
        expected = {name: g for name, g in everything.items() if name not in frozen}
        assert_same(collect(rnn, input=input, hx=hx), expected, f"with {frozen} frozen", 1e-12)


def check_packed(strategy: GradientStrategy) -> None:
    """A ragged batch gives the sum over its sequences run one by one, h_n's loss included.

    They begin with states of their own where the strategy has a gradient for them, else with zeros.
    """
    if compare.draws(strategy):
        raise Skipped(f"{strategy} draws other random numbers for sequences run one by one")
    for lengths in ([4, 11, 1, 7, 11], [9, 6, 8]):
        net = suited(strategy, Net(4, max(lengths), len(lengths), num_layers=2, leak=0.5))
        q_h_n = compare.random_tensor(*net.state_shape)
        rnn, (input, hx) = net.rnn(strategy), net.data()
        parts = [input[:length, n] for n, length in enumerate(lengths)]
        packed = pack_sequence(parts, enforce_sorted=False)
        output, h_n = rnn(packed, hx if net.leaves else None)
        (net.loss_of(output.data) + (h_n * q_h_n).sum()).backward()
        actual = collect(rnn, input=input, hx=hx)

        rnn, (input, hx) = net.rnn(strategy), net.data()
        begin = hx if net.leaves else torch.zeros_like(hx)
        for n, length in enumerate(lengths):
            one = slice(n, n + 1)
            output, h_n, *_ = run(rnn, input[:length, one], begin[:, one])
            (net.loss_of(output) + (h_n * q_h_n[:, one]).sum()).backward()
        expected = collect(rnn, input=input, hx=hx)
        assert_same(actual, expected, f"packed sequences, {strategy}")
