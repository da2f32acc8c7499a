"""Time a step of R small networks at once: Fleet with Adam, and JAX's jit(vmap(step)).

    python scripts/fleet_against_jax.py          # R = 16 and 64, 2 threads; minutes

Both do the same: R networks with weights of their own, an input for each, the mean square of a
linear readout of the last state, its gradient, and Adam. They take turns in one process, and the
best of all turns counts. It needs JAX: pip install 'bptt_lab[jax]'.
"""

import argparse
import os
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch.nn import Parameter
from torch.nn.functional import mse_loss

from bptt_lab.nn import Fleet

SHAPES = [(8, 16, 4, 16), (16, 32, 2, 32), (64, 32, 1, 64), (64, 32, 1, 128)]  # L, N, I, H
Step = Callable[[], float]
LR, BETAS, EPS = 1e-3, (0.9, 0.999), 1e-8


def ours(fleet: Fleet, readout: dict[str, Any], x: Any, target: Any) -> Step:
    """One training step of the fleet, by torch's own Adam; returns the sum of all losses."""
    w, b = (Parameter(torch.tensor(readout[name])) for name in ("w", "b"))
    parameters = [*fleet.parameters(), w, b]
    optimizer = torch.optim.Adam(parameters, LR, BETAS, EPS, fused=True)
    input, wanted = torch.tensor(x), torch.tensor(target)

    def step() -> float:
        _, h_n = fleet(input)
        output = torch.baddbmm(b[:, None], h_n[:, 0], w)
        loss = mse_loss(output, wanted, reduction="sum") / wanted.shape[1]
        for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.grad = gradient
        optimizer.step()
        return float(loss.detach())

    return step


def theirs(weights: dict[str, Any], x: Any, target: Any) -> Step:
    """The same in JAX, from the same weights."""
    jax: Any = import_module("jax")
    jnp: Any = import_module("jax.numpy")

    def loss_of(p: dict[str, Any], x: Any, target: Any) -> Any:
        projected = x @ p["weight_ih_l0"].T + p["bias_ih_l0"] + p["bias_hh_l0"]

        def recur(h: Any, projected_t: Any) -> tuple[Any, None]:
            return jnp.tanh(projected_t + h @ p["weight_hh_l0"].T), None

        h, _ = jax.lax.scan(recur, jnp.zeros_like(projected[0]), projected)
        return jnp.mean((h @ p["w"] + p["b"] - target) ** 2)

    def one(p: Any, m: Any, v: Any, t: Any, x: Any, target: Any) -> Any:
        loss, g = jax.value_and_grad(loss_of)(p, x, target)
        m = jax.tree.map(lambda m, g: BETAS[0] * m + (1 - BETAS[0]) * g, m, g)
        v = jax.tree.map(lambda v, g: BETAS[1] * v + (1 - BETAS[1]) * g * g, v, g)
        rate, root = LR / (1 - BETAS[0] ** t), jnp.sqrt(1 - BETAS[1] ** t)
        p = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + EPS), p, m, v)
        return p, m, v, loss

    batched = jax.vmap(one, in_axes=(0, 0, 0, None, 0, 0))
    step_all = jax.jit(batched, donate_argnums=(0, 1, 2))
    p = {name: jnp.array(weight) for name, weight in weights.items()}
    state = [p, jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p)]
    x, target, count = jnp.array(x), jnp.array(target), 0

    def step() -> float:
        nonlocal count
        count += 1
        *state[:], losses = step_all(*state, jnp.float32(count), x, target)
        return float(losses.sum())

    return step


def compare(num_networks: int, shape: tuple[int, ...], seconds: float) -> list[float]:
    """Milliseconds a step and network: ours, then JAX's."""
    L, N, I, H = shape
    torch.manual_seed(0)
    fleet = Fleet(num_networks, I, H)
    draw = np.random.default_rng(0).standard_normal
    x = draw((num_networks, L, N, I), dtype=np.float32)
    target = draw((num_networks, N, 1), dtype=np.float32)
    readout = {
        "w": draw((num_networks, H, 1), dtype=np.float32) / np.float32(np.sqrt(H)),
        "b": np.zeros((num_networks, 1), np.float32),
    }
    weights = {name: p.detach().numpy().copy() for name, p in fleet.named_parameters()}
    steps = [ours(fleet, readout, x, target), theirs({**weights, **readout}, x, target)]
    for _ in range(5):  # the same numbers: the same work
        one, other = (step() for step in steps)
        assert abs(one - other) < 1e-3 * abs(one), (one, other)
    best = [float("inf")] * 2
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for i, step in enumerate(steps):
            for _ in range(3):
                begin = time.perf_counter()
                step()
                best[i] = min(best[i], time.perf_counter() - begin)
    return [1e3 * one / num_networks for one in best]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--networks", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--seconds", type=float, default=10, help="for each row")
    options = parser.parse_args()
    os.environ["PJRT_NPROC"] = str(options.threads)  # XLA reads it once
    torch.set_num_threads(options.threads)
    print("milliseconds a step and network")
    print(f"{'L, N, I, H':>18} {'R':>4} {'Fleet':>8} {'JAX':>8} {'ratio':>6}")
    for shape in SHAPES:
        for count in options.networks:
            own, other = compare(count, shape, options.seconds)
            row = f"{shape!s:>18} {count:4} {own:8.3f} {other:8.3f} {other / own:6.2f}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
