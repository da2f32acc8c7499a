"""What can be timed, by name: torch.nn.RNN, jax.lax.scan, and any gradient strategy.

All do the same: from an input without gradient and an immediate credit v, they return the output
and dE/dweights, E = sum(output * v), by `output.backward(v)`. torch is imported inside, so that
what can be timed is known before it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import OmegaConf

from bptt_lab.commands.bench.workload import BOTH, FORWARD, Pass, Problem
from bptt_lab.config import classes
from bptt_lab.config.schema import Component
from bptt_lab.config.strategies import from_name, packaged
from bptt_lab.core.validation import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

BASELINE, PRODUCTS = "nn.RNN", "rtrl-products"
USUAL = (BASELINE, "full", "full-reference", "checkpointed", "truncated", "autograd", "jax")
PAST_FACING = "bptt_lab.gradients.past.PastFacing"


# Returns the output, None where there is none, and the gradients by weight's name.
Call = Callable[[], tuple[Any, dict[str, Any]]]


class Prepared(NamedTuple):
    """Calls ready to be timed; nothing of a call's work outlives what it returns."""

    passes: dict[Pass, Call]
    claims: str = "exact"  # exact | unbiased | biased; no claim where there is no output


@dataclass(frozen=True)
class Implementation:
    """One way to run a layer forward and backward, by its name."""

    name: str
    prepare: Callable[[Problem], Prepared]  # raises what measure leaves out
    needs: str = "torch"  # a module that must be installed

    def missing(self) -> str | None:
        """Say what is not installed, without importing it."""
        if find_spec(self.needs) is not None:
            return None
        return f"{self.name}: {self.needs} is not installed; pip install 'bptt_lab[{self.needs}]'"


def find(name: str) -> Implementation:
    """Return the implementation of a name: of OTHERS, or a strategy's, as `rtrl:block=128`.

    Raises:
        ConfigError: for an unknown name or setting, or a value outside its limits.
    """
    if name in OTHERS:
        return OTHERS[name]
    option, *settings = name.split(":")
    names = packaged().trusted()
    if option not in names:
        raise ConfigError(f"--only={name}: must be one of {', '.join([*OTHERS, *names])}")
    if not all("=" in setting for setting in settings):
        raise ConfigError(f"--only={name}: must give settings as {option}:key=value")
    given: Any = OmegaConf.to_container(OmegaConf.from_dotlist(settings))
    return Implementation(name, partial(strategy, component=_component(option, given)))


def past_facing() -> list[str]:
    """Return full, every strategy that carries influence forward, and RTRL's products."""
    found = [n for n in packaged().trusted() if classes.descends(_component(n).target, PAST_FACING)]
    return [BASELINE, "full", *found, PRODUCTS]


def _component(name: str, given: Mapping[str, Any] | None = None) -> Component:
    return from_name(name, name, given or {}, packaged())


def nn_rnn(problem: Problem) -> Prepared:
    """torch.nn.RNN, the baseline; cuDNN's on a GPU."""
    import torch

    return _module(torch.nn.RNN(problem.shape.I, problem.shape.H), problem)


def strategy(problem: Problem, component: Component) -> Prepared:
    """VanillaRNN with a gradient strategy, on whichever kernel it chooses: on a CPU the C core."""
    from bptt_lab.nn.rnn import VanillaRNN
    from bptt_lab.training.build import make

    gradient = make("gradient", component)
    rnn = VanillaRNN(problem.shape.I, problem.shape.H, gradient=gradient)
    return _module(rnn, problem)._replace(claims=gradient.claim)


def full_reference(problem: Problem) -> Prepared:
    """The strategy full on operations of torch, as where the C core was not built."""
    from unittest.mock import patch

    from bptt_lab.core.kernels import core

    prepared = strategy(problem, Component("bptt_lab.gradients.full.Full"))
    without_core = patch.object(core, "supports", lambda *tensors: False)
    passes = {which: without_core(call) for which, call in prepared.passes.items()}
    return prepared._replace(passes=passes)


def rtrl_products(problem: Problem) -> Prepared:
    """The products alone that exact influence consists of: the least that rtrl can take.

    A product (N, H, H) by (N, H, H (H + I + 1)) a step.
    """
    import torch

    L, N, I, H = problem.shape
    make: Any = {"device": problem.input.device, "dtype": problem.input.dtype}
    jacobian = torch.randn(N, H, H, **make)
    influence = torch.randn(N, H, H * (H + I + 1), **make)
    out = torch.empty_like(influence)

    def both() -> tuple[None, dict[str, Any]]:
        for _ in range(L):
            torch.bmm(jacobian, influence, out=out)
        return None, {}

    return Prepared({BOTH: both}, claims="")


def jax_scan(problem: Problem) -> Prepared:
    """jax.lax.scan under jit, with value and gradient from one vjp: output.backward(v)'s twin.

    XLA sizes its thread pool once, when its client is made, by PJRT_NPROC; a new thread count
    therefore makes a new client.
    """
    # JAX would otherwise take most of the GPU's memory from those it is compared with.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    threads, threads_before = str(problem.conditions.threads), os.environ.get("PJRT_NPROC")
    os.environ["PJRT_NPROC"] = threads

    import torch

    # By name, so that mypy says the same with JAX and without.
    jax: Any = import_module("jax")
    jnp: Any = import_module("jax.numpy")
    if threads_before != threads:
        import_module("jax.extend.backend").clear_backends()
    jax.config.update("jax_enable_x64", problem.input.dtype == torch.float64)
    precision = "tensorfloat32" if problem.conditions.precision == "tf32" else "highest"
    jax.config.update("jax_default_matmul_precision", precision)
    try:
        device = jax.devices("gpu" if problem.input.is_cuda else "cpu")[0]
    except RuntimeError as error:
        raise NotImplementedError("it sees no GPU; pip install 'jax[cuda12]'") from error

    def convert(tensor: Tensor) -> Any:
        return jax.device_put(jnp.from_dlpack(tensor.cpu()), device)

    def run(weights: dict[str, Any], x: Any) -> Any:
        bias = weights["bias_ih_l0"] + weights["bias_hh_l0"]
        projected = x @ weights["weight_ih_l0"].T + bias

        def step(h: Any, projected_t: Any) -> tuple[Any, Any]:
            h = jnp.tanh(projected_t + h @ weights["weight_hh_l0"].T)
            return h, h

        return jax.lax.scan(step, jnp.zeros_like(projected[0]), projected)[1]

    def value_and_gradient(weights: dict[str, Any], x: Any, v: Any) -> tuple[Any, Any]:
        output, pull_back = jax.vjp(lambda w: run(w, x), weights)
        return output, pull_back(v)[0]

    run, value_and_gradient = jax.jit(run), jax.jit(value_and_gradient)
    weights = {name: convert(weight) for name, weight in problem.weights.items()}
    x, v = convert(problem.input), convert(problem.v)
    return Prepared(
        {
            BOTH: lambda: jax.block_until_ready(value_and_gradient(weights, x, v)),
            FORWARD: lambda: (jax.block_until_ready(run(weights, x)), {}),
        }
    )


def _module(rnn: nn.Module, problem: Problem) -> Prepared:
    import torch

    rnn.to(problem.input)
    rnn.load_state_dict(problem.weights)
    parameters = dict(rnn.named_parameters())

    @torch.no_grad()
    def forward() -> tuple[Tensor, dict[str, Any]]:
        return rnn(problem.input)[0], {}

    def both() -> tuple[Tensor, dict[str, Any]]:
        output: Tensor = rnn(problem.input)[0]
        output.backward(problem.v)  # type: ignore[no-untyped-call]
        gradients = {name: parameter.grad for name, parameter in parameters.items()}
        for parameter in parameters.values():
            parameter.grad = None
        return output.detach(), gradients

    return Prepared({BOTH: both, FORWARD: forward})


# What is no gradient strategy: those are found by the names of their options.
OTHERS = {
    each.name: each
    for each in (
        Implementation(BASELINE, nn_rnn),
        Implementation("full-reference", full_reference),
        Implementation(PRODUCTS, rtrl_products),
        Implementation("jax", jax_scan, needs="jax"),
    )
}
