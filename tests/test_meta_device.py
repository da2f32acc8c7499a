"""Every strategy, loss, score, step and instrument on the `meta` device: placement without data.

There a tensor has a shape, a type and a place. One made on the CPU by mistake meets the others and
is refused, as it would be on a GPU. Where a number is needed, such as by `item`, `nonzero` or
`tolist`, ones are the answer, and NEEDS_DATA of without_data.py names the function. Numbers are
drawn on the CPU, from generators of our own, and moved: that is allowed everywhere.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import OmegaConf
from tasks.samples import SAMPLES
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from without_data import NEEDS_DATA, WithoutData

from bptt_lab import VanillaRNN, diagnostics
from bptt_lab.core.kernels import core
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients import oracle
from bptt_lab.gradients.truncated import Truncated
from bptt_lab.nn import Fleet
from bptt_lab.nn.initialisation import initialise
from bptt_lab.nn.losses import LOSSES
from bptt_lab.nn.segmented import segmented_loss
from bptt_lab.tasks.base import SequenceBatch, SequenceDataModule
from bptt_lab.training import callbacks
from bptt_lab.training.module import SequenceModule
from bptt_lab.training.schedules import Cosine

CONF = Path(__file__).parents[1] / "conf"
L, N, I, H = 7, 3, 2, 4
pytestmark = pytest.mark.usefixtures("meta")


@pytest.fixture
def meta(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a test without data, and hold it to NEEDS_DATA. A task has its data from before."""
    if "task" in request.fixturenames:
        request.getfixturevalue("task")

    def chosen(*_: Any, **__: Any) -> None:
        raise AssertionError("the C core was chosen for tensors that have no data on the CPU")

    monkeypatch.setattr(core, "unroll", chosen)
    monkeypatch.setattr(core, "sweep", chosen)
    monkeypatch.setattr(core, "many", chosen)
    with WithoutData() as mode:
        yield
    assert mode.asked <= NEEDS_DATA.keys()


def _tensor(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def _names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def _plugin(group: str, name: str, **settings: Any) -> Any:
    section = OmegaConf.merge(OmegaConf.load(CONF / group / f"{name}.yaml"), settings)
    return instantiate(OmegaConf.create({"seed": 0, "section": section}).section, _convert_="all")


_strategy = partial(_plugin, "gradient")


def _net(**settings: Any) -> VanillaRNN:
    return VanillaRNN(I, H, device="meta", **{"leak": 0.5, "num_layers": 2, **settings})


STRATEGIES = [
    (name, {"mode": mode, "k": 3} if mode else {})
    for name in _names("gradient")
    for mode in (("chunk", "lag", "window", "tail") if name == "truncated" else ("",))
]


def _layers(name: str) -> int:
    """Two, or one for a strategy that refuses more."""
    with contextlib.suppress(ConfigError):
        rnn, strategy = _net(), _strategy(name)
        strategy.unroll(rnn, _tensor(L, N, I), strategy.init_carry(rnn, N))
        return 2
    return 1


EVEN, RAGGED = None, [7, 5, 2]
# Every second strategy on even sequences, the others on ragged ones; with -m slow all on both.
CASES = [
    pytest.param(*strategy, lengths, marks=pytest.mark.slow if (i + j) % 2 else ())
    for i, strategy in enumerate(STRATEGIES)
    for j, lengths in enumerate((EVEN, RAGGED))
]


@pytest.mark.parametrize(("name", "settings", "lengths"), CASES, ids=lambda value: str(value))
def test_strategies(name: str, settings: Any, lengths: Any) -> None:
    layers, strategy = _layers(name), _strategy(name, **settings)
    rnn = _net(num_layers=layers, dropout=0.3 * (layers > 1), gradient=strategy)
    carry = strategy.init_carry(rnn, N)
    for _ in range(2):
        output, h_n, *_ = strategy.states(rnn, _tensor(L, N, I), carry, lengths)
        (output.sum() + h_n.square().sum()).backward()
        _, carry = strategy.unroll(rnn, _tensor(L, N, I), carry)
    assert all(p.grad is not None and p.grad.is_meta for p in rnn.parameters())
    assert all(t.is_meta for t in tree_leaves(carry) if isinstance(t, Tensor))
    with contextlib.suppress(NotImplementedError):  # of a rule that forms no credit
        assert strategy.credit(rnn, _tensor(L, N, I), carry.hx, output.detach()).is_meta


def test_gradients_of_input_and_state() -> None:
    input, hx = _tensor(L, N, I).requires_grad_(), _tensor(2, N, H).requires_grad_()
    output, h_n = _net()(input, hx)
    (output.sum() + h_n.sum()).backward()
    assert input.grad.is_meta and hx.grad.is_meta


@pytest.mark.parametrize("gradient", [None, Truncated(k=2), Truncated(k=2, mode="lag")], ids=repr)
def test_fleet(gradient: Any) -> None:
    fleet = Fleet(3, I, H, 2, leak=[1.0, 0.5, 0.1], device="meta", gradient=gradient)
    output, h_n = Fleet.from_networks(fleet.networks())(_tensor(L, N, I), _tensor(3, 2, N, H))
    (output.sum() + h_n.sum()).backward()
    assert output.shape == (3, L, N, H) and output.is_meta


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    prediction = _tensor(L, N, 5).requires_grad_()
    classes = torch.zeros(L, N, dtype=torch.long, device="meta")
    target = _tensor(L, N, 5) if name in ("mse", "binary_cross_entropy") else classes
    elements = LOSSES[name](prediction, target)
    assert elements.shape == (L, N)
    elements.sum().backward()


def test_segmented_loss() -> None:
    rnn, readout = _net(), nn.Linear(H, I, device="meta")
    count = torch.ones(L, N, dtype=torch.bool, device="meta")
    data = (_tensor(L, N, I), _tensor(L, N, I), count, _tensor(2, N, H))
    total, _ = segmented_loss(rnn, readout, LOSSES["mse"], *data, every=3)
    total.backward()


@pytest.mark.parametrize("init", ["uniform", "orthogonal", "identity", "gaussian"])
def test_initialisation(init: str) -> None:
    rnn = _net()
    initialise(rnn, init, 1.0, None, torch.Generator())
    assert all(p.is_meta for p in rnn.parameters())


def test_the_oracle() -> None:
    terms = oracle.terms(_net(), _tensor(L, N, I), _loss)
    masked = oracle.masked_gradient(terms, Truncated(k=3).mask(L))
    assert all(g.is_meta for g in (*masked.values(), *oracle.lag_terms(terms).values()))


# Tasks, the module's steps and the instruments


class Trainer(SimpleNamespace):
    """What a module and its callbacks ask of Lightning's trainer, in a fit of one step."""

    def __init__(self, task: SequenceDataModule, folder: Path) -> None:
        strategy = SimpleNamespace(reduce=lambda value, reduce_op: value)
        loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=0))
        super().__init__(
            datamodule=task, strategy=strategy, fit_loop=loop, world_size=1, global_rank=0,
            testing=False, global_step=0, is_last_batch=False, current_epoch=0, max_epochs=1,
            max_steps=-1, optimizers=[SimpleNamespace(param_groups=[{"lr": 0.1}])],
            is_global_zero=True, accumulate_grad_batches=1, loggers=[TensorBoardLogger(folder)],
        )  # fmt: skip

    __hash__ = object.__hash__


@pytest.fixture
def task(request: pytest.FixtureRequest, tmp_path: Path) -> SequenceDataModule:
    name = getattr(request, "param", "adding")
    if name == "mnist1d":
        pytest.importorskip("mnist1d")
    path = {"path": str(SAMPLES[name](tmp_path))} if name in SAMPLES else {}
    task = _plugin("dataset", name, batch_size=N, chunk_length=6, **path)
    task.cached("train", 0), task.cached("val", 0)
    return task


def _module(task: SequenceDataModule, strategy: Any = None, **settings: Any) -> SequenceModule:
    rnn = VanillaRNN(task.input_size, H, gradient=strategy)
    readout = nn.Linear(H, task.output_size)
    optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.1)  # noqa: E731
    module = SequenceModule(rnn, readout, LOSSES[task.loss], task.score, optimizer, **settings)
    return module.to("meta")


def _batch(task: SequenceDataModule) -> Any:
    input, target, mask, is_first = next(iter(task.train_dataloader()))
    return SequenceBatch(input.to("meta"), target.to("meta"), mask.to("meta"), is_first)


@pytest.mark.parametrize(
    "task, segment_length",
    [*((name, None) for name in _names("dataset")), ("adding", 3)],
    indirect=["task"],
)
def test_steps_of_the_module(task: SequenceDataModule, segment_length: Any, tmp_path: Path) -> None:
    module = _module(task, segment_length=segment_length)
    module.trainer = trainer = Trainer(task, tmp_path)
    batch, data = _batch(task), task.cached("val", 0)
    assert task.encode(data.input[:6, :N].to("meta")).is_meta
    for index in range(2):
        module.on_train_batch_start(batch, index)
        module.training_step(batch._replace(is_first=index == 0), index).backward()
    assert all(p.grad.is_meta for p in module.parameters())
    module.on_validation_epoch_start()
    with torch.no_grad():
        module.validation_step(batch, 0)
    module.log_dict = lambda *_, **__: None
    module.on_validation_epoch_end()
    del trainer


def _instruments() -> list[type[Callback]]:
    """The callbacks of the package that measure: those that are told how often."""
    found = []
    for module in pkgutil.iter_modules(callbacks.__path__, f"{callbacks.__name__}."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if kind.__module__ == module.name and not kind.__subclasses__():
                found += [kind] * ("every_n_steps" in inspect.signature(kind).parameters)
    return found


@pytest.mark.parametrize("kind", _instruments(), ids=lambda kind: kind.__name__)
def test_instruments(kind: type[Callback], task: SequenceDataModule, tmp_path: Path) -> None:
    module = _module(task, _strategy("truncated", k=2))
    module.trainer = trainer = Trainer(task, tmp_path)
    given = {
        "every_n_steps": 1,
        "divergence": "stop",
        "schedule": Cosine(warmup_steps=1),
        "strategies": {"lag": _strategy("truncated", mode="lag", k=2), "uoro": _strategy("uoro")},
    }
    wanted = inspect.signature(kind).parameters
    watch = kind(**{name: value for name, value in given.items() if name in wanted})
    batch = _batch(task)
    watch.on_train_start(trainer, module)
    watch.on_train_batch_start(trainer, module, batch, 0)
    module.on_train_batch_start(batch, 0)
    module.training_step(batch, 0).backward()
    watch.on_before_optimizer_step(trainer, module, None)
    trainer.global_step = 1
    watch.on_train_batch_end(trainer, module, None, batch, 0)
    watch.load_state_dict(watch.state_dict())
    watch.on_train_epoch_end(trainer, module)
    watch.on_train_end(trainer, module)


def _loss(output: Tensor) -> Tensor:
    return output[-1].square().sum()


def _spectrum(rnn: VanillaRNN, input: Tensor) -> None:
    spectrum = diagnostics.lag_spectrum(rnn, input, _loss)
    assert spectrum.cosine["total"].is_meta and spectrum.relative_error["total"].is_meta
    spectrum.effective_lag(0.5)
    spectrum.smallest_k(0.1)


INSTRUMENTS = {
    "alignment": lambda rnn, x: diagnostics.alignment(
        rnn, x, _loss, {"uoro": _strategy("uoro"), "full": _strategy("full")}, draws=3
    ),
    "credit_flow": lambda rnn, x: diagnostics.credit_flow(rnn, x, _loss),
    "jacobian_spectrum": lambda rnn, x: diagnostics.jacobian_spectrum(rnn, x, lag=3),
    "lag_spectrum": _spectrum,
    "lyapunov_spectrum": lambda rnn, x: diagnostics.lyapunov_spectrum(rnn, x),
    "omega": lambda rnn, x: diagnostics.omega(rnn, x, _loss),
}


@pytest.mark.parametrize("name", [n for n in diagnostics.__all__ if n.islower()])
def test_diagnostics(name: str) -> None:
    INSTRUMENTS[name](_net(num_layers=1 if name == "alignment" else 2), _tensor(L, N, I))


# The tests themselves


def test_a_misplaced_tensor_is_refused() -> None:
    with pytest.raises(AssertionError, match="CPU tensor"):
        _tensor(3) + torch.ones(3)
    with pytest.raises(AssertionError, match="CPU tensor"):
        _tensor(3)[torch.tensor([0, 1])]
    assert (_tensor(3) * torch.tensor(2.0)).is_meta
    assert torch.ones(3).to("meta").is_meta


def test_whoever_needs_data_is_known_by_its_present_name() -> None:
    for name in NEEDS_DATA:
        pkgutil.resolve_name(f"bptt_lab.{name}")


def test_the_core_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "available", lambda: True)
    assert not core.supports(_tensor(L, N, I), _tensor(N, H))
    assert not core.supports(torch.ones(L, N, I), _tensor(N, H))
