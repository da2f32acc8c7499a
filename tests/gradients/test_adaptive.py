"""Adaptive truncation: the lag it chooses, when it chooses, and the theorem behind it."""

import pytest
import torch

from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients import oracle
from bptt_lab.gradients.adaptive import Adaptive, lag_parts
from bptt_lab.gradients.base import Carry
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.stack import WEIGHT_GRADIENTS
from bptt_lab.gradients.truncated import Truncated

from .contract import assert_identical, assert_same
from .nets import Net, collect, gradients, oracle_terms

NETS = [
    Net(4, 9),
    Net(3, 8, num_layers=2, leak=0.4),
    Net(4, 7, nonlinearity="sigmoid", loss="last", bias=False),
    Net(2, 12, num_layers=3, nonlinearity="identity", loss="mean"),
]


class Shows(Full):
    """Full BPTT, and the stack that a backward pass hands to a rule."""

    def assign(self, stack):
        self.stack = stack
        return super().assign(stack)


def vector(found):
    """All parameters' gradients as one vector."""
    return torch.cat([g.flatten() for name, g in found.items() if name not in ("input", "hx")])


def learn(strategy, net, carry=None, draw=None, loss=None):
    """The gradient of one chunk from the net's hx, and the carry after its backward pass."""
    rnn, (input, hx) = net.rnn(strategy), net.data()
    carry = strategy.init_carry(rnn, net.batch_size, carry)._replace(hx=hx)
    carry = carry if draw is None else carry._replace(draw=draw)
    output, carry = strategy.unroll(rnn, input, carry)
    (loss or net.loss_of)(output).backward()
    return collect(rnn, input=input, hx=hx), carry


def relative_error(net, k):
    exact = vector(gradients(Full(), net))
    return float((vector(gradients(Truncated(k=k, mode="lag"), net)) - exact).norm() / exact.norm())


@pytest.mark.parametrize("net", NETS, ids=str)
def test_parts_by_lag_are_the_oracles(net):
    shows = Shows()
    gradients(shows, net)
    expected = oracle.lag_terms(oracle_terms(net))
    parts = list(lag_parts(shows.stack, 100))
    assert len(parts) == net.num_steps
    for lag, part in enumerate(parts):
        for names, swept in zip(net.rnn()._all_weights, part, strict=True):
            for name, field in zip(names, WEIGHT_GRADIENTS, strict=False):
                off = (getattr(swept, field) - expected[name][lag]).abs().max()
                assert off <= 1e-12 * expected[name].abs().max()


@pytest.mark.parametrize("target", [0.5, 0.2, 0.05, 0.01])
@pytest.mark.parametrize("net", NETS, ids=str)
def test_chooses_the_least_lag_below_the_target(net, target):
    actual, carry = learn(Adaptive(target=target), net)
    k = carry.estimate["k"]
    errors = [relative_error(net, k) for k in range(1, net.num_steps + 1)]
    assert k == 1 + next(i for i, error in enumerate(errors) if error <= target)
    assert carry.estimate["relative_bias"] == pytest.approx(errors[k - 1], abs=1e-12)
    expected = gradients(Truncated(k=k, mode="lag"), net)
    assert_same(actual, expected, "the gradient is that of the lag", 1e-12)


def test_says_so_where_the_longest_lag_is_not_enough():
    net = Net(2, 12, nonlinearity="identity")
    estimate = learn(Adaptive(target=0.01, k_max=3), net)[1].estimate
    assert estimate["k"] == 3
    assert estimate["relative_bias"] == pytest.approx(relative_error(net, 3))
    assert estimate["relative_bias"] > 0.01


@pytest.mark.parametrize("k", [1, 2, 4, 7])
@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_theorem_of_the_bias(k, beta):
    """Linear, W_hh = beta orthogonal: phi_d = beta^d phi_0, and |g_k - g| <= M sum_{d>=k} phi_d.

    phi_d is the sum over losses of |dE_t/dh_{t-d}|, and M the longest (x_t, h_{t-1}, 1, 1), by
    which the immediate Jacobian multiplies a credit.
    """
    net = Net(4, 12, nonlinearity="identity")
    input, hx = net.data()

    def run(strategy):
        rnn = net.rnn(strategy)
        torch.nn.init.orthogonal_(rnn.weight_hh_l0, generator=torch.Generator().manual_seed(3))
        rnn.weight_hh_l0.data.mul_(beta)
        output, _ = rnn(input, hx)
        output.retain_grad()
        net.loss_of(output).backward()
        return vector(collect(rnn)), output, rnn

    exact, output, rnn = run(Full())
    T = net.num_steps
    q = back = output.grad
    phi = torch.zeros(T, dtype=torch.float64)
    for lag in range(T):
        phi[lag] = back[lag:].norm(dim=-1).sum()
        alive = q[lag:].norm(dim=-1).sum() * beta**lag
        assert phi[lag] == pytest.approx(float(alive), rel=1e-10)  # phi_d = beta^d phi_0
        back = back @ rnn.weight_hh_l0.detach()
    h_tm1 = torch.cat([hx, output])[:-1]
    M = torch.cat([input, h_tm1, torch.ones_like(h_tm1[..., :2])], -1).detach().norm(dim=-1).max()
    bias = (run(Truncated(k=k, mode="lag"))[0] - exact).norm()
    assert 0 < bias <= M * phi[k:].sum()


SHORT, LONG = Net(4, 12, leak=0.9), Net(4, 12, nonlinearity="identity")


def test_estimates_once_a_period():
    """Between estimates the lag stays, whatever the batch; then it follows it."""
    alone = {net: learn(Adaptive(target=0.1), net)[1].estimate["k"] for net in (SHORT, LONG)}
    assert alone[SHORT] != alone[LONG]
    strategy, seen, carry = Adaptive(target=0.1, every=4), [], None
    for net in (SHORT, LONG, LONG, LONG, LONG, SHORT, SHORT, SHORT, SHORT):
        _, carry = learn(strategy, net, carry)
        seen.append(carry.estimate["k"])
    assert seen == [alone[SHORT]] * 4 + [alone[LONG]] * 4 + [alone[SHORT]]


def test_all_processes_estimate_at_the_same_steps():
    """A training step is as many draws as there are processes."""
    for rank in range(3):
        strategy, steps, carry = Adaptive(every=30), [], None
        for step in range(25):
            before = None if carry is None else carry.estimate["_period"]
            _, carry = learn(strategy, Net(2, 3), carry, draw=3 * step + rank)
            if carry.estimate["_period"] != before:
                steps.append(step)
        assert steps == [0, 10, 20]


def test_a_carry_goes_on_by_itself():
    """With the strategy made anew: nothing is in it, and the carry is left as it was."""
    _, carry = learn(Adaptive(target=0.1, every=4), SHORT)
    kept = dict(carry.estimate)
    one, two = (learn(Adaptive(target=0.1, every=4), LONG, carry)[0] for _ in range(2))
    assert_identical(one, two, "the same carry")
    learn(Adaptive(target=0.1, every=1), LONG, carry)
    assert carry.estimate == kept and kept["k"] != Adaptive().k_max
    expected = gradients(Truncated(k=kept["k"], mode="lag"), LONG)
    assert_same(one, expected, "the carry's lag", 1e-12)
    shorter, _ = learn(Adaptive(k_max=2, every=4), LONG, carry)
    assert_same(shorter, gradients(Truncated(k=2, mode="lag"), LONG), "k_max", 1e-12)


def test_passes_over_a_batch_without_loss():
    strategy = Adaptive()
    _, carry = learn(strategy, SHORT, loss=lambda output: 0 * output.sum())
    assert carry.estimate["k"] == strategy.k_max
    assert learn(strategy, SHORT, carry)[1].estimate["k"] < strategy.k_max


def test_only_a_backward_pass_estimates():
    strategy, rnn, (input, hx) = Adaptive(), SHORT.rnn(Adaptive()), SHORT.data()
    with torch.no_grad():
        rnn(input, hx)
    strategy.credit(rnn, input.detach(), hx.detach(), torch.ones(12, 3, 4).double())
    assert rnn.estimate["k"] == strategy.k_max


def test_credit_is_that_of_the_carrys_lag():
    (input, hx), q = (tensor.detach() for tensor in SHORT.data()), torch.ones(12, 3, 4).double()
    after = Carry(hx, estimate={"k": 2})
    found = Adaptive().credit(SHORT.rnn(), input, hx, q, after=after)
    expected = Truncated(k=2, mode="lag").credit(SHORT.rnn(), input, hx, q)
    assert torch.equal(found, expected)


def test_a_kept_graph_keeps_its_lag():
    """Whatever is estimated elsewhere in between."""
    net = Net(4, 12, num_layers=2)
    strategy = Adaptive(every=1)
    rnn, (input, hx) = net.rnn(strategy), net.data()
    loss = net.loss_of(rnn(input, hx)[0])
    loss.backward(retain_graph=True)
    once = {name: 2 * g for name, g in collect(rnn, input=input, hx=hx).items()}
    rnn.estimate["k"] = 1
    loss.backward()
    assert_identical(collect(rnn, input=input, hx=hx), once, "kept graph")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"target": 0}, "target=0: must be greater than 0"),
        ({"target": 1}, "target=1: must be less than 1"),
        ({"k_max": 0}, "k_max=0: must be at least 1"),
        ({"every": 0}, "every=0: must be at least 1"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        Adaptive(**settings)
