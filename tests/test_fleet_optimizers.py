"""Optimizers that step as one have the bits of each one's own step, and its state dict."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from bptt_lab.training.fleet import equations, optimizers
from bptt_lab.training.fleet.optimizers import StackedOptimizer, supports

COUNT = 6
SHAPES = [(17, 3), (17, 17), (17,), (1,), (2, 17)]  # no multiple of a vector
OPTIMIZERS = {
    "sgd": (torch.optim.SGD, [{}, {"weight_decay": 0.1}]),
    "momentum": (
        torch.optim.SGD,
        [
            {"momentum": 0.9},
            {"momentum": 0.7, "weight_decay": 0.02},
            {"momentum": 0.9, "nesterov": True},
            {"momentum": 0.5, "dampening": 0.3},
            {},
        ],
    ),
    "adam": (
        torch.optim.Adam,
        [{"betas": (0.8, 0.99)}, {"weight_decay": 0.1, "eps": 1e-3}, {"betas": (0.3, 0.999)}],
    ),
    "adamw": (torch.optim.AdamW, [{}, {"weight_decay": 0.0}, {"betas": (0.7, 0.9), "eps": 1e-5}]),
    "rmsprop": (
        torch.optim.RMSprop,
        [{}, {"momentum": 0.9}, {"alpha": 0.9, "weight_decay": 0.1}, {"momentum": 0.3, "eps": 0.1}],
    ),
    "adagrad": (
        torch.optim.Adagrad,
        [{}, {"lr_decay": 0.1, "weight_decay": 0.01}, {"initial_accumulator_value": 0.5}],
    ),
    "nadam": (
        torch.optim.NAdam,
        [
            {},
            {"momentum_decay": 0.1, "weight_decay": 0.1},
            {"decoupled_weight_decay": True, "weight_decay": 0.2, "betas": (0.7, 0.99)},
        ],
    ),
    "radam": (
        torch.optim.RAdam,
        [
            {},
            {"betas": (0.8, 0.9), "weight_decay": 0.1},
            {"decoupled_weight_decay": True, "weight_decay": 0.2, "eps": 1e-4},
        ],
    ),
    "adamax": (
        torch.optim.Adamax,
        [{}, {"betas": (0.5, 0.9), "eps": 1e-3}, {"weight_decay": 0.1}],
    ),
}


def nets(random: torch.Generator, dtype: torch.dtype) -> list[list[Parameter]]:
    made = [
        [Parameter(torch.randn(shape, generator=random, dtype=dtype)) for shape in SHAPES]
        for _ in range(COUNT)
    ]
    for net in made:
        net[3].data.fill_(torch.inf)  # a weight decay of 0 must not make it nan
    return made


def settings(options: list[dict[str, Any]], alike: bool) -> list[dict[str, Any]]:
    if alike:
        return [{"lr": 0.01, **options[-1]}] * COUNT
    return [{"lr": 0.01 * 1.7**r, **options[r % len(options)]} for r in range(COUNT)]


def stacked(own: list[list[Parameter]]) -> tuple[list[list[Parameter]], Tensor, Tensor]:
    """Copies whose data and gradients are views of rows."""
    rows = torch.stack([torch.cat([p.detach().flatten() for p in net]) for net in own])
    gradients = torch.empty_like(rows)
    sizes = [p.numel() for p in own[0]]
    copies = []
    for row, gradient in zip(rows, gradients, strict=True):
        net = []
        for data, grad, like in zip(row.split(sizes), gradient.split(sizes), own[0], strict=True):
            net.append(Parameter(data.view_as(like)))
            net[-1].grad = grad.view_as(like)
        copies.append(net)
    return copies, rows, gradients


def draw(own: list[list[Parameter]], gradients: Tensor, random: torch.Generator) -> None:
    gradients.normal_(generator=random)
    gradients[:, ::5] *= -0.0  # signs of zeros count too
    for net, row in zip(own, gradients, strict=True):
        for p, grad in zip(net, row.split([p.numel() for p in net]), strict=True):
            p.grad = grad.view_as(p).clone()


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, signs of zeros and the order of keys included; NaN has no sign."""
    if isinstance(a, Tensor):
        bits = [x.masked_fill(x.isnan(), torch.nan).numpy().tobytes() for x in (a, b)]
        return a.dtype == b.dtype and bits[0] == bits[1]
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def assert_equal(own: list[Any], one: list[Any]) -> None:
    for r, (alone, in_fleet) in enumerate(zip(own, one, strict=True)):
        assert same(alone.state_dict(), in_fleet.state_dict()), r
        groups = alone.param_groups[0]["params"], in_fleet.param_groups[0]["params"]
        for p, q in zip(*groups, strict=True):
            assert same(p.detach(), q.detach()), r


@pytest.mark.parametrize("alike", [True, False], ids=["alike", "each its own"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_bits_and_state(
    name: str, dtype: torch.dtype, alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, options = OPTIMIZERS[name]
    if dtype == torch.float64:  # two rows at once
        monkeypatch.setattr(optimizers, "ELEMENTS", 1000)
    random = torch.Generator().manual_seed(0)
    own_nets = nets(random, dtype)
    fleet_nets, parameters, gradients = stacked(own_nets)
    given = settings(options, alike)
    own = [kind(net, **s) for net, s in zip(own_nets, given, strict=True)]
    # Half of the replicas come from runs of their own, one of them a step further.
    for r in (1, 2, 5, 5):
        draw(own_nets, gradients, random)
        own[r].step()
        parameters[r] = torch.cat([p.detach().flatten() for p in own_nets[r]])
    one = [kind(net, **s) for net, s in zip(fleet_nets, given, strict=True)]
    for alone, in_fleet in zip(own, one, strict=True):
        in_fleet.load_state_dict(copy.deepcopy(alone.state_dict()))
    assert supports(one)
    together = StackedOptimizer(one, parameters, gradients)
    assert_equal(own, one)
    for step in range(20):
        draw(own_nets, gradients, random)
        rows = [r for r in range(COUNT) if step % 3 or r != step % COUNT]
        if step in (9, 10):
            rows = [3, 1]
        for those in (own, one):
            those[1].param_groups[0]["lr"] *= 0.9  # as a scheduler does
        for r in rows:
            own[r].step()
        together.step(rows)
        assert_equal(own, one)


def test_a_replica_that_diverges_stays_alone() -> None:
    own_nets = nets(torch.Generator().manual_seed(0), torch.float32)
    fleet_nets, parameters, gradients = stacked(own_nets)
    own, one = ([torch.optim.AdamW(net) for net in n] for n in (own_nets, fleet_nets))
    together = StackedOptimizer(one, parameters, gradients)
    for _ in range(3):
        draw(own_nets, gradients, torch.Generator().manual_seed(1))
        gradients[2] = torch.nan
        for r, optimizer in enumerate(own):
            if r != 2:
                optimizer.step()
        together.step(range(COUNT))
        assert_equal(own[:2] + own[3:], one[:2] + one[3:])
        assert parameters[2].isnan().all()


def test_what_torch_steps_otherwise_is_refused() -> None:
    net = [Parameter(torch.zeros(3))]
    plain = torch.optim.Adam(net)
    assert supports([plain, torch.optim.Adam(net, lr=0.5)])
    others = [
        torch.optim.SGD(net),
        torch.optim.Adam(net, amsgrad=True),
        torch.optim.Adam(net, foreach=True),
        torch.optim.Adam(net, fused=True),
        torch.optim.Adam(net, maximize=True),
        torch.optim.Adam(net, lr=torch.tensor(0.1)),
        torch.optim.Adam([{"params": net}, {"params": [Parameter(torch.zeros(2))]}]),
    ]
    assert not any(supports([plain, other]) for other in others)
    assert not supports([torch.optim.RMSprop(net, centered=True)])
    assert not supports([torch.optim.Adadelta(net)])
    assert not supports([torch.optim.SGD([*net, Parameter(torch.zeros(2), requires_grad=False)])])


def test_a_machine_that_rounds_by_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = torch.optim.Adagrad([Parameter(torch.zeros(3))])
    assert supports([optimizer])

    def imprecise(x: Tensor, y: Tensor, z: Tensor, c: float | Tensor) -> None:
        x.add_(y / z * c)

    monkeypatch.setattr(equations, "_addcdiv_", imprecise)
    optimizers._rounds_alike.cache_clear()
    assert not supports([optimizer])
    optimizers._rounds_alike.cache_clear()


def test_a_scheduler_sees_its_optimizer_step() -> None:
    fleet_nets, parameters, gradients = stacked(nets(torch.Generator(), torch.float32))
    one = [torch.optim.SGD(net, lr=1.0) for net in fleet_nets]
    schedules = [torch.optim.lr_scheduler.ExponentialLR(o, 0.5) for o in one]
    together = StackedOptimizer(one, parameters, gradients.zero_())
    together.step(range(COUNT))
    for schedule in schedules:
        schedule.step()  # warns, were the optimizer not seen to step
    assert one[0].param_groups[0]["lr"] == 0.5
