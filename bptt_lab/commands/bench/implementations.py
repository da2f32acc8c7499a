"""What can be timed, by name: torch.nn.RNN, jax.lax.scan, and any gradient strategy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import OmegaConf

from bptt_lab.commands.bench import layers
from bptt_lab.commands.bench.layers import Prepared
from bptt_lab.config import classes
from bptt_lab.config.schema import Component
from bptt_lab.config.strategies import from_name, packaged
from bptt_lab.core.validation import ConfigError

if TYPE_CHECKING:
    from bptt_lab.commands.bench.workload import Problem, Shape

BASELINE, PRODUCTS = "nn.RNN", "rtrl-products"
USUAL = (BASELINE, "full", "full-reference", "checkpointed", "truncated", "autograd", "jax")
PAST_FACING = "bptt_lab.gradients.past.PastFacing"


@dataclass(frozen=True)
class Implementation:
    """One way to run a layer forward and backward, by its name."""

    name: str
    prepare: Callable[[Problem], Prepared]  # its calls; may raise UnavailableError or ConfigError
    needs: str = "torch"  # a module that must be installed

    def missing(self) -> str | None:
        """Say what is not installed, without importing it."""
        if find_spec(self.needs) is not None:
            return None
        return f"{self.name}: {self.needs} is not installed; pip install 'bptt_lab[{self.needs}]'"


class Options(NamedTuple):
    """What to measure; everything is validated."""

    shapes: list[Shape]
    implementations: list[Implementation]
    device: str
    precisions: list[str]
    threads: list[int]
    rounds: int | None
    memory: bool
    isa: str | None  # of the C core; None for the best that the processor has
    left_out: list[str]  # a line for each implementation that is not installed


def find(name: str) -> Implementation:
    """Return the implementation of a name: of OTHERS, or a strategy's, as `rtrl:block=128`.

    Raises:
        ConfigError: for an unknown name or setting, or a value outside its limits.
    """
    if name in OTHERS:
        return OTHERS[name]
    option, *settings = name.split(":")
    names = packaged().names()
    if option not in names:
        raise ConfigError(f"--only={name}: must be one of {', '.join([*OTHERS, *names])}")
    if not all("=" in setting for setting in settings):
        raise ConfigError(f"--only={name}: must give settings as {option}:key=value")
    given: Any = OmegaConf.to_container(OmegaConf.from_dotlist(settings))
    return Implementation(name, partial(layers.strategy, component=_component(option, given)))


def past_facing() -> list[str]:
    """Return full, every strategy that carries influence forward, and RTRL's products."""
    found = [n for n in packaged().names() if classes.descends(_component(n).target, PAST_FACING)]
    return [BASELINE, "full", *found, PRODUCTS]


# What is no gradient strategy: those are found by the names of their options.
OTHERS = {
    each.name: each
    for each in (
        Implementation(BASELINE, layers.nn_rnn),
        Implementation("full-reference", layers.full_reference),
        Implementation(PRODUCTS, layers.rtrl_products),
        Implementation("jax", layers.jax_scan, needs="jax"),
    )
}


def _component(name: str, given: Mapping[str, Any] | None = None) -> Component:
    return from_name(name, name, given or {}, packaged())
