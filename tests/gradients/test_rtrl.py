"""RTRL in all its forms: full BPTT of the whole sequence, however it is cut into chunks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bptt_lab import VanillaRNN
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.rtrl import RTRL

from .contract import assert_same
from .nets import Net, collect

FORMS = [{}, {"store": True}, {"block": 1}, {"block": 3}, {"block": 5}, {"block": 50}]


def over_chunks(strategy, net, lengths, batch=slice(None)):
    """The parameters' gradient summed over chunks, and the last carry."""
    rnn, (input, hx) = net.rnn(strategy), net.data()
    input = input[:, batch].detach()
    carry = strategy.init_carry(rnn, input.shape[1])._replace(hx=hx[:, batch].detach())
    for chunk in input.split(lengths):
        output, carry = strategy.unroll(rnn, chunk, carry)
        net.loss_of(output).backward()
    return collect(rnn), carry


@pytest.mark.parametrize("lengths", [12, 1, 3, 4, 5, [7, 1, 4]], ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize(
    "net",
    [
        Net(5, 12),
        Net(4, 12, leak=0.5, nonlinearity="sigmoid"),
        Net(6, 12, 1, nonlinearity="relu", leak=0.3, bias=False),
        Net(1, 12),
    ],
    ids=str,
)
def test_is_full_bptt_of_the_whole_sequence(net, form, lengths):
    actual, _ = over_chunks(RTRL(**form), net, lengths)
    expected, _ = over_chunks(Full(), net, 12)
    assert_same(actual, expected, f"{form} in chunks of {lengths}")


@given(
    st.integers(1, 6),
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
    st.one_of(st.none(), st.integers(1, 7)),
    st.sampled_from(["tanh", "relu", "identity", "sigmoid"]),
    st.sampled_from([1.0, 0.4]),
    st.booleans(),
)
@settings(max_examples=100)
def test_drawn_at_random(hidden_size, lengths, block, nonlinearity, leak, bias):
    net = Net(hidden_size, sum(lengths), 2, 1, nonlinearity, leak, bias=bias)
    actual, _ = over_chunks(RTRL(block=block), net, lengths)
    assert_same(actual, over_chunks(Full(), net, net.num_steps)[0], "at random")


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_influence_is_autograds(form):
    """What is carried is d h_L / d parameters, entry by entry."""
    net = Net(3, 6, 2, leak=0.6)
    _, carry = over_chunks(RTRL(**form), net, [4, 2])
    rnn, (input, hx) = net.rnn(Full()), net.data()
    output, _ = rnn(input, hx)
    for n in range(2):
        for i in range(3):
            g = torch.autograd.grad(output[-1, n, i], list(rnn.parameters()), retain_graph=True)
            row = torch.cat([g[0], g[1], g[2][:, None]], 1)
            actual = carry.influence[n, i].view(3, -1)
            assert_same({"M": actual}, {"M": row}, "influence")


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_without_carried_influence_it_is_full_in_every_chunk(form):
    net = Net(5, 12, leak=0.5)
    actual, carry = over_chunks(RTRL(carry_influence=False, **form), net, [5, 4, 3])
    assert carry.influence is None
    assert_same(actual, over_chunks(Full(), net, [5, 4, 3])[0], "cut")


@pytest.mark.parametrize("cache", [1, 3000, 1 << 30])
def test_groups_of_examples_change_nothing(monkeypatch, cache):
    for name in ("CACHE_BYTES", "FOLD_BYTES", "JACOBIAN_BYTES"):
        monkeypatch.setattr(f"bptt_lab.gradients.influence.{name}", cache)
    net = Net(5, 12, 7, leak=0.5)
    for form in FORMS:
        actual, _ = over_chunks(RTRL(**form), net, 4)
        assert_same(actual, over_chunks(Full(), net, 12)[0], f"{form}, {cache} bytes")


@pytest.mark.parametrize("form", [{}, {"store": True}], ids=str)
def test_a_step_multiplies_once(monkeypatch, form):
    """What advance has found is not computed again, and nothing is multiplied with no influence."""
    products, bmm = [], torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda *of, **to: products.append(of) or bmm(*of, **to))
    for lengths in (1, 3):
        over_chunks(RTRL(**form), Net(5, 12), lengths)
        assert len(products) == 12 - 1
        products.clear()


@pytest.mark.parametrize("block", [None, 4])
def test_nothing_is_computed_where_nothing_is_learnt(monkeypatch, block):
    def fail(*_):
        raise AssertionError("influence without need")

    monkeypatch.setattr("bptt_lab.gradients.rtrl.recur", fail)
    monkeypatch.setattr("bptt_lab.gradients.rtrl.fold", fail)
    rnn, strategy = VanillaRNN(2, 3), RTRL(block=block)
    with torch.no_grad():
        _, carry = strategy.unroll(rnn, torch.ones(4, 1, 2), strategy.init_carry(rnn, 1))
    assert carry.influence is None
    rnn.requires_grad_(False)
    strategy.unroll(rnn, torch.ones(4, 1, 2), strategy.init_carry(rnn, 1))


def test_refuses_an_influence_above_the_limit_before_it_is_made():
    def rnn_of(strategy, hidden_size):
        return VanillaRNN(2, hidden_size, gradient=strategy)

    for refused in (
        lambda: rnn_of(RTRL(), 512)(torch.zeros(1, 32, 2)),
        lambda: rnn_of(RTRL(store=True), 512)(torch.zeros(900, 1, 2)),
    ):
        with pytest.raises(ConfigError, match=r"hidden_size=512: influence needs .* GiB") as error:
            refused()
        assert "memory_limit_gib=4.0" in str(error.value) and "\n" not in str(error.value)
    needed = 3 * 16**2 * 19 * 4 / 2**30
    rnn_of(RTRL(memory_limit_gib=needed * 1.001), 16)(torch.zeros(1, 3, 2))
    with pytest.raises(ConfigError):
        rnn_of(RTRL(memory_limit_gib=needed * 0.999), 16)(torch.zeros(1, 3, 2))


def test_refuses_what_it_cannot_do():
    with pytest.raises(ConfigError, match=r"num_layers=2: must be 1.*gradient=full"):
        VanillaRNN(2, 3, 2, gradient=RTRL())(torch.zeros(4, 1, 2))
    rnn = VanillaRNN(2, 3, gradient=RTRL())
    with pytest.raises(ConfigError, match=r"input.requires_grad=True: must be False"):
        rnn(torch.zeros(4, 1, 2, requires_grad=True))
    with pytest.raises(ConfigError, match=r"hx.requires_grad=True: must be False"):
        rnn.unroll(torch.zeros(4, 1, 2), hx=torch.zeros(1, 1, 3, requires_grad=True))
    with pytest.raises(ConfigError, match="store=True: only means something with block=null"):
        RTRL(store=True, block=3)
    with pytest.raises(ConfigError, match="block=0: must be at least 1"):
        RTRL(block=0)
