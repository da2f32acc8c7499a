"""One step of many optimizers, on a matrix with a replica in each row."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, Optimizer, RMSprop

from bptt_lab.training.fleet.equations import RULES, Group, Number, Numbers

ELEMENTS = 1 << 18  # at once: what is made on the way is small enough to be used again
# Settings that another path of torch's serves; false where they are there.
OTHER_PATHS = ("amsgrad", "maximize", "capturable", "differentiable", "foreach", "fused")


def supports(optimizers: Sequence[Optimizer]) -> bool:
    """Whether these can step as one: of one class that is known here, in torch's plain settings."""
    kind = type(optimizers[0])
    for optimizer in optimizers:
        group = optimizer.param_groups[0]
        if type(optimizer) is not kind or kind not in RULES or len(optimizer.param_groups) > 1:
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
    for _ in range(8):  # RAdam changes its terms at the sixth
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
        self._rule = RULES[type(optimizers[0])]
        self._state = {name: torch.zeros_like(parameters) for name in self._rule.state}
        shape = len(optimizers), len(optimizers[0].param_groups[0]["params"])
        self._steps = torch.zeros(shape)  # of every parameter, as torch.optim counts
        self._products = torch.ones(shape)  # of every parameter's factors, for a rule with such
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
            scalars = {"step": self._steps, "mu_product": self._products}
            for name in ("step", *self._rule.scalars, *self._rule.state):
                known = state.get(name)
                if known is None and name not in new:
                    continue
                owned.add(name)
                if name in scalars:
                    place = scalars[name][row, index]
                else:
                    place = self._state[name][row, begin:end].view_as(parameter)
                if known is not None:
                    place.copy_(known)
                state[name] = place
        return owned

    @torch.no_grad()
    def step(self, rows: Sequence[int]) -> None:
        """Do what `step()` of these optimizers does; the other rows stay as they are."""
        kinds: dict[Hashable, list[int]] = defaultdict(list)
        counts = self._steps[:, 0].tolist()  # some may have stepped by themselves
        for row in rows:
            group, owned = self.optimizers[row].param_groups[0], self._owned[row]
            kinds[self._rule.kind(group, owned, counts[row] + 1)].append(row)
            self.optimizers[row]._opt_called = True  # type: ignore[attr-defined]  # for schedulers
        for kind, alike in kinds.items():
            self._step_alike(kind, alike, counts)

    def _step_alike(self, kind: Hashable, rows: list[int], counts: Sequence[float]) -> None:
        """Step rows for which the equations have the same terms."""
        needed = self._rule.needs(kind)
        for row in rows:
            if needed - self._owned[row]:
                self._owned[row] = self._adopt(row, needed)
        numbers = []
        for row in rows:
            group, step = self.optimizers[row].param_groups[0], counts[row] + 1
            if self._rule.factor is not None:
                self._products[row] *= self._rule.factor(group, step)
            numbers.append(self._rule.numbers(group, step, self._products[row, 0].item()))
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
