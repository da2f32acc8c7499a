"""The oracle against explicit Jacobian products, autograd and torch.nn.RNN."""

import pytest
import torch
from torch import Tensor

from bptt_lab.gradients import oracle
from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.truncated import Truncated

from .contract import assert_same, random_tensor
from .nets import INPUT_SIZE, Gradients, Net, collect, full_mask, gradients, oracle_terms

ONE_LAYER = [
    Net(4, 6, nonlinearity=nonlinearity, leak=leak, loss=loss)
    for nonlinearity in ("tanh", "relu", "identity", "sigmoid")
    for leak, loss in ((1.0, "sum"), (0.5, "last"))
]
NETS = [*ONE_LAYER, Net(3, 7, num_layers=3, leak=0.5, loss="mean"), Net(5, 9, num_layers=2)]


def slope(a: Tensor, nonlinearity: str) -> Tensor:
    """phi'(a), from the textbook."""
    return {
        "tanh": lambda: 1 / torch.cosh(a) ** 2,
        "relu": lambda: (a > 0).to(a.dtype),
        "identity": lambda: torch.ones_like(a),
        "sigmoid": lambda: torch.exp(-a) / (1 + torch.exp(-a)) ** 2,
    }[nonlinearity]()


class OneLayer:
    """States, Jacobians and phi' of a net of one layer, every one a loop over plain vectors."""

    def __init__(self, net: Net) -> None:
        phi = {
            "tanh": torch.tanh,
            "relu": lambda a: a.clamp(min=0),
            "identity": lambda a: a,
            "sigmoid": lambda a: 1 / (1 + torch.exp(-a)),
        }[net.nonlinearity]
        self.net, self.rnn = net, net.rnn().requires_grad_(False)
        self.x, hx = (tensor.detach() for tensor in net.data())
        self.W_ih, self.W_hh, b_ih, b_hh = self.rnn.all_weights[0]
        self.h = [hx[0]]  # h[t] is the state after step t, counted from 1
        self.slope: list[Tensor] = []
        for x_t in self.x:
            a_t = x_t @ self.W_ih.T + b_ih + self.h[-1] @ self.W_hh.T + b_hh
            self.slope.append(net.leak * slope(a_t, net.nonlinearity))
            self.h.append((1 - net.leak) * self.h[-1] + net.leak * phi(a_t))
        output = torch.stack(self.h[1:]).requires_grad_()
        (self.q,) = torch.autograd.grad(net.loss_of(output), output)

    def recurrent_jacobian(self, t: int, n: int) -> Tensor:
        """J_t = dh_t/dh_{t-1} of sequence n, step t counted from 0."""
        eye = torch.eye(self.net.hidden_size, dtype=torch.float64)
        return (1 - self.net.leak) * eye + torch.diag(self.slope[t][n]) @ self.W_hh

    def product(self, t: int, s: int, n: int) -> Tensor:
        """q_t J_t ... J_{s+1}, credit of the loss at t for the state at s."""
        credit = self.q[t][n]
        for step in range(t, s, -1):
            credit = credit @ self.recurrent_jacobian(step, n)
        return credit

    def terms(self) -> Gradients:
        """q_t J_t ... J_{s+1} Mbar_s, one entry [t, s] after another."""
        T, N, _ = self.q.shape
        shapes = {name: p.shape for name, p in self.rnn.named_parameters()}
        shapes |= {"input": self.x.shape[1:], "hx": (1, *self.h[0].shape)}
        result = {
            name: torch.zeros(T, T, *shape, dtype=torch.float64) for name, shape in shapes.items()
        }
        for t in range(T):
            for s in range(t + 1):
                for n in range(N):
                    credit = self.product(t, s, n)
                    delta = credit * self.slope[s][n]  # credit times dh_s/da_s
                    result["weight_hh_l0"][t, s] += torch.outer(delta, self.h[s][n])
                    result["weight_ih_l0"][t, s] += torch.outer(delta, self.x[s][n])
                    result["bias_ih_l0"][t, s] += delta
                    result["bias_hh_l0"][t, s] += delta
                    result["input"][t, s, n] = delta @ self.W_ih
                    if s == 0:
                        result["hx"][t, s, 0, n] = credit @ self.recurrent_jacobian(0, n)
        return result


@pytest.mark.parametrize("net", ONE_LAYER, ids=str)
def test_terms_are_jacobian_products(net):
    assert_same(oracle_terms(net), OneLayer(net).terms(), "terms", 1e-12)


@pytest.mark.parametrize(
    "strategy", [Full(), Truncated(k=3, mode="lag"), Autograd()], ids=["full", "lag", "autograd"]
)
@pytest.mark.parametrize("net", ONE_LAYER, ids=str)
def test_credit_is_a_sum_of_jacobian_products(strategy, net):
    one_layer, mask = OneLayer(net), strategy.mask(net.num_steps)
    expected = torch.zeros_like(one_layer.q)
    for t in range(net.num_steps):
        for s in range(t + 1):
            for n in range(net.batch_size):
                expected[s, n] += mask[t, s] * one_layer.product(t, s, n)
    actual = strategy.credit(net.rnn(), one_layer.x, one_layer.h[0][None], one_layer.q)
    assert_same({"credit": actual[0]}, {"credit": expected}, "credit", 1e-12)


@pytest.mark.parametrize("net", NETS, ids=str)
def test_all_terms_sum_to_the_gradient_of_autograd(net):
    everything = oracle.masked_gradient(oracle_terms(net), full_mask(net.num_steps))
    assert_same(everything, gradients(Autograd(), net), "all terms", 1e-12)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("loss", ["sum", "mean", "last"])
def test_full_mask_is_the_gradient_of_torch(nonlinearity, num_layers, loss):
    net = Net(4, 8, num_layers=num_layers, nonlinearity=nonlinearity, loss=loss)
    reference = torch.nn.RNN(
        INPUT_SIZE, net.hidden_size, num_layers, nonlinearity, dtype=torch.float64
    )
    reference.load_state_dict(net.rnn().state_dict())
    input, hx = net.data()
    net.loss_of(reference(input, hx)[0]).backward()
    everything = oracle.masked_gradient(oracle_terms(net), full_mask(net.num_steps))
    assert_same(everything, collect(reference, input=input, hx=hx), "torch.nn.RNN", 1e-12)


@pytest.mark.parametrize("net", NETS, ids=str)
def test_lag_terms_sum_to_every_lags_gradient(net):
    lags = oracle.lag_terms(oracle_terms(net))
    names = dict(net.rnn().named_parameters()).keys()
    assert lags.keys() == names
    for k in range(1, net.num_steps + 1):
        actual = gradients(Truncated(k=k, mode="lag"), net)
        expected = {name: G[:k].sum(0) for name, G in lags.items()}
        assert_same({name: actual[name] for name in names}, expected, f"lag {k}", 1e-10)
    full = gradients(Full(), net)
    assert_same({n: G.sum(0) for n, G in lags.items()}, {n: full[n] for n in names}, "all lags")


def test_the_loss_at_t_reaches_no_later_use():
    net = Net(3, 7, num_layers=3, leak=0.5, loss="mean")
    for name, G in oracle_terms(net).items():
        later = ~full_mask(net.num_steps)
        assert not G[later].any(), name
        assert name == "hx" or G[full_mask(net.num_steps)].flatten(1).any(1).all(), name


def test_the_oracle_leaves_the_net_alone():
    rnn, (input, hx) = Net(3, 5).rnn(Full()), Net(3, 5).data()
    before = [p.detach().clone() for p in rnn.parameters()]
    oracle.terms(rnn, input, torch.sum, hx)
    assert all(p.grad is None for p in rnn.parameters()) and input.grad is None
    assert all(map(torch.equal, rnn.parameters(), before))


def test_hx_is_zeros_by_default():
    net = Net(3, 5, num_layers=2)
    rnn, (input, hx) = net.rnn(), net.data()
    given = oracle.terms(rnn, input, torch.sum, torch.zeros_like(hx))
    assert_same(oracle.terms(rnn, input, torch.sum), given, "hx", 0)


@pytest.mark.parametrize("real", [torch.float64, torch.bool])
def test_any_mask_weights_the_terms(real):
    net = Net(3, 5, num_layers=2)
    mask = (random_tensor(5, 5) > 0).to(real)
    actual = oracle.masked_gradient(oracle_terms(net), mask)
    for name, G in oracle_terms(net).items():
        kept = sum(G[t, s] for t in range(5) for s in range(5) if mask[t, s] and name != "input")
        if name == "input":
            kept = torch.stack([sum(G[t, s] * mask[t, s] for t in range(5)) for s in range(5)])
        assert_same({name: actual[name]}, {name: kept}, "any mask", 1e-12)
