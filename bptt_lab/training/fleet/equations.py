"""torch.optim's equations on a matrix with a replica in each row.

Every operation is elementwise and rounds as the one that torch's single-tensor path does, in its
order, with a column of settings for each number of it. What is fused there is fused here: x + c y
with a column c is `addcmul`.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop

Number = float | Tensor  # of all rows alike, or a column with one for each
Numbers = Sequence[Number]
Group = dict[str, Any]  # an optimizer's param_groups[0]
State = dict[str, Tensor]  # the rows of each state, by torch.optim's names


def _add(x: Tensor, y: Tensor, c: Number, out: Tensor | None = None) -> Tensor:
    """Return x + c y, rounded once where torch's add with an alpha is."""
    if isinstance(c, Tensor):
        return torch.addcmul(x, y, c, out=out)
    return torch.add(x, y, alpha=c, out=out)


def _addcmul_(x: Tensor, y: Tensor, z: Tensor, c: Number) -> None:
    x.addcmul_(y * c, z) if isinstance(c, Tensor) else x.addcmul_(y, z, value=c)


def _addcdiv_(x: Tensor, y: Tensor, z: Tensor, c: Number) -> None:
    x.addcdiv_(y * c, z) if isinstance(c, Tensor) else x.addcdiv_(y, z, value=c)


class Rule(NamedTuple):
    """One class of torch.optim: its states, which terms it has, its numbers, and its equations."""

    state: tuple[str, ...]
    # Of a group, of the states that there are, and of the step, from 1 on.
    kind: Callable[[Group, set[str], float], Hashable]
    needs: Callable[[Any], set[str]]  # the states that a kind has from its first step on
    # Of a group, of the step, and of the product of all factors up to then.
    numbers: Callable[[Group, float, float], tuple[float, ...]]
    update: Callable[[Any, Tensor, Tensor, State, Numbers], None]
    factor: Callable[[Group, float], float] | None = None  # of a step, for a product of all
    scalars: tuple[str, ...] = ()  # what the state calls that product


def _moment_numbers(group: Group) -> tuple[float, ...]:
    (beta1, beta2), decay = group["betas"], group["weight_decay"]
    decay = 1 - group["lr"] * decay if group["decoupled_weight_decay"] else decay
    return decay, 1 - beta1, beta2, 1 - beta2


def _moments(kind: Any, p: Tensor, g: Tensor, state: State, numbers: Numbers) -> Tensor:
    """Decay, and take the gradient into both means, as Adam does; return it."""
    decay, one_minus_beta1, beta2, one_minus_beta2 = numbers[:4]
    decays, decoupled = kind[:2]
    if decays and decoupled:
        p.mul_(decay)
    elif decays:
        g = _add(g, p, decay)
    state["exp_avg"].lerp_(g, one_minus_beta1)
    _addcmul_(state["exp_avg_sq"].mul_(beta2), g, g, one_minus_beta2)
    return g


def _adam_numbers(group: Group, step: float, product: float) -> tuple[float, ...]:
    beta1, beta2 = group["betas"]
    step_size, root = group["lr"] / (1 - beta1**step), (1 - beta2**step) ** 0.5
    return *_moment_numbers(group), root, group["eps"], -step_size


def _adam(kind: Any, p: Tensor, g: Tensor, state: State, numbers: Numbers) -> None:
    _moments(kind, p, g, state, numbers)
    root, eps, minus_step_size = numbers[4:]
    divisor = state["exp_avg_sq"].sqrt().div_(root).add_(eps)
    _addcdiv_(p, state["exp_avg"], divisor, minus_step_size)


def _sgd_numbers(group: Group, step: float, product: float) -> tuple[float, ...]:
    return group["weight_decay"], group["momentum"], 1 - group["dampening"], -group["lr"]


def _sgd(kind: Any, p: Tensor, g: Tensor, state: State, numbers: Numbers) -> None:
    decay, momentum, undamped, minus_lr = numbers
    decays, moves, nesterov, first = kind
    if decays:
        g = _add(g, p, decay)
    if moves:
        buffer = state["momentum_buffer"]
        if first:
            buffer.copy_(g)
        else:
            _add(buffer.mul_(momentum), g, undamped, out=buffer)
        g = _add(g, buffer, momentum) if nesterov else buffer
    _add(p, g, minus_lr, out=p)


def _rmsprop_numbers(group: Group, step: float, product: float) -> tuple[float, ...]:
    settings = (group[name] for name in ("weight_decay", "alpha", "eps", "momentum"))
    return *settings, 1 - group["alpha"], -group["lr"]


def _rmsprop(kind: Any, p: Tensor, g: Tensor, state: State, numbers: Numbers) -> None:
    decay, alpha, eps, momentum, one_minus_alpha, minus_lr = numbers
    decays, moves = kind
    if decays:
        g = _add(g, p, decay)
    square = state["square_avg"]
    _addcmul_(square.mul_(alpha), g, g, one_minus_alpha)
    root = square.sqrt().add_(eps)
    if moves:
        buffer = state["momentum_buffer"].mul_(momentum).addcdiv_(g, root)
        _add(p, buffer, minus_lr, out=p)
    else:
        _addcdiv_(p, g, root, minus_lr)


def _adagrad_numbers(group: Group, step: float, product: float) -> tuple[float, ...]:
    rate = group["lr"] / (1 + (step - 1) * group["lr_decay"])
    return group["weight_decay"], group["eps"], -rate


def _adagrad(kind: Any, p: Tensor, g: Tensor, state: State, numbers: Numbers) -> None:
    decay, eps, minus_rate = numbers
    if kind:
        g = _add(g, p, decay)
    total = state["sum"].addcmul_(g, g, value=1)
    _addcdiv_(p, g, total.sqrt().add_(eps), minus_rate)


def _mu(group: Group, step: float) -> float:
    beta1: float = group["betas"][0]
    return float(beta1 * (1.0 - 0.5 * (0.96 ** (step * group["momentum_decay"]))))


def _nadam_numbers(group: Group, step: float, product: float) -> tuple[float, ...]:
    lr, mu, mu_next = group["lr"], _mu(group, step), _mu(group, step + 1)
    of_gradient = -lr * (1.0 - mu) / (1.0 - product)
    of_mean = (-lr * mu_next) / (1.0 - product * mu_next)
    correction = 1 - group["betas"][1] ** step
    return *_moment_numbers(group), correction, group["eps"], of_gradient, of_mean


def _nadam(kind: Any, p: Tensor, g: Tensor, state: State, numbers: Numbers) -> None:
    g = _moments(kind, p, g, state, numbers)
    correction, eps, of_gradient, of_mean = numbers[4:]
    root = state["exp_avg_sq"].div(correction).sqrt().add_(eps)
    _addcdiv_(p, g, root, of_gradient)
    _addcdiv_(p, state["exp_avg"], root, of_mean)


def _rho(group: Group, step: float) -> tuple[float, float]:
    """The length of RAdam's average in the end, and at a step."""
    beta2 = group["betas"][1]
    rho_inf = 2 / (1 - beta2) - 1
    return rho_inf, rho_inf - 2 * step * (beta2**step) / (1 - beta2**step)


def _radam_numbers(group: Group, step: float, product: float) -> tuple[float, ...]:
    (beta1, beta2), (rho_inf, rho) = group["betas"], _rho(group, step)
    rectified = 1.0
    if rho > 5.0:
        part = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
        rectified = part**0.5
    root = (1 - beta2**step) ** 0.5
    return *_moment_numbers(group), 1 - beta1**step, group["lr"], root, group["eps"], rectified


def _radam(kind: Any, p: Tensor, g: Tensor, state: State, numbers: Numbers) -> None:
    _moments(kind, p, g, state, numbers)
    correction, lr, root, eps, rectified = numbers[4:]
    step = (state["exp_avg"] / correction) * lr
    if kind[2]:
        adaptive = state["exp_avg_sq"].sqrt().add_(eps).reciprocal_().mul_(root)
        step.mul_(adaptive).mul_(rectified)
    p.sub_(step)


def _adamax_numbers(group: Group, step: float, product: float) -> tuple[float, ...]:
    beta1, beta2 = group["betas"]
    step_size = group["lr"] / (1 - beta1**step)
    return group["weight_decay"], 1 - beta1, beta2, group["eps"], -step_size


def _adamax(kind: Any, p: Tensor, g: Tensor, state: State, numbers: Numbers) -> None:
    decay, one_minus_beta1, beta2, eps, minus_step_size = numbers
    if kind:
        g = _add(g, p, decay)
    mean, largest = state["exp_avg"], state["exp_inf"]
    mean.lerp_(g, one_minus_beta1)
    torch.maximum(largest.mul_(beta2), g.abs().add_(eps), out=largest)
    _addcdiv_(p, mean, largest, minus_step_size)


_ADAM = Rule(
    ("exp_avg", "exp_avg_sq"),
    lambda group, owned, step: (group["weight_decay"] != 0, group["decoupled_weight_decay"]),
    lambda kind: {"step", "exp_avg", "exp_avg_sq"},
    _adam_numbers,
    _adam,
)
RULES: dict[type, Rule] = {
    Adam: _ADAM,
    AdamW: _ADAM,
    NAdam: Rule(
        ("exp_avg", "exp_avg_sq"),
        lambda group, owned, step: (group["weight_decay"] != 0, group["decoupled_weight_decay"]),
        lambda kind: {"step", "mu_product", "exp_avg", "exp_avg_sq"},
        _nadam_numbers,
        _nadam,
        _mu,
        ("mu_product",),
    ),
    RAdam: Rule(
        ("exp_avg", "exp_avg_sq"),
        lambda group, owned, step: (
            group["weight_decay"] != 0,
            group["decoupled_weight_decay"],
            _rho(group, step)[1] > 5.0,
        ),
        lambda kind: {"step", "exp_avg", "exp_avg_sq"},
        _radam_numbers,
        _radam,
    ),
    Adamax: Rule(
        ("exp_avg", "exp_inf"),
        lambda group, owned, step: group["weight_decay"] != 0,
        lambda kind: {"step", "exp_avg", "exp_inf"},
        _adamax_numbers,
        _adamax,
    ),
    SGD: Rule(
        ("momentum_buffer",),
        lambda group, owned, step: (
            group["weight_decay"] != 0,
            group["momentum"] != 0,
            group["nesterov"],
            not owned,
        ),
        lambda kind: {"momentum_buffer"} if kind[1] else set(),
        _sgd_numbers,
        _sgd,
    ),
    RMSprop: Rule(
        ("square_avg", "momentum_buffer"),
        lambda group, owned, step: (group["weight_decay"] != 0, group["momentum"] > 0),
        lambda kind: {"step", "square_avg"} | ({"momentum_buffer"} if kind[1] else set()),
        _rmsprop_numbers,
        _rmsprop,
    ),
    Adagrad: Rule(
        ("sum",),
        lambda group, owned, step: group["weight_decay"] != 0,
        lambda kind: {"step", "sum"},
        _adagrad_numbers,
        _adagrad,
    ),
}
