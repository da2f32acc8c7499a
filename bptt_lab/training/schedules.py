"""Schedules of the learning rate: the factor of `optimizer.lr` at each step.

A factor is a function of the step and of the number of steps in all, so that a checkpoint has
nothing to keep of it; `Plateau` keeps what validation has shown. Steps are counted as TensorBoard
shows them, from 1 on, those too in which nothing counted and the optimizer rests.
"""

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar

from torch.optim import Optimizer

from bptt_lab.core.validation import Ge, Gt, Lt, OfValidation, checked
from bptt_lab.training.patience import Patience


class Schedule(ABC):
    """Linear warm-up, and what comes after it.

    Args:
        warmup_steps: W. At step s <= W the factor is s / W.
    """

    needs_end: ClassVar[bool] = False  # whether factors depend on the number of steps in all

    @checked
    def __init__(self, *, warmup_steps: Annotated[int, Ge(0)] = 0) -> None:
        self.warmup_steps = warmup_steps

    def factor(self, step: int, total: float) -> float:
        """Return the factor at a step, from 1 on, of so many in all (math.inf: not known)."""
        if step <= self.warmup_steps:
            return step / self.warmup_steps
        return self.after_warmup(step - self.warmup_steps - 1, total - self.warmup_steps)

    @abstractmethod
    def after_warmup(self, index: int, count: float) -> float:
        """Return the factor at the step `index`, from 0 on, of `count` steps after warm-up."""


class Constant(Schedule):
    """The rate stays as it is."""

    def after_warmup(self, index: int, count: float) -> float:
        """Return 1."""
        return 1.0


class Cosine(Schedule):
    """Loshchilov & Hutter 2017, without restarts: half a wave of a cosine, down to the run's end.

    (1) factor_i = m + (1 - m) (1 + cos(pi i / n)) / 2

    Args:
        warmup_steps: of linear warm-up before it.
        min_factor: m, what the factor would come to after the last of the n steps.
    """

    needs_end = True

    @checked
    def __init__(
        self,
        *,
        warmup_steps: Annotated[int, Ge(0)] = 0,
        min_factor: Annotated[float, Ge(0), Lt(1)] = 0.0,
    ) -> None:
        super().__init__(warmup_steps=warmup_steps)
        self.min_factor = min_factor

    def after_warmup(self, index: int, count: float) -> float:
        """Return the factor of Eq. (1)."""
        wave = (1 + math.cos(math.pi * min(1.0, index / count))) / 2
        return self.min_factor + (1 - self.min_factor) * wave


class Step(Schedule):
    """Every `step_size` steps the rate is multiplied by `gamma`.

    Args:
        warmup_steps: of linear warm-up before it.
        step_size: optimizer steps between two reductions.
        gamma: the factor of one.
    """

    @checked
    def __init__(
        self,
        *,
        warmup_steps: Annotated[int, Ge(0)] = 0,
        step_size: Annotated[int, Ge(1)] = 1000,
        gamma: Annotated[float, Gt(0), Lt(1)] = 0.1,
    ) -> None:
        super().__init__(warmup_steps=warmup_steps)
        self.step_size, self.gamma = step_size, gamma

    def after_warmup(self, index: int, count: float) -> float:
        """Return gamma to the number of reductions."""
        return float(self.gamma ** (index // self.step_size))


class Exponential(Schedule):
    """The rate shrinks at every step, by `gamma` over `step_size` steps.

    Args:
        warmup_steps: of linear warm-up before it.
        step_size: optimizer steps over which the rate is multiplied by `gamma`.
        gamma: the factor over these.
    """

    @checked
    def __init__(
        self,
        *,
        warmup_steps: Annotated[int, Ge(0)] = 0,
        step_size: Annotated[int, Ge(1)] = 1000,
        gamma: Annotated[float, Gt(0), Lt(1)] = 0.5,
    ) -> None:
        super().__init__(warmup_steps=warmup_steps)
        self.step_size, self.gamma = step_size, gamma

    def after_warmup(self, index: int, count: float) -> float:
        """Return gamma to the share of `step_size` that is gone."""
        return float(self.gamma ** (index / self.step_size))


class Responsive(Schedule):
    """A schedule that follows a metric of validation, `metric`."""

    metric: str

    @abstractmethod
    def observe(self, value: float, step: int) -> None:
        """Take note of the metric as it is after so many steps."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return what it has seen, in plain containers."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what it has seen."""


class Plateau(Responsive):
    """The rate is multiplied by `gamma` where validation has been no better for a while.

    Validations during warm-up do not count.

    Args:
        warmup_steps: of linear warm-up before it.
        metric: of validation.
        patience: validations in a row, none of them better, after which the rate is reduced.
        min_delta: by how much better counts.
        gamma: the factor of a reduction.
        min_factor: the least factor.
    """

    @checked
    def __init__(
        self,
        *,
        warmup_steps: Annotated[int, Ge(0)] = 0,
        metric: Annotated[str, OfValidation()] = "val/loss",
        patience: Annotated[int, Ge(1)] = 5,
        min_delta: Annotated[float, Ge(0)] = 0.0,
        gamma: Annotated[float, Gt(0), Lt(1)] = 0.5,
        min_factor: Annotated[float, Ge(0), Lt(1)] = 0.0,
    ) -> None:
        super().__init__(warmup_steps=warmup_steps)
        self.metric, self.gamma, self.min_factor = metric, gamma, min_factor
        self._patience = Patience(metric=metric, patience=patience, min_delta=min_delta)
        self._factor = 1.0

    def after_warmup(self, index: int, count: float) -> float:
        """Return what reductions have left."""
        return self._factor

    def observe(self, value: float, step: int) -> None:
        """Reduce the rate where patience is at its end, and wait anew."""
        if step > self.warmup_steps and self._patience.ends(value):
            self._factor = max(self.gamma * self._factor, self.min_factor)
            self._patience.waited = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the factor, and what validation has shown."""
        return {"factor": self._factor, "patience": self._patience.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from these."""
        self._factor = state["factor"]
        self._patience.load_state_dict(state["patience"])


class Rates:
    """The learning rates of an optimizer's groups of parameters, by a schedule if there is one."""

    def __init__(self, schedule: Schedule | None) -> None:
        self.schedule = schedule
        self.total = math.inf  # optimizer steps of the run
        self.first: list[float] = []  # what factors multiply

    def of(self, optimizer: Optimizer) -> Optimizer:
        """Note the rates that an optimizer was made with, and return it."""
        if self.schedule is not None:
            self.first = [group["lr"] for group in optimizer.param_groups]
        return optimizer

    def set(self, optimizer: Optimizer, step: int) -> None:
        """Give it the rates of a step, from 1 on."""
        if self.schedule is not None:
            factor = self.schedule.factor(step, self.total)
            for group, rate in zip(optimizer.param_groups, self.first, strict=True):
                group["lr"] = rate * factor
