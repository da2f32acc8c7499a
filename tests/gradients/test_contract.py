"""Every strategy in conf/gradient keeps the contract, and truncation in all its modes.

So does every one that an installed package brings, with BPTT_ALLOW=PACKAGE.
"""

import itertools
from collections.abc import Callable
from pathlib import Path

import installed
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.gradients.checkpointed import Checkpointed
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.rflo import RFLO
from bptt_lab.gradients.rtrl import RTRL
from bptt_lab.gradients.truncated import Truncated

from . import contract
from .nets import Net, gradients

CONF = Path(__file__).parents[2] / "conf" / "gradient"


SECTIONS = {path.stem: OmegaConf.load(path) for path in sorted(CONF.glob("*.yaml"))}


def made(section: DictConfig) -> GradientStrategy:
    return instantiate(OmegaConf.create({"seed": 0, "gradient": section}).gradient)


VARIANTS = [
    *(Truncated(k=k, mode="chunk") for k in (1, 3, 7)),
    *(Truncated(k=k, mode="lag") for k in (1, 2, 5, 30)),
    *(Truncated(k=k, mode="window", k1=k1) for k, k1 in ((1, 1), (3, 1), (5, 2), (4, 4), (9, 7))),
    *(Truncated(k=k, mode="tail") for k in (1, 4)),
    RTRL(store=True),
    *(RTRL(block=block) for block in (1, 3, 50)),
    RTRL(carry_influence=False),
    RFLO(feedback="random"),
    *(Checkpointed(every=every) for every in (1, 4)),
]
OPTIONS = {**SECTIONS, **installed.sections("gradient")}
STRATEGIES = {name: made(section) for name, section in OPTIONS.items()} | {
    repr(strategy): strategy for strategy in VARIANTS
}


def named(check: Callable[..., None]) -> str:
    return check.__name__.removeprefix("check_")


# Each check of each option, and of every third variant; with -m slow of the others too.
# Their draws are enumerated in tests of their own.
DEAR = [f"{name}-unbiased" for name in ("forward_gradient", "kf_rtrl", "pes", "uoro")]
CHECKED = [
    pytest.param(
        strategy,
        check,
        marks=pytest.mark.slow
        if (strategy in VARIANTS and (i + j) % 3) or f"{name}-{named(check)}" in DEAR
        else (),
        id=f"{name}-{named(check)}",
    )
    for i, (name, strategy) in enumerate(STRATEGIES.items())
    for j, check in enumerate(contract.CHECKS)
]


@pytest.mark.parametrize(("strategy", "check"), CHECKED)
def test_contract(strategy, check):
    check(strategy)


@pytest.mark.parametrize("check", contract.ON_NETS, ids=named)
@pytest.mark.parametrize("name", STRATEGIES)
def test_contract_on_nets(name, check):
    """Each option on every second net, each variant on every fourth; with -m slow on all."""
    step = 4 if STRATEGIES[name] in VARIANTS else 2
    holds(check, STRATEGIES[name], contract.NETS[list(STRATEGIES).index(name) % step :: step])


@pytest.mark.slow
@pytest.mark.parametrize("check", contract.ON_NETS, ids=named)
@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
def test_contract_on_all_nets(strategy, check):
    holds(check, strategy, contract.NETS)


def holds(check, strategy, nets):
    """Make a check on every net where it means something; some net must be such a one."""
    outcomes = [contract.outcome(check, strategy, net) for net in nets]
    assert [str(o) for o in outcomes if o.status == "failed"] == []
    if all(o.status == "skipped" for o in outcomes):
        pytest.skip(outcomes[0].reason)


@pytest.mark.slow
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "identity", "sigmoid"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("hidden_size", [1, 2, 5, 16])
def test_contract_on_the_grid(hidden_size, num_layers, nonlinearity):
    rest = itertools.product((1, 2, 7, 30), (1, 3), (1.0, 0.5), ("sum", "mean", "last"))
    for (num_steps, batch_size, leak, loss), strategy in itertools.product(
        rest, STRATEGIES.values()
    ):
        net = Net(hidden_size, num_steps, batch_size, num_layers, nonlinearity, leak, loss)
        contract.check_forward(strategy, net)
        contract.check_gradient(strategy, net)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "identity", "sigmoid"])
@pytest.mark.parametrize("leak", [1.0, 0.5])
def test_full_equals_finite_differences(nonlinearity, leak):
    net = Net(3, 6, 2, num_layers=2, nonlinearity=nonlinearity, leak=leak)
    analytic = gradients(Full(), net)
    rnn, (input, hx) = net.rnn(Full()), net.data()
    named_tensors = {**dict(rnn.named_parameters()), "input": input, "hx": hx}
    numeric = {name: torch.zeros_like(tensor) for name, tensor in named_tensors.items()}
    eps = 1e-5
    with torch.no_grad():
        for name, tensor in named_tensors.items():
            entries, slopes = tensor.view(-1), numeric[name].view(-1)
            for i, value in enumerate(entries.tolist()):
                losses = []
                for entries[i] in (value + eps, value - eps):
                    losses.append(net.loss_of(rnn(input, hx)[0]))
                entries[i] = value
                slopes[i] = (losses[0] - losses[1]) / (2 * eps)
    contract.assert_same(analytic, numeric, "finite differences", 1e-6)
