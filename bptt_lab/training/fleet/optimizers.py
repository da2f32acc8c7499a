"""One step of many optimizers: torch.optim's equations on a matrix with a replica in each row.

Every operation is elementwise and rounds as the one that torch's single-tensor path does, in its
order, with a column of settings for each number of it. What is fused there is fused here: x + c y
with a column c is `addcmul`.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

Number = float | Tensor  # of all rows alike, or a column with one for each
Numbers = Sequence[Number]
Group = dict[str, Any]  # an optimizer's param_groups[0]
State = dict[str, Tensor]  # the rows of each state, by torch.optim's names
ELEMENTS = 1 << 18  # at once: what is made on the way is small enough to be used again
# Settings that another path of torch's serves; false where they are there.
OTHER_PATHS = ("amsgrad", "maximize", "capturable", "differentiable", "foreach", "fused")


def supports(optimizers: Sequence[Optimizer]) -> bool:
    """Whether these can step as one: of one class that is known here, in torch's plain settings."""
    kind = type(optimizers[0])
    for optimizer in optimizers:
        group = optimizer.param_groups[0]
        if type(optimizer) is not kind or kind not in _RULES or len(optimizer.param_groups) > 1:
            return False
        if group.get("centered") or any(group.get(name) for name in OTHER_PATHS):
            return False
        numbers = [x for name, x in group.items() if name not in ("params", "betas")]
        if any(isinstance(x, Tensor) for x in (*numbers, *group.get("betas", ()))):
            return False
        if any(
            not (p.is_cpu and p.is_floating_point() and p.requires_grad) for p in group["params"]
        ):
            return False
    dtype = optimizers[0].param_groups[0]["params"][0].dtype
    return _rounds_alike(kind, dtype)  # type: ignore[arg-type]  # mypy: classes hash as objects do


@cache
def _rounds_alike(kind: type[Optimizer], dtype: torch.dtype) -> bool:
    """Whether torch, as built for this machine, rounds alike in a vector and at a tensor's end."""
    random, sizes = torch.Generator().manual_seed(0), [1, 37, 66, 5]
    rows, gradients = torch.randn(2, 2, sum(sizes), generator=random, dtype=dtype)
    optimizers: list[Optimizer] = []
    for r, row in enumerate((*rows, *rows.clone())):
        parameters = [Parameter(part) for part in torch.split(row, sizes)]
        for parameter, part in zip(parameters, torch.split(gradients[r % 2], sizes), strict=True):
            parameter.grad = part
        momentum = {"momentum": 0.9} if kind in (SGD, RMSprop) else {}
        settings: Group = {"lr": 0.1 + r % 2, "weight_decay": 0.3 + r % 2, **momentum}
        optimizers.append(kind(parameters, **settings))
    together = StackedOptimizer(optimizers[:2], rows, gradients)
    for _ in range(3):
        together.step((0, 1))
        for alone in optimizers[2:]:
            alone.step()
    ends = [torch.cat(optimizer.param_groups[0]["params"]) for optimizer in optimizers]
    return all(torch.equal(ends[r], ends[r + 2]) for r in range(2))


class StackedOptimizer:
    """R optimizers of torch.optim that step together, each with the bits of its own `step()`.

    They share nothing but the pass over memory: every setting of every group counts, is read at
    each step, and may be changed from outside, as a scheduler does. Their state becomes views of
    rows, so that `state_dict()` of each is right at all times; clone what is to be saved, or its
    file holds the states of all. After `load_state_dict` make another StackedOptimizer.

    Args:
        optimizers: R of them, for which `supports` is true; each holds one replica's parameters.
        parameters: (R, P). Those of replica r are views of parts of row r.
        gradients: (R, P), laid out alike.
    """

    def __init__(
        self, optimizers: Sequence[Optimizer], parameters: Tensor, gradients: Tensor
    ) -> None:
        assert len(optimizers) == parameters.shape[0]
        self.optimizers, self.parameters, self.gradients = optimizers, parameters, gradients
        self._rule = _RULES[type(optimizers[0])]
        self._state = {name: torch.zeros_like(parameters) for name in self._rule.state}
        shape = len(optimizers), len(optimizers[0].param_groups[0]["params"])
        self._steps = torch.zeros(shape)  # of every parameter, as torch.optim counts
        # Which states of a row are its optimizer's; empty before the first step.
        self._owned = [self._adopt(row) for row in range(len(optimizers))]

    def _adopt(self, row: int, new: Collection[str] = ()) -> set[str]:
        """Make an optimizer's state views of its row, with the `new` ones that it starts with."""
        optimizer, row_begin = self.optimizers[row], self.parameters[row].storage_offset()
        owned: set[str] = set()
        for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
            begin = parameter.storage_offset() - row_begin
            end = begin + parameter.numel()
            assert self.parameters[row, begin:end].data_ptr() == parameter.data_ptr()
            state = optimizer.state[parameter] if new else optimizer.state.get(parameter, {})
            for name in ("step", *self._rule.state):
                known = state.get(name)
                if known is None and name not in new:
                    continue
                owned.add(name)
                place = self._steps[row, index]
                if name != "step":
                    place = self._state[name][row, begin:end].view_as(parameter)
                if known is not None:
                    place.copy_(known)
                state[name] = place
        return owned

    @torch.no_grad()
    def step(self, rows: Sequence[int]) -> None:
        """Do what `step()` of these optimizers does; the other rows stay as they are."""
        kinds: dict[Hashable, list[int]] = defaultdict(list)
        for row in rows:
            group, owned = self.optimizers[row].param_groups[0], self._owned[row]
            kinds[self._rule.kind(group, owned)].append(row)
            self.optimizers[row]._opt_called = True  # type: ignore[attr-defined]  # for schedulers
        for kind, alike in kinds.items():
            self._step_alike(kind, alike)

    def _step_alike(self, kind: Hashable, rows: list[int]) -> None:
        """Step rows for which the equations have the same terms."""
        needed = self._rule.needs(kind)
        for row in rows:
            if needed - self._owned[row]:
                self._owned[row] = self._adopt(row, needed)
        counts = self._steps[:, 0].tolist()  # some may have stepped by themselves
        groups = {row: self.optimizers[row].param_groups[0] for row in rows}
        numbers = [self._rule.numbers(group, counts[row] + 1) for row, group in groups.items()]
        columns = [_column(column, self.parameters) for column in zip(*numbers, strict=True)]
        size = max(1, ELEMENTS // self.parameters.shape[1])
        for begin in range(0, len(rows), size):
            part = slice(begin, begin + size)
            own = [c[part] if isinstance(c, Tensor) else c for c in columns]
            self._step_part(kind, rows[part], own)

    def _step_part(self, kind: Hashable, rows: list[int], numbers: Numbers) -> None:
        """Step a few rows; those that follow one another are changed where they are."""
        together = rows == list(range(rows[0], rows[-1] + 1))
        index = slice(rows[0], rows[-1] + 1) if together else torch.tensor(rows)
        self._steps[index] += 1
        p, g = self.parameters[index], self.gradients[index]
        state = {name: whole[index] for name, whole in self._state.items()}
        self._rule.update(kind, p, g, state, numbers)
        if not together:
            self.parameters[index] = p
            for name, part in state.items():
                self._state[name][index] = part


def _column(numbers: Sequence[float], like: Tensor) -> Number:
    """One number where all are equal, else a column of them, (n, 1)."""
    if numbers.count(numbers[0]) == len(numbers):
        return numbers[0]
    return torch.tensor(numbers, dtype=like.dtype, device=like.device)[:, None]


def _add(x: Tensor, y: Tensor, c: Number, out: Tensor | None = None) -> Tensor:
    """Return x + c y, rounded once where torch's add with an alpha is."""
    if isinstance(c, Tensor):
        return torch.addcmul(x, y, c, out=out)
    return torch.add(x, y, alpha=c, out=out)


def _addcmul_(x: Tensor, y: Tensor, z: Tensor, c: Number) -> None:
    x.addcmul_(y * c, z) if isinstance(c, Tensor) else x.addcmul_(y, z, value=c)


def _addcdiv_(x: Tensor, y: Tensor, z: Tensor, c: Number) -> None:
    x.addcdiv_(y * c, z) if isinstance(c, Tensor) else x.addcdiv_(y, z, value=c)


class _Rule(NamedTuple):
    """One class of torch.optim: its states, which terms it has, its numbers, and its equations."""

    state: tuple[str, ...]
    kind: Callable[[Group, set[str]], Hashable]  # of a group, and of the states that there are
    needs: Callable[[Any], set[str]]  # the states that a kind has from its first step on
    numbers: Callable[[Group, float], tuple[float, ...]]  # of a group and the step, from 1 on
    update: Callable[[Any, Tensor, Tensor, State, Numbers], None]


def _adam_numbers(group: Group, step: float) -> tuple[float, ...]:
    (beta1, beta2), lr, decay = group["betas"], group["lr"], group["weight_decay"]
    step_size, root = lr / (1 - beta1**step), (1 - beta2**step) ** 0.5
    decay = 1 - lr * decay if group["decoupled_weight_decay"] else decay
    return decay, 1 - beta1, beta2, 1 - beta2, root, group["eps"], -step_size


def _adam(kind: Any, p: Tensor, g: Tensor, state: State, numbers: Numbers) -> None:
    decay, one_minus_beta1, beta2, one_minus_beta2, root, eps, minus_step_size = numbers
    decays, decoupled = kind
    if decays and decoupled:
        p.mul_(decay)
    elif decays:
        g = _add(g, p, decay)
    mean, square = state["exp_avg"], state["exp_avg_sq"]
    mean.lerp_(g, one_minus_beta1)
    _addcmul_(square.mul_(beta2), g, g, one_minus_beta2)
    _addcdiv_(p, mean, square.sqrt().div_(root).add_(eps), minus_step_size)


def _sgd_numbers(group: Group, step: float) -> tuple[float, ...]:
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


def _rmsprop_numbers(group: Group, step: float) -> tuple[float, ...]:
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


def _adagrad_numbers(group: Group, step: float) -> tuple[float, ...]:
    rate = group["lr"] / (1 + (step - 1) * group["lr_decay"])
    return group["weight_decay"], group["eps"], -rate


def _adagrad(kind: Any, p: Tensor, g: Tensor, state: State, numbers: Numbers) -> None:
    decay, eps, minus_rate = numbers
    if kind:
        g = _add(g, p, decay)
    total = state["sum"].addcmul_(g, g, value=1)
    _addcdiv_(p, g, total.sqrt().add_(eps), minus_rate)


_ADAM = _Rule(
    ("exp_avg", "exp_avg_sq"),
    lambda group, owned: (group["weight_decay"] != 0, group["decoupled_weight_decay"]),
    lambda kind: {"step", "exp_avg", "exp_avg_sq"},
    _adam_numbers,
    _adam,
)
_RULES: dict[type, _Rule] = {
    Adam: _ADAM,
    AdamW: _ADAM,
    SGD: _Rule(
        ("momentum_buffer",),
        lambda group, owned: (
            group["weight_decay"] != 0,
            group["momentum"] != 0,
            group["nesterov"],
            not owned,
        ),
        lambda kind: {"momentum_buffer"} if kind[1] else set(),
        _sgd_numbers,
        _sgd,
    ),
    RMSprop: _Rule(
        ("square_avg", "momentum_buffer"),
        lambda group, owned: (group["weight_decay"] != 0, group["momentum"] > 0),
        lambda kind: {"step", "square_avg"} | ({"momentum_buffer"} if kind[1] else set()),
        _rmsprop_numbers,
        _rmsprop,
    ),
    Adagrad: _Rule(
        ("sum",),
        lambda group, owned: group["weight_decay"] != 0,
        lambda kind: {"step", "sum"},
        _adagrad_numbers,
        _adagrad,
    ),
}
