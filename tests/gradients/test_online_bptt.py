"""OnlineBPTT is lag k of the whole sequence, however it is cut into chunks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bptt_lab.gradients import oracle
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.online_bptt import OnlineBPTT
from bptt_lab.gradients.rtrl import RTRL
from bptt_lab.gradients.truncated import Truncated

from .contract import assert_same
from .nets import Net, oracle_terms
from .test_rtrl import over_chunks

NETS = [
    Net(5, 12),
    Net(4, 12, leak=0.5, nonlinearity="sigmoid"),
    Net(6, 12, 1, nonlinearity="relu", leak=0.3, bias=False),
]


@pytest.mark.parametrize("lengths", [12, 1, 4, 5, [7, 1, 4]], ids=str)
@pytest.mark.parametrize("k", [1, 2, 5, 12, 30])
@pytest.mark.parametrize("net", NETS, ids=str)
def test_is_the_masked_oracle_over_any_chunks(net, k, lengths):
    strategy = OnlineBPTT(k=k)
    actual, carry = over_chunks(strategy, net, lengths)
    expected = oracle.masked_gradient(oracle_terms(net), strategy.mask(12))
    assert_same(actual, {name: expected[name] for name in actual}, f"k={k}, chunks of {lengths}")
    assert all(part.shape[:2] == (net.batch_size, min(k - 1, 12)) for part in carry.influence)


@given(st.integers(1, 8), st.lists(st.integers(1, 5), min_size=1, max_size=5))
@settings(max_examples=50)
def test_drawn_at_random(k, lengths):
    net = Net(3, sum(lengths), 2, leak=0.6)
    actual, _ = over_chunks(OnlineBPTT(k=k), net, lengths)
    expected, _ = over_chunks(Truncated(k=k, mode="lag"), net, net.num_steps)
    assert_same(actual, expected, "at random")


def test_with_all_steps_it_is_exact():
    exact = over_chunks(Full(), NETS[1], 12)[0]
    for strategy, lengths in ((OnlineBPTT(k=12), 1), (RTRL(), 1)):
        assert_same(over_chunks(strategy, NETS[1], lengths)[0], exact, repr(strategy))


def test_its_mask_is_that_of_lag_k():
    for k in (1, 3, 7, 20):
        expected = Truncated(k=k, mode="lag").mask(7)
        assert OnlineBPTT(k=k).mask(7).equal(expected)
