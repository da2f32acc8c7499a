"""Sizes that no memory of this machine could hold, refused before anything is allocated.

The estimates are lower bounds: what they refuse cannot work, what they let pass may still not fit.
"""

import math
import os

from bptt_lab.config import signatures
from bptt_lab.config.schema import Experiment, refuse


def installed() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def refuse_above(experiment: Experiment, limit: int) -> None:
    """Refuse a network or a data set that is larger than the memory.

    A task that makes its data says in `num_elements` which settings multiply to its numbers of four
    bytes, as ("num_steps * train_size",). The limit is in bytes.
    """
    model, dataset = vars(experiment.model), experiment.dataset
    number = 8 if experiment.trainer.precision == "64-true" else 4
    # W_hh of every layer, and W_ih of the first one, with their gradients.
    weights = ("num_layers * hidden_size * hidden_size", "embedding_size * hidden_size")
    data = signatures.read(dataset.target).claims.get("num_elements", ())
    products = [("model", model, 2 * number, names) for names in weights]
    products += [("dataset", dict(dataset.settings), 4, str(names)) for names in data]
    for section, settings, bytes_each, names in products:
        factors = {name: settings.get(name) for name in names.split(" * ")}
        if all(isinstance(size, int) for size in factors.values()):
            needed = bytes_each * math.prod(settings[name] for name in names.split(" * "))
            if needed > limit:
                name = max(factors, key=lambda name: settings[name])
                need = f"needs at least {needed / 2**30:.3g} GiB of memory"
                problem = f"{need}, of which there are {limit / 2**30:.3g}; give a smaller number"
                refuse(f"{section}.{name}", settings[name], problem)


def refuse_influence(experiment: Experiment) -> None:
    """Refuse an influence above the limit that its strategy has itself, `memory_limit_gib`.

    Such a strategy says in `influence` which settings of the network multiply to its numbers.
    """
    model, given, watched = experiment.model, experiment.dataset.settings, experiment.callbacks
    sizes = [size for key in ("batch_size", "train_size", "lanes") if (size := given.get(key))]
    batch_size = -(-min(sizes, default=0) // experiment.device.devices)
    rules = [(experiment.gradient, batch_size)]
    if experiment.segment_length is None:
        rules += [(shadow, 1) for shadow in watched.shadow.values()]
    for rule, sequences in rules:
        plugin = signatures.read(rule.target)
        most = plugin.value("memory_limit_gib", rule.settings)
        names = str(plugin.claims.get("influence", "")).split(" * ")
        numbers = sequences * math.prod(getattr(model, name, 0) for name in names)
        bytes_each = 8 if experiment.trainer.precision == "64-true" else 4
        needed = numbers * bytes_each / 2**30
        if "memory_limit_gib" in plugin.settings and needed > most:
            problem = f"needs an influence of at least {needed:.3g} GiB for {sequences} sequences"
            way_out = f"above memory_limit_gib={most:g}; raise it, take fewer, or gradient=snap1"
            refuse("model.hidden_size", model.hidden_size, f"{problem}, {way_out}")
