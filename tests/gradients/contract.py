"""What every gradient strategy promises, as checks that take a strategy.

A check raises AssertionError naming what broke, so that deliberately broken strategies can be run
through the same checks as the real ones.
"""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from bptt_lab.gradients import oracle
from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.base import GradientStrategy, dropout_masks

from .nets import (
    INPUT_SIZE,
    LOSSES,
    Gradients,
    Net,
    collect,
    full_mask,
    gradients,
    masked_by_hand,
    oracle_terms,
    unroll_by_hand,
)

VISIBLE = 1e-2  # relative difference that no rounding explains


def assert_same(
    actual: Gradients, expected: Gradients, what: str, tolerance: float = 1e-10
) -> None:
    """Each tensor equal to `tolerance`, relative to its largest entry."""
    assert actual.keys() == expected.keys(), f"{what}: {sorted(actual)}, not {sorted(expected)}"
    largest = max(largest_entry(g) for g in expected.values())
    for name, wanted in expected.items():
        assert actual[name].shape == wanted.shape, f"{what}: {name} is {tuple(actual[name].shape)}"
        allowed = tolerance * largest_entry(wanted) + 1e-14 * largest
        error = largest_entry(actual[name] - wanted)
        assert error <= allowed, f"{what}: {name} is off by {error:.1e}, allowed {allowed:.1e}"


def largest_entry(tensor: Tensor) -> float:
    return float(tensor.detach().abs().max())


def assert_identical(actual: Gradients, expected: Gradients, what: str) -> None:
    assert actual.keys() == expected.keys(), f"{what}: {sorted(actual)}, not {sorted(expected)}"
    for name, wanted in expected.items():
        assert torch.equal(actual[name], wanted), f"{what}: {name} differs"


def mask_of(strategy: GradientStrategy, num_steps: int) -> Tensor:
    """The mask whose gradient the strategy promises."""
    if strategy.exact_within_chunk:
        return full_mask(num_steps)
    try:
        return strategy.mask(num_steps)
    except NotImplementedError:
        pytest.skip(f"{strategy} has no fixed mask: a test of its own takes the expectation")


def by_hand(
    strategy: GradientStrategy, net: Net, q: Tensor, q_h_n: Tensor | None = None
) -> tuple[Gradients, Tensor]:
    input, hx = net.data()
    mask = mask_of(strategy, net.num_steps)
    return masked_by_hand(net.rnn(), input, hx, mask, q, q_h_n)


def random_tensor(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def difference(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


def check_forward(strategy: GradientStrategy, net: Net) -> None:
    """The strategy changes no state."""
    rnn, (input, hx) = net.rnn(strategy), net.data()
    output, h_n = rnn(input, hx)
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
        ungraphed, _ = rnn(input, hx)
    assert torch.equal(ungraphed, output), "forward values: others without gradient"
    assert not ungraphed.requires_grad, "forward values: a graph under no_grad"


def check_gradient(strategy: GradientStrategy, net: Net) -> None:
    """Parameters, input and hx get the masked oracle's gradient."""
    expected = oracle.masked_gradient(oracle_terms(net), mask_of(strategy, net.num_steps))
    assert_same(gradients(strategy, net), expected, f"masked oracle, {strategy}")


def check_credit(strategy: GradientStrategy, net: Net) -> None:
    """`credit` is dE/dh_t under the mask, in every layer."""
    q = random_tensor(net.num_steps, net.batch_size, net.hidden_size)
    _, expected = by_hand(strategy, net, q)
    input, hx = net.data()
    actual = strategy.credit(net.rnn(strategy), input.detach(), hx.detach(), q)
    assert_same({"credit": actual}, {"credit": expected}, f"credit, {strategy}")


def check_h_n(strategy: GradientStrategy) -> None:
    """A loss of every layer's last state counts, at the last step."""
    net = Net(4, 7, num_layers=3)
    rnn, (input, hx) = net.rnn(strategy), net.data()
    q, q_h_n = random_tensor(7, 3, 4), random_tensor(*net.state_shape)
    output, h_n = rnn(input, hx)
    ((output * q).sum() + (h_n * q_h_n).sum()).backward()
    assert_same(
        collect(rnn, input=input, hx=hx), by_hand(strategy, net, q, q_h_n)[0], "h_n's gradient"
    )

    rnn, (input, hx) = net.rnn(strategy), net.data()
    (rnn(input, hx)[1] * q_h_n).sum().backward()
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


def has_mask(strategy: GradientStrategy) -> bool:
    return type(strategy).mask is not GradientStrategy.mask


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
    actual = remembering_gradients(strategy, [6, 6, 6, 6, 5, 1])
    expected = remembering_gradients(Autograd(), [30])
    if strategy.exact_across_chunks:
        assert_same(actual, expected, "claims to be exact across chunks")
    else:
        off = difference(actual["weight_hh_l0"], expected["weight_hh_l0"])
        assert off > VISIBLE, f"claims to be inexact across chunks, but is off by {off:.1e}"


def remembering_gradients(strategy: GradientStrategy, chunk_lengths: list[int]) -> Gradients:
    """Parameters' gradient of a net that forgets nothing, summed over chunks."""
    net = Net(5, sum(chunk_lengths), nonlinearity="identity")
    rnn, (input, _) = net.rnn(strategy), net.data()
    torch.nn.init.orthogonal_(rnn.weight_hh_l0, generator=torch.Generator().manual_seed(3))
    carry = strategy.init_carry(rnn, net.batch_size)
    for chunk in input.detach().split(chunk_lengths):
        output, carry = strategy.unroll(rnn, chunk, carry)
        net.loss_of(output).backward()
    return collect(rnn)


def check_carry(strategy: GradientStrategy) -> None:
    """The carry continues the states exactly and is never attached to a graph."""
    net = Net(4, 9, num_layers=2, leak=0.5)
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


def tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def check_linear(strategy: GradientStrategy) -> None:
    """Gradients scale and add as losses do."""
    net = Net(4, 7, num_layers=2)
    first, second = net.loss_of, lambda output: output.sin().sum()
    one, two = (gradients(strategy, net, loss=loss) for loss in (first, second))
    mixed = gradients(strategy, net, loss=lambda output: -2.5 * first(output) + 4 * second(output))
    expected = {name: -2.5 * one[name] + 4 * two[name] for name in one}
    assert_same(mixed, expected, "not linear in the loss", 1e-12)


def check_sum_over_batch_and_time(strategy: GradientStrategy) -> None:
    """`.grad` is a sum over sequences and steps; a mean's factor is kept and nothing else."""
    net = Net(4, 7, num_layers=2)
    total = gradients(strategy, net)
    mean = gradients(strategy, net, loss=LOSSES["mean"])
    count = net.num_steps * net.batch_size * net.hidden_size
    scaled = {name: g * count for name, g in mean.items()}
    assert_same(scaled, total, "mean and sum losses: the factor is lost", 1e-12)

    rnn, (input, hx) = net.rnn(strategy), net.data()
    for n in range(net.batch_size):
        net.loss_of(rnn(input[:, n : n + 1], hx[:, n : n + 1])[0]).backward()
    assert_same(collect(rnn, input=input, hx=hx), total, "not a sum over the batch", 1e-12)

    rnn, (input, hx) = net.rnn(strategy), net.data()
    for t in range(net.num_steps):
        net.loss_of(rnn(input, hx)[0][t]).backward()
    assert_same(collect(rnn, input=input, hx=hx), total, "not a sum over time", 1e-12)


def check_accumulates(strategy: GradientStrategy) -> None:
    """Two backward passes add up, through one graph kept or through two."""
    net = Net(4, 7, num_layers=2, leak=0.5)
    twice = {name: 2 * g for name, g in gradients(strategy, net).items()}
    rnn, (input, hx) = net.rnn(strategy), net.data()
    for _ in range(2):
        net.loss_of(rnn(input, hx)[0]).backward()
    assert_identical(collect(rnn, input=input, hx=hx), twice, "does not accumulate")

    rnn, (input, hx) = net.rnn(strategy), net.data()
    loss = net.loss_of(rnn(input, hx)[0])
    loss.backward(retain_graph=True)
    loss.backward()
    assert_identical(collect(rnn, input=input, hx=hx), twice, "a kept graph gives another gradient")


def check_repeatable(strategy: GradientStrategy) -> None:
    """Two calls, the same answer to the last bit; copies of the strategy too."""
    net = Net(4, 20, num_layers=2, leak=0.5)
    first = gradients(strategy, net)
    assert_identical(gradients(strategy, net), first, "two calls, two answers")
    assert_identical(gradients(copy.deepcopy(strategy), net), first, "a deep copy differs")
    pickled = pickle.loads(pickle.dumps(strategy))
    assert_identical(gradients(pickled, net), first, "a pickled copy differs")


def check_autocast(strategy: GradientStrategy) -> None:
    """Under bfloat16 autocast the gradients keep the parameters' dtype and direction."""
    for net in (Net(16, 9, num_layers=2), Net(16, 9, nonlinearity="relu", leak=0.5)):
        expected = gradients(strategy, net, torch.float32)
        rnn, (input, hx) = net.rnn(strategy, torch.float32), net.data(torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            output, _ = rnn(input, hx)
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
    net = Net(4, 7, num_layers=2)
    everything = gradients(strategy, net)
    parameters = [name for name in everything if name not in ("input", "hx")]
    for frozen in (["weight_hh_l0"], ["weight_ih_l1", "bias_hh_l0"], parameters, ["input", "hx"]):
        rnn, (input, hx) = net.rnn(strategy), net.data()
        named = {**dict(rnn.named_parameters()), "input": input, "hx": hx}
        for name in frozen:
            named[name].requires_grad_(False)
        net.loss_of(rnn(input, hx)[0]).backward()
        expected = {name: g for name, g in everything.items() if name not in frozen}
        assert_same(collect(rnn, input=input, hx=hx), expected, f"with {frozen} frozen", 1e-12)


def check_packed(strategy: GradientStrategy) -> None:
    """A ragged batch gives the sum over its sequences run one by one, h_n's loss included."""
    for lengths in ([4, 11, 1, 7, 11], [9, 6, 8]):
        check_packed_lengths(strategy, lengths)


def check_packed_lengths(strategy: GradientStrategy, lengths: list[int]) -> None:
    net = Net(4, max(lengths), len(lengths), num_layers=2, leak=0.5)
    data, hx = net.data()
    q_h_n = random_tensor(*net.state_shape)
    parts = [data[:length, n].detach() for n, length in enumerate(lengths)]

    packed_rnn, packed_hx = net.rnn(strategy), hx.detach().clone().requires_grad_()
    leaves = [part.clone().requires_grad_() for part in parts]
    output, h_n = packed_rnn(pack_sequence(leaves, enforce_sorted=False), packed_hx)
    (net.loss_of(output.data) + (h_n * q_h_n).sum()).backward()
    actual = collect(packed_rnn, hx=packed_hx)
    actual["input"] = torch.cat([leaf.grad for leaf in leaves])

    rnn = net.rnn(strategy)
    singles = [part.clone().requires_grad_() for part in parts]
    for n, single in enumerate(singles):
        output, h_n = rnn(single[:, None], hx[:, n : n + 1])
        (net.loss_of(output) + (h_n * q_h_n[:, n : n + 1]).sum()).backward()
    expected = collect(rnn, hx=hx)
    expected["input"] = torch.cat([single.grad for single in singles])
    assert_same(actual, expected, f"packed sequences, {strategy}")


def check_dropout(strategy: GradientStrategy) -> None:
    """With the same states dropped between layers, the masked gradient by hand."""
    net = Net(6, 9, num_layers=3, leak=0.5)
    rnn, (input, hx) = net.rnn(strategy, dropout=0.4), net.data()
    q = random_tensor(9, 3, 6)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        dropped = dropout_masks(rnn, input)
        torch.manual_seed(5)
        output, _ = rnn(input, hx)
    (output * q).sum().backward()
    mask = mask_of(strategy, net.num_steps)
    clone = net.rnn(dropout=0.4)
    expected, _ = masked_by_hand(clone, *net.data(), mask, q, dropout=dropped)
    assert_same(collect(rnn, input=input, hx=hx), expected, f"dropout, {strategy}")


def check_claims_are_stated(strategy: GradientStrategy) -> None:
    """Claims, cost and memory stand in the class's own body."""
    body = vars(type(strategy))
    for claim in ("exact_within_chunk", "exact_across_chunks", "unbiased"):
        assert isinstance(body.get(claim), bool), f"{claim} is not stated"
    for text in ("cost", "memory"):
        assert isinstance(body.get(text), str) and "O(" in body[text], f"{text} is not stated"


ON_NETS: list[Callable[[GradientStrategy, Net], None]] = [
    check_forward,
    check_gradient,
    check_credit,
]
CHECKS: list[Callable[[GradientStrategy], None]] = [
    check_h_n,
    check_mask,
    check_exact_within_chunk,
    check_exact_across_chunks,
    check_carry,
    check_linear,
    check_sum_over_batch_and_time,
    check_accumulates,
    check_repeatable,
    check_autocast,
    check_frozen,
    check_packed,
    check_dropout,
    check_claims_are_stated,
]
