"""The contestants: each a function that prepares one layer's forward and backward pass.

To add one, write its function here under `@contestant`. All do the same: from an input without
gradient and an immediate credit v, they return the output and dE/dweights, E = sum(output * v). v
is handed to the backward pass as it is, `output.backward(v)`, which spares everyone the product
and the sum. torch is imported inside, so that the names are known before it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bptt_lab.commands.bench.contestant import CONTESTANTS, Prepared, UnavailableError, contestant

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bptt_lab.commands.bench.problem import Problem
    from bptt_lab.gradients.base import GradientStrategy

__all__ = ["BASELINE", "CONTESTANTS"]
BASELINE = "nn.RNN"


@contestant(BASELINE)
def nn_rnn(problem: Problem) -> Prepared:
    """torch.nn.RNN, the baseline; cuDNN's on a GPU."""
    import torch

    return _module(torch.nn.RNN(problem.shape.I, problem.shape.H), problem)


@contestant("full")
def full(problem: Problem) -> Prepared:
    """VanillaRNN as it is by default, on whichever kernel it chooses: on a CPU the C core."""
    from bptt_lab.gradients.full import Full

    return _vanilla(Full(), problem)


@contestant("full-reference")
def full_reference(problem: Problem) -> Prepared:
    """The same on operations of torch, as where the C core was not built."""
    prepared = full(problem)

    def forward() -> Any:
        with _without_core():
            return prepared.forward()

    def both() -> tuple[Any, dict[str, Any]]:
        with _without_core():
            return prepared.both()

    return Prepared(forward, both, prepared.to_torch)


@contestant("checkpointed", needs="bptt_lab.gradients.checkpointed")
def checkpointed(problem: Problem) -> Prepared:
    """Full BPTT that recomputes states instead of keeping them."""
    from bptt_lab.gradients.checkpointed import Checkpointed

    return _vanilla(Checkpointed(), problem)


@contestant("truncated", biased=True)
def truncated(problem: Problem) -> Prepared:
    """Credit cut every 16 steps."""
    from bptt_lab.gradients.truncated import Truncated

    return _vanilla(Truncated(k=16), problem)


@contestant("autograd")
def autograd(problem: Problem) -> Prepared:
    """Autograd's own graph over a loop in Python."""
    from bptt_lab.gradients.autograd import Autograd

    return _vanilla(Autograd(), problem)


@contestant("jax", needs="jax")
def jax_scan(problem: Problem) -> Prepared:
    """jax.lax.scan under jit, with value and gradient from one vjp: output.backward(v)'s twin.

    XLA sizes its thread pool once, when its client is made, by PJRT_NPROC; a new thread count
    therefore makes a new client.
    """
    # JAX would otherwise take most of the GPU's memory from those it is compared with.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    threads_before = os.environ.get("PJRT_NPROC")
    os.environ["PJRT_NPROC"] = str(problem.threads)

    import numpy as np
    import torch

    # By name, so that mypy says the same with JAX and without.
    jax: Any = import_module("jax")
    jnp: Any = import_module("jax.numpy")
    if threads_before != str(problem.threads):
        import_module("jax.extend.backend").clear_backends()
    jax.config.update("jax_enable_x64", problem.dtype == torch.float64)
    precision = "tensorfloat32" if problem.precision.tf32 else "highest"
    jax.config.update("jax_default_matmul_precision", precision)
    try:
        device = jax.devices("gpu" if problem.device.type == "cuda" else "cpu")[0]
    except RuntimeError as error:
        raise UnavailableError("jax: it sees no GPU; pip install 'jax[cuda12]'") from error

    def convert(tensor: Tensor) -> Any:
        array = tensor.cpu().double().numpy()  # numpy has no bfloat16
        return jax.device_put(array.astype(jnp.dtype(problem.precision.dtype)), device)

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
        lambda: jax.block_until_ready(run(weights, x)),
        lambda: jax.block_until_ready(value_and_gradient(weights, x, v)),
        lambda array: torch.from_numpy(np.asarray(array).astype(np.float64)),
    )


def _vanilla(gradient: GradientStrategy, problem: Problem) -> Prepared:
    from bptt_lab.nn.rnn import VanillaRNN

    return _module(VanillaRNN(problem.shape.I, problem.shape.H, gradient=gradient), problem)


def _module(rnn: nn.Module, problem: Problem) -> Prepared:
    import torch

    rnn.to(problem.device, problem.dtype)
    rnn.load_state_dict(problem.weights)
    parameters = dict(rnn.named_parameters())

    def forward() -> Tensor:
        with torch.no_grad():
            output: Tensor = rnn(problem.input)[0]
        return output

    def both() -> tuple[Tensor, dict[str, Any]]:
        output: Tensor = rnn(problem.input)[0]
        output.backward(problem.v)  # type: ignore[no-untyped-call]
        gradients = {name: parameter.grad for name, parameter in parameters.items()}
        for parameter in parameters.values():
            parameter.grad = None
        return output.detach(), gradients

    return Prepared(forward, both, lambda tensor: tensor)


@contextmanager
def _without_core() -> Iterator[None]:
    """Have bptt_lab.core.recurrence find nothing that the C core could work on."""
    from bptt_lab.core.kernels import core

    supports = core.supports
    core.supports = lambda *tensors: False
    try:
        yield
    finally:
        core.supports = supports
