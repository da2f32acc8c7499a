"""The whole configuration's types and limits, checked before torch is imported.

Fixed sections are the dataclasses below. A plug-in's section is its constructor's annotations,
read from the source text by `bptt_lab.config.signatures`, so a new plug-in brings its own schema.
"""

from __future__ import annotations

import difflib
import functools
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from bptt_lab.config import gpus, memory_limit, shadow, signatures, targets
from bptt_lab.config.signatures import UNKNOWN, Plugin, Setting
from bptt_lab.core.validation import ConfigError, Ge, Gt, Le, Lt, unmet

Config = dict[str, Any]  # plain containers: what a process or a file can be handed
MISSING = "???"  # what a YAML file writes for a value that must be given


@dataclass(frozen=True)
class Length:
    """The list has so many items."""

    number: int

    def unmet(self, value: Any, siblings: Mapping[str, Any]) -> str | None:
        """Say the number where the list has another."""
        return None if len(value) == self.number else f"must be a list of {self.number}"


Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True)
class Experiment:
    """Settings that belong to no section."""

    seed: Annotated[int, Ge(0)]
    num_threads: Annotated[int, Ge(1), Le(1024)]
    segment_length: Annotated[int | None, Ge(1)]
    divergence: Literal["stop", "record"]
    checkpoint_seconds: NotNegative
    resume: str | None
    force_resume: bool
    dry_run: bool
    fail_fast: bool
    allow: str | list[str]


@dataclass(frozen=True)
class Model:
    """WHAT recurs."""

    hidden_size: Annotated[int, Ge(1)]
    num_layers: Annotated[int, Ge(1)]
    nonlinearity: Literal["tanh", "relu", "identity", "sigmoid"]
    bias: bool
    dropout: Annotated[float, Ge(0), Le(1)]
    leak: Annotated[float, Gt(0), Le(1)]
    init: Literal["uniform", "orthogonal", "identity", "gaussian"]
    gain: Positive
    spectral_radius: Annotated[float | None, Gt(0)]


@dataclass(frozen=True)
class Trainer:
    """Settings of lightning.pytorch.Trainer."""

    max_epochs: Annotated[int, Ge(1)]
    accumulate_grad_batches: Annotated[int, Ge(1)]
    gradient_clip_val: Annotated[float | None, Gt(0)]
    gradient_clip_algorithm: Literal["norm", "value"]
    precision: Literal["32-true", "64-true", "bf16-mixed"]
    log_every_n_steps: Annotated[int, Ge(1)]
    enable_progress_bar: bool


@dataclass(frozen=True)
class Device:
    """WHERE it runs."""

    accelerator: Literal["cpu", "gpu", "auto"]
    devices: Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Callbacks:
    """What is measured; beside these keys, a section for each instrument."""

    every_n_steps: Annotated[int, Ge(1)]
    probe_size: Annotated[int, Ge(1)]
    shadow: list[Any]


SECTIONS: Mapping[str, type] = {"model": Model, "trainer": Trainer, "device": Device}
PLUGIN_SECTIONS = ("gradient", "dataset", "optimizer")
# How a run is gone about; no part of the experiment, and not written into its manifest's config.
CONTROL = ("resume", "force_resume", "dry_run", "fail_fast", "allow")

# torch annotates its optimizers loosely, and checks them late.
TORCH_OPTIM: Mapping[str, Any] = {
    "lr": Positive,
    "momentum": Fraction,
    "betas": Annotated[list[Fraction], Length(2)],
    "eps": Positive,
    "weight_decay": NotNegative,
    "alpha": Fraction,
    "lr_decay": NotNegative,
    "nesterov": bool,
}


def check_config(config: Mapping[str, Any], *, here: bool = True) -> None:
    """Refuse a composed configuration that cannot work.

    Args:
        config: plain containers, interpolations resolved.
        here: whether it will run on this machine, so that its GPUs may be counted.

    Raises:
        ConfigError: naming the dotted key, the value, the limit and the way out, on one line.
    """
    top = fields(Experiment)
    known = [*top, *SECTIONS, *PLUGIN_SECTIONS, "callbacks"]
    for key in config:
        if key == "experiment":
            refuse(key, config[key], "a preset's file must begin with '# @package _global_'")
        if key not in known:
            refuse(key, config[key], f"there is no such setting; {suggest(key, known)}")
    _check("", {key: config[key] for key in top if key in config}, top)
    for name in (*SECTIONS, *PLUGIN_SECTIONS, "callbacks"):
        if name not in config:
            raise ConfigError(f"{name}: the section is missing; choose one with {name}=...")
        if not isinstance(config[name], Mapping):
            refuse(name, config[name], f"must be a section; set its keys, as {name}.key=value")
    for name, section in SECTIONS.items():
        _refuse_unknown(name, config[name], fields(section))
        _check(name, config[name], fields(section))
    targets.refuse_foreign(config, config["allow"])
    for name in PLUGIN_SECTIONS:
        _check_plugin(name, config[name])
    _check_callbacks(config["callbacks"], config["allow"], config["seed"])
    _check_nesterov(config["optimizer"])
    _check_segments(config)
    _check_device(config, here)
    if here:
        memory_limit.check(config, memory_limit.installed())


@functools.cache
def fields(section: type) -> Mapping[str, Setting]:
    """A fixed section's settings; each one must be given."""
    hints = typing.get_type_hints(section, include_extras=True)
    return {name: Setting(hint, required=True) for name, hint in hints.items()}


def plugin_settings(plugin: Plugin) -> Mapping[str, Setting]:
    """What a plug-in's section may hold beside `_target_`."""
    if not plugin.target.startswith("torch.optim."):
        return {name: value for name, value in plugin.settings.items() if name != "params"}
    return {
        name: setting._replace(hint=TORCH_OPTIM.get(name, setting.hint))
        for name, setting in plugin.settings.items()
        if name != "params"  # the module's, not the user's
    }


def refuse(key: str, value: Any, problem: str) -> typing.NoReturn:
    """Raise the ConfigError."""
    raise ConfigError(f"{key}={show(value)}: {problem}")


def show(value: Any) -> str:
    """Write a value as the command line would, a text that looks like something else in quotes."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        text = f"[{','.join(map(show, value))}]"
    elif isinstance(value, str) and (not value.strip() or _reads_otherwise(value)):
        text = repr(value)
    else:
        text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _reads_otherwise(text: str) -> bool:
    """Whether a text, written bare, would be a number, a yes or no, or nothing."""
    try:
        float(text)
    except ValueError:
        return text.lower() in ("null", "true", "false")
    return True


def suggest(name: str, known: Iterable[str]) -> str:
    """Name the closest of the known names, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"choose from {', '.join(known)}" if known else "there are none to set; leave it out"


def _check(section: str, values: Mapping[str, Any], settings: Mapping[str, Setting]) -> None:
    prefix = f"{section}." if section else ""
    defaults = {n: s.default for n, s in settings.items() if s.default is not UNKNOWN}
    for name, setting in settings.items():
        if values.get(name) == MISSING or (setting.required and name not in values):
            raise ConfigError(f"{prefix}{name}: is missing; give it as {prefix}{name}=...")
        if name in values:
            problem = unmet(values[name], setting.hint, {**defaults, **values})
            if problem:
                refuse(f"{prefix}{name}", values[name], problem)


def _refuse_unknown(section: str, values: Mapping[str, Any], known: Iterable[str]) -> None:
    for name in values:
        if name not in known:
            way_out = suggest(name, known)
            refuse(f"{section}.{name}", values[name], f"there is no such setting; {way_out}")


def _check_plugin(section: str, values: Mapping[str, Any]) -> None:
    if "_target_" not in values:
        refuse(f"{section}._target_", None, "must name a class, as package.module.Class")
    plugin = signatures.read(values["_target_"])
    settings = plugin_settings(plugin)
    own = {name: value for name, value in values.items() if name != "_target_"}
    if not plugin.takes_any:
        _refuse_unknown(section, own, settings)
    _check(section, own, settings)


def _check_callbacks(callbacks: Mapping[str, Any], allow: str | list[str], seed: int) -> None:
    own = fields(Callbacks)
    _check("callbacks", callbacks, own)
    for name, section in callbacks.items():
        if isinstance(section, Mapping):
            _check_plugin(f"callbacks.{name}", section)
        elif name not in own and section is not None:
            refuse(f"callbacks.{name}", section, f"there is no such setting; {suggest(name, own)}")
    for section in shadow.sections(callbacks["shadow"], seed).values():
        target = section.get("_target_")
        kinds, key = targets.KINDS["gradient"], "callbacks.shadow._target_"
        targets.check_target(key, target, kinds, targets.packages(allow))
        _check_plugin("callbacks.shadow", section)


def _check_nesterov(optimizer: Mapping[str, Any]) -> None:
    """Hold torch.optim.SGD's rule, which torch itself only states once it builds the optimizer."""
    if optimizer["_target_"] == "torch.optim.SGD" and optimizer.get("nesterov"):
        if not optimizer.get("momentum"):
            refuse("optimizer.nesterov", True, "needs optimizer.momentum greater than 0, as 0.9")
        if optimizer.get("dampening"):
            refuse("optimizer.nesterov", True, "needs optimizer.dampening=0")


def _check_segments(config: Mapping[str, Any]) -> None:
    """A loss in segments has full BPTT's gradient, whichever exact strategy was chosen."""
    length, model = config["segment_length"], config["model"]
    if length is None:
        return
    if not signatures.read(config["gradient"]["_target_"]).claims.get("exact_within_chunk"):
        refuse("segment_length", length, "needs an exact strategy; use gradient=checkpointed")
    if model["dropout"] > 0 and model["num_layers"] > 1:
        refuse("segment_length", length, "cannot drop units; use model.dropout=0")


def _check_device(config: Mapping[str, Any], here: bool) -> None:
    device, batch_size = config["device"], config["dataset"].get("batch_size")
    accelerator, devices = device["accelerator"], device["devices"]
    if isinstance(batch_size, int) and batch_size < devices:
        problem = f"must be at least device.devices={devices}, one sequence for each process"
        refuse("dataset.batch_size", batch_size, problem)
    if not here or accelerator == "cpu" or (accelerator == "auto" and devices == 1):
        return
    found = gpus.count()
    if accelerator == "gpu" and found == 0:
        refuse("device.accelerator", "gpu", "no CUDA GPU is visible here; use device=cpu")
    if 0 < found < devices:
        problem = f"must be at most {found}, the GPUs visible here; use device.devices={found}"
        refuse("device.devices", devices, problem)
