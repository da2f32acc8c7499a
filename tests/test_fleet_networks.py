"""A Fleet has the bits of R separate networks on one thread, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from sampling import pairwise
from torch import Tensor

from bptt_lab import VanillaRNN
from bptt_lab.core.kernels import core
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients import ARTBP, RFLO, RTRL, CreditClip, Full, Truncated
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.nn import Fleet

COUNT, L, N, I, H = 4, 9, 5, 3, 17
STRATEGIES: dict[str, list[GradientStrategy]] = {
    "full": [Full()] * COUNT,
    "chunk": [Truncated(k=k) for k in (2, 3, 50, 4)],
    "artbp": [ARTBP(mean_length=3)] * 2 + [ARTBP(mean_length=4, seed=seed) for seed in range(2)],
    "tail": [Truncated(k=4, mode="tail")] * COUNT,
    "clipped": [CreditClip(of=Full(), clip=0.1)] * COUNT,
}
LOSSES = {
    "mean square": lambda output, h_n: output.square().mean((-3, -2, -1)),
    "sum": lambda output, h_n: output.sum((-3, -2, -1)),
    "last": lambda output, h_n: h_n.square().sum((-3, -2, -1)),
    "both": lambda output, h_n: output[..., 0].sum((-2, -1)) + h_n.square().sum((-3, -2, -1)),
}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def make(name: str, leaks: list[float], dtype: torch.dtype, **sizes) -> list[VanillaRNN]:
    torch.manual_seed(0)
    networks = [
        VanillaRNN(I, H, leak=leak, dtype=dtype, gradient=strategy, **sizes)
        for leak, strategy in zip(leaks, STRATEGIES[name], strict=True)
    ]
    networks[1].draw = 3
    return networks


@pytest.mark.parametrize(
    ("name", "loss", "leaks", "layers", "bias", "phi", "dtype", "shared", "given", "with_core"),
    pairwise(
        list(STRATEGIES),
        list(LOSSES),
        [[1.0] * COUNT, [1.0, 0.3, 0.5, 1.0]],
        [1, 3],
        [True, False],
        ["tanh", "relu", "sigmoid"],
        [torch.float32, torch.float64],
        [True, False],
        [True, False],
        [True, False],
    ),
)
def test_bits_of_networks_alone(
    name, loss, leaks, layers, bias, phi, dtype, shared, given, with_core, monkeypatch
):
    if not with_core:
        monkeypatch.setattr(core, "supports", lambda *tensors: False)
    # Products of torch may have other bits where a network's part of a stack lies elsewhere.
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
    if dtype == torch.float64:
        close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)
    same = partial(torch.testing.assert_close, rtol=0, atol=0)
    if not with_core or name in ("tail", "clipped"):
        same = close
    sizes = {"num_layers": layers, "bias": bias, "nonlinearity": phi}
    networks = make(name, leaks, dtype, **sizes)
    fleet = Fleet.from_networks(networks)
    input = (
        torch.randn(L, N, I, dtype=dtype) if shared else torch.randn(COUNT, L, N, I, dtype=dtype)
    )
    input.requires_grad_()
    hx = torch.randn(COUNT, layers, N, H, dtype=dtype, requires_grad=True) if given else None
    for _ in range(2):  # draws go on
        torch.set_num_threads(2 if with_core else 1)
        output, h_n = fleet(input, hx)
        together = LOSSES[loss](output, h_n)
        leaves = [input] if hx is None else [input, hx]
        found = torch.autograd.grad(together.sum(), [*leaves, *fleet.parameters()])
        torch.set_num_threads(1)
        of_input = []
        for r, network in enumerate(networks):
            own = input.detach() if shared else input[r].detach()
            own.requires_grad_()
            own_hx = None if hx is None else hx[r].detach().clone().requires_grad_()
            alone, h_n_alone = network(own, own_hx)
            own_leaves = [own] if own_hx is None else [own, own_hx]
            gradients = torch.autograd.grad(
                LOSSES[loss](alone, h_n_alone), [*own_leaves, *network.parameters()]
            )
            same(output[r], alone)
            same(h_n[r], h_n_alone)
            of_input.append(gradients[0])
            for one, other in zip(gradients[1:], found[1:], strict=True):
                same(one, other[r])
        whole = torch.stack(of_input)
        close(found[0], whole.sum(0)) if shared else same(found[0], whole)


def test_any_threads_give_the_same_bits() -> None:
    fleet, input = Fleet(5, I, H, leak=0.5), torch.randn(L, N, I)

    def run(threads: int) -> list[Tensor]:
        torch.set_num_threads(threads)
        output, _ = fleet(input)
        return [output, *torch.autograd.grad(output.square().sum(), list(fleet.parameters()))]

    for one, other in zip(run(1), run(3), strict=True):
        assert torch.equal(one, other)


def test_a_strategy_that_carries_influence() -> None:
    networks = [VanillaRNN(I, H, gradient=RTRL()) for _ in range(2)]
    fleet, input = Fleet.from_networks(networks), torch.randn(L, N, I)
    with pytest.raises(ConfigError, match=r"^hx: must be left out with gradient=RTRL"):
        fleet(input, torch.zeros(2, 1, N, H))
    fleet(input)[0].square().sum().backward()
    networks[1](input)[0].square().sum().backward()
    assert torch.equal(fleet.weight_hh_l0.grad[1], networks[1].weight_hh_l0.grad)


def test_dropout_and_autocast_run_network_by_network() -> None:
    fleet, input = Fleet(2, I, H, num_layers=2, dropout=0.5), torch.randn(L, N, I)
    networks = fleet.networks()
    torch.manual_seed(1)
    output, _ = fleet(input)
    torch.manual_seed(1)
    alone = torch.stack([network(input)[0] for network in networks])
    assert torch.equal(output, alone)
    fleet.eval()
    assert torch.equal(fleet(input)[0][1], networks[1].eval()(input)[0])
    with torch.autocast("cpu", torch.bfloat16):
        assert fleet(input)[0].dtype == torch.bfloat16


def test_second_derivatives() -> None:
    networks = make("full", [1.0, 0.3, 1.0, 1.0], torch.float64)
    fleet, input = Fleet.from_networks(networks), torch.randn(L, N, I, dtype=torch.float64)

    def penalty(net: torch.nn.Module) -> Tensor:
        loss = net(input)[0].square().sum()
        gradients = torch.autograd.grad(loss, list(net.parameters()), create_graph=True)
        return sum(g.square().sum() for g in gradients)

    penalty(fleet).backward()
    for r, network in enumerate(networks):
        penalty(network).backward()
        for one, other in zip(network.parameters(), fleet.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad[r], rtol=1e-10, atol=1e-10)
    chunks = Fleet(2, I, H, gradient=Truncated(k=2))
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        torch.autograd.grad(
            chunks(input.float())[0].sum(), list(chunks.parameters()), create_graph=True
        )


def test_networks_and_back() -> None:
    torch.manual_seed(3)
    networks = [VanillaRNN(I, H, 2, leak=leak) for leak in (1.0, 0.5)]
    networks[1].draw = 4
    torch.manual_seed(3)
    fleet = Fleet(2, I, H, 2, leak=[1.0, 0.5])
    for r, network in enumerate(networks):  # drawn as theirs are
        assert torch.equal(fleet.weight_ih_l1[r], network.weight_ih_l1)
    fleet = Fleet.from_networks(networks)
    copies = fleet.networks()
    assert [(c.leak, c.draw) for c in copies] == [(1.0, 0), (0.5, 4)]
    for network, copy in zip(networks, copies, strict=True):
        for one, other in zip(network.parameters(), copy.parameters(), strict=True):
            assert torch.equal(one, other) and one.data_ptr() != other.data_ptr()
        assert copy.all_weights[1][1] is copy.weight_hh_l1
    again = Fleet(2, I, H, 2, leak=[1.0, 0.5])
    again.load_state_dict(fleet.state_dict())
    input = torch.randn(L, N, I)
    assert torch.equal(again(input)[0], fleet(input)[0])


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^hidden_size: must be the same .*, not 4 and 5; make"):
        Fleet.from_networks([VanillaRNN(2, 4), VanillaRNN(2, 5)])
    with pytest.raises(
        ValueError, match=r"^gradient's class: must be the same .*, not 'Full' and 'RFLO';"
    ):
        Fleet.from_networks([VanillaRNN(2, 4), VanillaRNN(2, 4, gradient=RFLO())])
    with pytest.raises(ValueError, match=r"^networks: must be one or more"):
        Fleet.from_networks([])
    with pytest.raises(
        ValueError, match=r"^leak: must be one, or one for each of 3 networks, not 2"
    ):
        Fleet(3, 2, 4, leak=[1.0, 0.5])
    fleet = Fleet(3, 2, 4)
    with pytest.raises(ValueError, match=r"^input: must have shape \(3, 6, 5, 2\), .*, not \(2, 6"):
        fleet(torch.zeros(2, 6, 5, 2))
    with pytest.raises(ValueError, match=r"^input: must have shape"):
        fleet(torch.zeros(5, 2))
    with pytest.raises(ValueError, match=r"^input: must have one step or more, not 0"):
        fleet(torch.zeros(0, 5, 2))
    with pytest.raises(ValueError, match=r"^hx: must have shape \(3, 1, 5, 4\)"):
        fleet(torch.zeros(6, 5, 2), torch.zeros(1, 5, 4))
