"""Sizes that no memory of this machine could hold, refused before anything is allocated.

The estimates are lower bounds: what they refuse cannot work, what they let pass may still not fit.
"""

import math
import os

from bptt_lab.config import signatures
from bptt_lab.config.schema import Experiment
from bptt_lab.core.validation import ConfigError


def installed() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def refuse_above(experiment: Experiment, limit: int) -> None:
    """Refuse a network or a data set that is larger than the memory.

    A task that makes its data says in `num_elements` which settings multiply to its numbers of four
    bytes, as ("num_steps * train_size",). The limit is in bytes.

    Raises:
        ConfigError: naming the largest of the settings that make it so.
    """
    model, dataset = experiment.model, experiment.dataset
    number = 8 if experiment.trainer.precision == "64-true" else 4
    hidden = {"model.hidden_size": model.hidden_size}
    # W_hh of every layer, and its gradient.
    needed = 2 * number * model.hidden_size**2 * model.num_layers
    _refuse_above(limit, needed, {"model.num_layers": model.num_layers, **hidden})
    if model.embedding_size is not None:  # W_ih of the first layer
        needed = 2 * number * model.embedding_size * model.hidden_size
        _refuse_above(limit, needed, {"model.embedding_size": model.embedding_size, **hidden})
    for size in signatures.read(dataset.target).claims.get("num_elements", ()):
        names = str(size).split(" * ")
        factors = {f"dataset.{name}": dataset.settings.get(name) for name in names}
        numbers = {key: value for key, value in factors.items() if isinstance(value, int)}
        if len(numbers) == len(factors):
            _refuse_above(limit, 4 * math.prod(numbers.values()), numbers)


def refuse_influence(experiment: Experiment) -> None:
    """Refuse an influence above the limit that its strategy has itself, `memory_limit_gib`.

    Such a strategy says in `influence` which settings of the network multiply to its numbers.

    Raises:
        ConfigError: naming the hidden size.
    """
    model, given, watched = experiment.model, experiment.dataset.settings, experiment.callbacks
    sizes = [size for key in ("batch_size", "train_size") if (size := given.get(key))]
    batch_size = -(-min(sizes, default=0) // experiment.device.devices)
    rules = [(experiment.gradient, batch_size)]
    if experiment.segment_length is None:
        rules += [(shadow, 1) for shadow in watched.shadow.values()]
    for rule, sequences in rules:
        plugin = signatures.read(rule.target)
        limit = {**{n: s.default for n, s in plugin.settings.items()}, **rule.settings}
        names = str(plugin.claims.get("influence", "")).split(" * ")
        numbers = sequences * math.prod(getattr(model, name, 0) for name in names)
        bytes_each = 8 if experiment.trainer.precision == "64-true" else 4
        needed, most = numbers * bytes_each / 2**30, limit.get("memory_limit_gib", math.inf)
        if needed > most:
            problem = f"needs an influence of at least {needed:.3g} GiB for {sequences} sequences"
            way_out = f"above memory_limit_gib={most:g}; raise it, take fewer, or gradient=snap1"
            raise ConfigError(f"model.hidden_size={model.hidden_size}: {problem}, {way_out}")


def _refuse_above(limit: int, needed: int, sizes: dict[str, int]) -> None:
    if needed > limit:
        key = max(sizes, key=lambda name: sizes[name])
        need = f"needs at least {needed / 2**30:.3g} GiB of memory"
        problem = f"{need}, of which there are {limit / 2**30:.3g}; give a smaller number"
        raise ConfigError(f"{key}={sizes[key]}: {problem}")
