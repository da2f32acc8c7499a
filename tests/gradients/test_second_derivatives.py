"""Derivatives of gradients are nn.RNN's; what cannot give them, or torch.func's, says so."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn.utils.rnn import pack_sequence

from bptt_lab import VanillaRNN
from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.checkpointed import Checkpointed
from bptt_lab.gradients.full import Full

from .nets import Net, run
from .test_contract import STRATEGIES, VARIANTS

L, N, I, H = 5, 3, 2, 4
TWICE = pytest.mark.parametrize("strategy", [Full(), Checkpointed(every=2)], ids=repr)


def twins(strategy, num_layers=2):
    torch.manual_seed(0)
    theirs = torch.nn.RNN(I, H, num_layers, dtype=torch.float64)
    ours = VanillaRNN(I, H, num_layers, dtype=torch.float64, gradient=strategy)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def draw(*shape, grad=True):
    return torch.randn(shape, dtype=torch.float64, requires_grad=grad)


def gradient_penalty(rnn, input):
    output, _ = rnn(input)
    (slope,) = torch.autograd.grad(output[-1].sum(), input, create_graph=True)
    return output.square().mean() + 10 * (slope.norm() - 1) ** 2


def learning_to_learn(rnn, input):
    """The loss after an inner step, as a function of what came before it."""
    weights = dict(rnn.named_parameters())
    loss = functional_call(rnn, weights, (input,))[0].square().mean()
    steps = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    moved = {name: w - 0.5 * g for (name, w), g in zip(weights.items(), steps, strict=True)}
    return functional_call(rnn, moved, (input.flip(0),))[0].square().mean()


def of_one_another(rnn, input):
    """hx is made from the input, whose gradient must count that way once."""
    hx = input.mean((0, 2))[None, :, None].expand(2, N, H)
    _, h_n = rnn(input, hx)
    leaves = [input, *rnn.parameters()]
    return sum(g.square().sum() for g in torch.autograd.grad(h_n.sum(), leaves, create_graph=True))


def ragged(rnn, input):
    packed = pack_sequence([input[:n, i] for i, n in enumerate((2, 5, 3))], enforce_sorted=False)
    output, h_n = rnn(packed)
    loss = output.data.square().sum() + h_n.sum()
    return sum(g.square().sum() for g in torch.autograd.grad(loss, [input], create_graph=True))


@TWICE
@pytest.mark.parametrize("task", [gradient_penalty, learning_to_learn, of_one_another, ragged])
def test_second_derivatives_are_those_of_torch(strategy, task):
    theirs, ours = twins(strategy)
    input = draw(L, N, I)
    for rnn in (theirs, ours):
        rnn.found = torch.autograd.grad(task(rnn, input), [*rnn.parameters(), input])
        assert all(g.any() for g in rnn.found)
    torch.testing.assert_close(ours.found, theirs.found, rtol=1e-10, atol=1e-12)


@TWICE
def test_hessians_and_third_derivatives_are_those_of_torch(strategy):
    theirs, ours = twins(strategy, num_layers=1)
    input, hx = draw(L, N, I, grad=False), draw(1, N, H)
    found = [
        hessian(lambda h, rnn=rnn: rnn(input, h)[0].square().sum(), hx) for rnn in (theirs, ours)
    ]
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-12)
    thirds = []
    for rnn in (theirs, ours):
        y = rnn(input, hx)[0].square().sum()
        for _ in range(3):
            (y,) = torch.autograd.grad(y.sum(), hx, create_graph=True)
        thirds.append(y.detach())
    torch.testing.assert_close(thirds[1], thirds[0], rtol=1e-10, atol=1e-12)


@TWICE
@pytest.mark.parametrize("phi", ["tanh", "relu", "identity", "sigmoid"])
def test_with_every_nonlinearity_a_leak_and_dropout(strategy, phi):
    net = Net(H, L, num_layers=2, nonlinearity=phi, leak=0.3)
    found = []
    for each in (Autograd(), strategy):
        rnn, (input, hx) = net.rnn(each, dropout=0.4), net.data()
        torch.manual_seed(3)
        loss = run(rnn, input, hx).output.square().sum()
        leaves = [input, hx, *rnn.parameters()]
        first = torch.autograd.grad(loss, leaves, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves)
        found.append([*first, *second])
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-12)


def test_it_is_the_derivative_of_the_gradient_by_hand():
    """Against differences of what the sweep gives, which has no part in it."""
    rnn = VanillaRNN(I, H, leak=0.5, dtype=torch.float64)
    input, eps = draw(L, N, I, grad=False), 1e-5

    def by_hand():
        loss = rnn(input)[0].square().sum()
        return torch.autograd.grad(loss, rnn.weight_hh_l0)[0].square().sum()

    loss = rnn(input)[0].square().sum()
    (g,) = torch.autograd.grad(loss, rnn.weight_hh_l0, create_graph=True)
    (actual,) = torch.autograd.grad(g.square().sum(), rnn.weight_hh_l0)
    with torch.no_grad():
        rnn.weight_hh_l0[0, 1] += eps
    above = by_hand()
    with torch.no_grad():
        rnn.weight_hh_l0[0, 1] -= 2 * eps
    assert float(actual[0, 1]) == pytest.approx(float(above - by_hand()) / (2 * eps), rel=1e-6)


def under_autocast(create_graph):
    rnn = VanillaRNN(I, H)
    input = torch.ones(L, N, I)
    with torch.autocast("cpu", torch.bfloat16):
        loss = rnn(input)[0].float().sum()
        return torch.autograd.grad(loss, rnn.weight_hh_l0, create_graph=create_graph)[0]


def test_under_autocast_it_is_the_same_gradient():
    torch.manual_seed(0)
    once = under_autocast(False)
    torch.manual_seed(0)
    twice = under_autocast(True)
    assert twice.dtype == torch.float32 and twice.requires_grad
    assert torch.cosine_similarity(once.flatten(), twice.flatten(), 0) > 0.99


def test_an_hx_without_a_gradient_may_be_changed_in_place():
    rnn, hx = VanillaRNN(I, H), torch.ones(1, N, H)
    loss = rnn(torch.ones(L, N, I), hx)[0].sum()
    expected = torch.autograd.grad(loss, rnn.weight_hh_l0, retain_graph=True)[0]
    hx.zero_()
    torch.testing.assert_close(torch.autograd.grad(loss, rnn.weight_hh_l0)[0], expected)
    loss = rnn(torch.ones(L, N, I), hx.fill_(1))[0].sum()
    hx.zero_()
    again = torch.autograd.grad(loss, rnn.weight_hh_l0, create_graph=True)[0]
    torch.testing.assert_close(again, expected)


def tangents(rnn, input):
    with forward_ad.dual_level():
        return rnn(forward_ad.make_dual(input, input))


def batched(rnn, input, which=0):
    output = rnn(input)[which]
    ones = torch.ones(2, *output.shape)
    return torch.autograd.grad(output, rnn.weight_hh_l0, ones, is_grads_batched=True)


def jacobian(rnn, input):
    if not rnn.gradient.input_gradient:  # refused for that
        return batched(rnn, input, 1)
    return torch.autograd.functional.jacobian(lambda x: rnn(x)[0], input, vectorize=True)


TRANSFORMS = {
    "grad": lambda rnn, x: torch.func.grad(
        lambda weights: functional_call(rnn, weights, (x,))[0].sum()
    )(dict(rnn.named_parameters())),
    "vmap": lambda rnn, x: torch.vmap(lambda one: rnn(one)[0])(x[None]),
    "jvp": lambda rnn, x: torch.func.jvp(lambda z: rnn(z)[0], (x,), (x,)),
    "dual": tangents,
    "batched": batched,
    "jacobian": jacobian,
}


# torch's own: forward mode compiles its decompositions; may go when torch no longer does.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", [n for n, s in STRATEGIES.items() if s not in VARIANTS])
def test_transforms_of_torch_func_are_refused_on_one_line(name, transform):
    rnn = VanillaRNN(I, H, gradient=STRATEGIES[name])
    input = torch.ones(L, N, I)
    if isinstance(rnn.gradient, Autograd):
        TRANSFORMS[transform](rnn, input)
        return
    with pytest.raises(RuntimeError, match=r"^torch\.func.*Autograd\(\)$"):
        TRANSFORMS[transform](rnn, input)
