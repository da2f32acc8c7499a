"""Which jobs of a sweep may run side by side in one process, and why the others may not.

Jobs fit one fleet where they take the same steps on tensors of the same sizes and differ only in
what is data to the program: the seed and numbers of the network, the gradient strategy, the
optimizer, its schedule, early stopping and clipping.
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bptt_lab.config import gpus, signatures

MOST = 32  # jobs of a fleet; more are no faster, and nothing is known of them until all have ended
LEAST = 2
SHARE = 0.5  # of the machine's memory that the jobs of all fleets may take
# Settings that are data; those of `optimizer` all are, and the numbers of `gradient`.
MODEL = ("leak", "gain", "init", "spectral_radius", "dropout", "zero_bias")
TRAINER = ("gradient_clip_val", "gradient_clip_algorithm", "ema_decay", "enable_progress_bar")
GENERAL = ("seed", "checkpoint_seconds", "divergence", "schedule", "early_stopping", "loggers")
# Callbacks of others that are told of whole epochs only.
OF_EPOCHS = ("lightning.pytorch.callbacks.EarlyStopping",)
BYTES = 24 * 2**20  # of a job beside its data: its network, trainer, callbacks and files

Config = Mapping[str, Any]  # of a job, plain containers


class Placed(NamedTuple):
    """Where a job runs: in the fleet of a number, or alone, and why."""

    fleet: int | None
    why: str = ""


def place(
    configs: Sequence[Config], processes: int, memory: int, most: int | None = None
) -> list[Placed]:
    """Share jobs out to fleets.

    Args:
        configs: of the jobs.
        processes: how many run at a time.
        memory: bytes that all of these may take together.
        most: jobs of a fleet; None for as many as the memory holds, at most `MOST`.
    """
    placed = [Placed(None, alone(config)) for config in configs]
    groups: dict[str, list[int]] = {}
    for number, config in enumerate(configs):
        if not placed[number].why:
            groups.setdefault(kind(config), []).append(number)
    count, share = 0, memory // processes
    for group in groups.values():
        room = max(1, share // max(replica_bytes(configs[number]) for number in group))
        parts = -(-len(group) // min(room, MOST if most is None else most))
        even = -(-parts // processes) * processes
        if len(group) >= LEAST * even:  # all processes end at about the same time
            parts = even
        cuts = [len(group) * part // parts for part in range(parts + 1)]
        for begin, end in itertools.pairwise(cuts):
            if end - begin < LEAST:
                why = "memory is short"
                if most is not None and most <= room:
                    why = f"hydra.launcher.replicas={most} leaves no place"
                why = "no other job is of its kind" if len(group) < LEAST else why
                placed[group[begin]] = Placed(None, why)
                continue
            for number in group[begin:end]:
                placed[number] = Placed(count)
            count += 1
    return placed


def alone(config: Config) -> str:
    """Say why a job cannot run beside others; empty where it can."""
    device, trainer = config["device"], config["trainer"]
    if device["devices"] > 1 or device["accelerator"] == "gpu":
        return "takes more than one CPU process"
    if device["accelerator"] == "auto" and gpus.count():
        return "runs on a GPU"
    if config["num_threads"] > 1:
        return f"num_threads={config['num_threads']} shares out one job's batch"
    if trainer["precision"] == "bf16-mixed":
        return f"trainer.precision={trainer['precision']} casts at every step"
    strategy = str(config["gradient"]["_target_"])
    if signatures.read(strategy).claims.get("fuses") is False:
        return f"{strategy.rpartition('.')[2]} builds a graph of its own at every step"
    for name, section in config["callbacks"].items():
        target = section.get("_target_", "") if isinstance(section, Mapping) else ""
        if target and not target.startswith("bptt_lab.") and target not in OF_EPOCHS:
            return f"callbacks.{name} may want to see every batch"
    return ""


def kind(config: Config) -> str:
    """Return what jobs of one fleet have in common, as a text."""
    fixed = {key: value for key, value in config.items() if key not in GENERAL}
    fixed["model"] = _without(config["model"], MODEL)
    fixed["trainer"] = _without(config["trainer"], TRAINER)
    fixed["gradient"] = _words(config["gradient"])
    fixed["optimizer"] = config["optimizer"]["_target_"]
    dataset = config["dataset"]
    fixed["dataset"] = {
        key: value
        for key, value in dataset.items()
        if key != "seed" and not isinstance(value, float)
    }
    return json.dumps(fixed, sort_keys=True, default=str)


def _without(section: Config, names: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key not in names}


def _words(value: Any) -> Any:
    """A section without its numbers, at any depth."""
    if isinstance(value, Mapping):
        return {key: _words(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_words(item) for item in value]
    return None if isinstance(value, int | float) and not isinstance(value, bool) else value


def replica_bytes(config: Config) -> int:
    """Estimate the memory that a job takes in a fleet, in bytes."""
    dataset, model = config["dataset"], config["model"]
    claims = signatures.read(str(dataset["_target_"])).claims
    numbers = 0
    for size in claims.get("num_elements", ()):
        factors = [dataset.get(name) for name in str(size).split(" * ")]
        numbers += math.prod(factor for factor in factors if isinstance(factor, int))
    hidden = int(model["hidden_size"])
    states = hidden * int(dataset.get("batch_size") or 1) * int(model["num_layers"])
    influence = str(
        signatures.read(str(config["gradient"]["_target_"])).claims.get("influence", "")
    )
    held = math.prod(int(model.get(name, 1)) for name in influence.split(" * ")) if influence else 0
    return BYTES + 4 * (3 * numbers + 64 * states + 3 * held * int(dataset.get("batch_size") or 1))
