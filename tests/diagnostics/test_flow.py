"""Credit flow against autograd and in closed form."""

import math

import pytest
import torch
from gradients.nets import Net

from bptt_lab.diagnostics import credit_flow, lyapunov_spectrum
from bptt_lab.nn.rnn import VanillaRNN

from .flow_by_autograd import credit

NETS = [
    Net(4, 7),
    Net(4, 7, num_layers=2, nonlinearity="relu", leak=0.5),
    Net(4, 7, num_layers=3, loss="last"),
    Net(5, 6, nonlinearity="sigmoid", leak=0.3, loss="last", bias=False),
    Net(3, 1, num_layers=2),
]


def contracting(gains, hidden_size=8, dtype=torch.float32) -> VanillaRNN:
    """A linear stack whose W_hh are orthogonal but for a factor."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rnn = VanillaRNN(2, hidden_size, len(gains), "identity", bias=False, dtype=dtype)
        for (_, weight_hh), gain in zip(rnn.all_weights, gains, strict=True):
            torch.nn.init.orthogonal_(weight_hh, gain)
    return rnn


@pytest.mark.parametrize("net", NETS, ids=str)
def test_is_what_autograd_says(net):
    rnn, (input, hx) = net.rnn(), net.data()
    flow = credit_flow(rnn, input, net.loss_of, hx)
    log10 = credit(rnn, input, net.loss_of, hx).norm(dim=-1).log10().mean(-1)
    below = torch.ones(net.num_steps, net.num_steps, dtype=torch.bool).tril()
    assert flow.log10.shape == log10.shape
    assert flow.log10[:, ~below].isnan().all()
    torch.testing.assert_close(flow.log10[:, below], log10[:, below], rtol=1e-10, atol=1e-10)
    for lag in range(net.num_steps):
        diagonal = log10.diagonal(-lag, 1, 2)
        there = [row[row > -torch.inf].mean() for row in diagonal]
        torch.testing.assert_close(flow.by_lag[:, lag], torch.stack(there), rtol=0, atol=1e-10)


def test_the_last_step_alone_leaves_the_other_rows_empty():
    input, hx = NETS[2].data()
    flow = credit_flow(NETS[2].rnn(), input, lambda output: output[-1].sum(), hx)
    assert (flow.log10[:, :-1].nan_to_num(-torch.inf, neginf=-torch.inf) == -torch.inf).all()
    assert flow.log10[:, -1].isfinite().all()
    assert torch.equal(flow.by_lag, flow.log10[:, -1].flip(-1))


def test_loss_steps_without_credit_are_no_part_of_the_mean():
    net = Net(4, 9, num_layers=2)
    input, hx = net.data()
    flow = credit_flow(
        net.rnn(), input, lambda output: output[2].sum() + output[5].square().sum(), hx
    )
    assert (flow.log10[:, 4, :5] == -torch.inf).all()
    torch.testing.assert_close(flow.by_lag[:, 1], (flow.log10[:, 2, 1] + flow.log10[:, 5, 4]) / 2)
    torch.testing.assert_close(flow.by_lag[:, 4], flow.log10[:, 5, 1])
    assert (flow.by_lag[:, 6:] == -torch.inf).all()


def test_sequences_without_credit_are_no_part_of_the_mean():
    net = Net(4, 6)
    rnn, (input, hx) = net.rnn(), net.data()

    def loss(output):
        return output[:, 1:].square().sum()

    both = credit_flow(rnn, input, loss, hx)
    alone = credit_flow(rnn, input[:, 1:], lambda output: output.square().sum(), hx[:, 1:])
    torch.testing.assert_close(both.by_lag, alone.by_lag)


def test_a_relu_net_that_is_stuck_at_zero_hands_nothing_back():
    rnn = VanillaRNN(1, 3, nonlinearity="relu", dtype=torch.float64)
    with torch.no_grad():
        rnn.bias_ih_l0.fill_(-100)
    flow = credit_flow(rnn, torch.zeros(5, 2, 1, dtype=torch.float64), torch.sum)
    assert flow.by_lag[0].tolist() == pytest.approx([math.log10(3**0.5), *[-math.inf] * 4])


def test_no_credit_at_all():
    input, hx = NETS[1].data()
    flow = credit_flow(NETS[1].rnn(), input, lambda output: (output * 0).sum(), hx)
    assert (flow.by_lag == -torch.inf).all()
    assert (flow.log10.nan_to_num(-torch.inf, neginf=-torch.inf) == -torch.inf).all()


@pytest.mark.parametrize("layers", [1, 2])
def test_an_orthogonal_linear_net_keeps_credit_at_its_length(layers):
    rnn = contracting([1.0] * layers, dtype=torch.float64)
    flow = credit_flow(rnn, torch.randn(60, 3, 2).double(), lambda output: output[-1].sum())
    top = flow.by_lag[-1]
    torch.testing.assert_close(top, top[0].expand(60), rtol=0, atol=1e-10)


class TestUnderflow:
    def test_credit_of_1e_minus_60_in_float32(self):
        rnn = contracting([0.5])
        flow = credit_flow(rnn, torch.zeros(201, 2, 2), lambda output: output[-1].sum())
        expected = math.log10(8**0.5) + torch.arange(201.0).double() * math.log10(0.5)
        assert expected[-1] < -59
        torch.testing.assert_close(flow.by_lag[0], expected, rtol=0, atol=1e-4)

    def test_credit_that_explodes_past_float32(self):
        rnn = contracting([2.0])
        flow = credit_flow(rnn, torch.zeros(201, 2, 2), lambda output: output[-1].sum())
        expected = math.log10(8**0.5) + torch.arange(201.0).double() * math.log10(2)
        torch.testing.assert_close(flow.by_lag[0], expected, rtol=0, atol=1e-4)

    def test_a_loss_of_1e_minus_30(self):
        rnn = contracting([0.5])
        flow = credit_flow(rnn, torch.zeros(9, 2, 2), lambda output: 1e-30 * output[-1].sum())
        expected = math.log10(8**0.5) - 30 + torch.arange(9.0).double() * math.log10(0.5)
        torch.testing.assert_close(flow.by_lag[0], expected, rtol=0, atol=1e-4)

    @pytest.mark.parametrize("gains", [(0.9, 0.3), (0.3, 0.9), (0, 0.3), (1.1, 0.2, 0.9)])
    def test_layers_that_part_by_a_hundred_decades(self, gains):
        single, double = contracting(gains), contracting(gains).double()
        input = torch.zeros(150, 1, 2)

        def loss(output):
            return output[-1].sum()

        flow = credit_flow(single, input, loss)
        slow = credit(double, input.double(), loss)[:, -1].norm(dim=-1).log10().mean(-1)
        assert 149 * math.log10(min(filter(None, gains))) < -60
        torch.testing.assert_close(flow.log10[:, -1], slow, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))]
)
@pytest.mark.parametrize("amplitude", [0.0, 1.0], ids=["autonomous", "driven"])
def test_its_slope_is_the_largest_lyapunov_exponent(seed, amplitude):
    random = torch.Generator().manual_seed(seed)
    hidden_size, num_steps, transient = 128, 500, 50
    rnn = VanillaRNN(1, hidden_size, bias=False, dtype=torch.float64)
    with torch.no_grad():
        for parameter, gain in ((rnn.weight_hh_l0, 2 / hidden_size**0.5), (rnn.weight_ih_l0, 1)):
            parameter.normal_(0, gain, generator=random)
    input = amplitude * torch.randn(num_steps, 1, 1, generator=random, dtype=torch.float64)
    hx = torch.randn(1, 1, hidden_size, generator=random, dtype=torch.float64)
    flow = credit_flow(rnn, input, lambda output: output[-1].sum(), hx)
    (exponents,) = lyapunov_spectrum(rnn, input, hx, burn_in=transient)
    # The last vectors to leave the loss, and the first states, have not settled yet.
    lags = torch.arange(transient, num_steps - transient, dtype=torch.float64)
    log = flow.by_lag[0, transient : num_steps - transient] * math.log(10)
    centred = lags - lags.mean()
    slope = float(centred @ log / (centred @ centred))
    assert slope == pytest.approx(float(exponents[0]), abs=0.03)
