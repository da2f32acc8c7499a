"""The typed experiment: every section a frozen dataclass, its limits in the annotations.

`bptt_lab.config.parse` makes an `Experiment` of what Hydra composed, and refuses what cannot work.
A plug-in's section is a `Component`; its settings' limits are its constructor's annotations.
"""

import dataclasses
import difflib
import functools
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from bptt_lab.config.signatures import Setting
from bptt_lab.core.validation import (
    ConfigError,
    Duration,
    Ge,
    Gt,
    Le,
    Lt,
    OfValidation,
)

_BARE = re.compile(r"[A-Za-z0-9_./:+-]+")  # a text that Hydra reads as it is
MISSING = "???"  # what a YAML file writes for a value that must be given

Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]
Metric = Annotated[str, OfValidation()]


@dataclass(frozen=True)
class Component:
    """A plug-in's section: the class that it names, and what its constructor is given."""

    target: str
    settings: Mapping[str, Any] = field(default_factory=dict)  # plain containers

    @classmethod
    def of(cls, section: Mapping[str, object]) -> "Component":
        """Read a section that holds `_target_` and settings."""
        settings = dict(section)
        return cls(str(settings.pop("_target_")), settings)

    def section(self) -> dict[str, object]:
        """Return the section as a file writes it."""
        return {"_target_": self.target, **self.settings}


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
    embedding_size: Annotated[int | None, Ge(1)] = None
    zero_bias: bool | None = None


@dataclass(frozen=True)
class Trainer:
    """Settings of lightning.pytorch.Trainer."""

    max_epochs: Annotated[int | None, Ge(1)]
    accumulate_grad_batches: Annotated[int, Ge(1)]
    gradient_clip_val: Annotated[float | None, Gt(0)]
    gradient_clip_algorithm: Literal["norm", "value"]
    precision: Literal["32-true", "64-true", "bf16-mixed"]
    log_every_n_steps: Annotated[int, Ge(1)]
    enable_progress_bar: bool
    ema_decay: Annotated[float | None, Gt(0), Lt(1)] = None
    max_steps: Annotated[int | None, Ge(1)] = None
    max_time: Annotated[float | str | None, Duration()] = None
    # Batches, or a share of an epoch; None: once an epoch.
    val_check_interval: Annotated[int, Ge(1)] | Annotated[float, Gt(0), Le(1)] | None = None
    fast_dev_run: bool | None = None


@dataclass(frozen=True)
class EarlyStopping:
    """Whether training ends where validation gets no better; `patience` counts validations."""

    patience: Annotated[int | None, Ge(1)] = None
    min_delta: NotNegative = 0.0
    metric: Metric = "val/loss"


@dataclass(frozen=True)
class Device:
    """WHERE it runs."""

    accelerator: Literal["cpu", "gpu", "auto"]
    devices: Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Callbacks:
    """What is measured: instruments, and strategies that do not train, each by its name."""

    every_n_steps: Annotated[int, Ge(1)]
    probe_size: Annotated[int, Ge(1)]
    shadow: Mapping[str, Component]
    instruments: Mapping[str, Component]


@dataclass(frozen=True)
class Control:
    """How a run is gone about; no part of the experiment, and not in its manifest's config."""

    resume: str | None = None
    force_resume: bool = False
    dry_run: bool = False
    fail_fast: bool = False
    allow: str | list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class General:
    """Settings that belong to no section."""

    seed: Annotated[int, Ge(0)]
    num_threads: Annotated[int, Ge(1), Le(1024)]
    segment_length: Annotated[int | None, Ge(1)]
    divergence: Literal["stop", "record"]
    checkpoint_seconds: NotNegative
    metrics: str | list[str] | None = None  # of torchmetrics, beside the task's own
    loggers: str | list[object] | None = None  # names, or mappings of a name to settings


@dataclass(frozen=True, kw_only=True)
class Experiment(General):
    """One experiment, checked: nobody who holds one need look at a composed configuration."""

    trainer: Trainer
    model: Model
    gradient: Component
    dataset: Component
    device: Device
    optimizer: Component
    schedule: Component
    early_stopping: EarlyStopping
    callbacks: Callbacks
    control: Control

    @property
    def threads(self) -> int:
        """Threads of torch in each of the run's processes."""
        return max(1, self.num_threads // self.device.devices)

    def plain(self) -> dict[str, object]:
        """Return what a manifest holds: the settings as plain containers, without `control`."""
        plain = {key: value for key, value in vars(self).items() if key != "control"}
        plain |= {name: vars(plain[name]).copy() for name in SECTIONS}
        plain |= {name: plain[name].section() for name in PLUGIN_SECTIONS}
        callbacks = vars(self.callbacks).copy()
        instruments, shadow = callbacks.pop("instruments"), callbacks["shadow"]
        callbacks["shadow"] = [{"name": name, **rule.section()} for name, rule in shadow.items()]
        callbacks |= {name: each.section() for name, each in instruments.items()}
        return {**plain, "callbacks": callbacks}

    def quiet(self) -> "Experiment":
        """Return the same experiment without a progress bar."""
        trainer = dataclasses.replace(self.trainer, enable_progress_bar=False)
        return dataclasses.replace(self, trainer=trainer)


SECTIONS: Mapping[str, type] = {
    "model": Model,
    "trainer": Trainer,
    "device": Device,
    "early_stopping": EarlyStopping,
}
PLUGIN_SECTIONS = ("gradient", "dataset", "optimizer", "schedule")
# What a configuration that lacks these means: as it was before there were any.
UNSAID: Mapping[str, Mapping[str, Any]] = {
    "schedule": {"_target_": "bptt_lab.training.schedules.Constant", "warmup_steps": 0},
    "early_stopping": vars(EarlyStopping()),
}


@functools.cache
def fields(section: type) -> Mapping[str, Setting]:
    """A fixed section's settings; one without a default must be given."""
    hints = typing.get_type_hints(section, include_extras=True)
    return {n: Setting(hint, required=not hasattr(section, n)) for n, hint in hints.items()}


CONTROL = tuple(fields(Control))


def key_of(line: str) -> str:
    """Return the dotted key that an override sets, adds or deletes."""
    return line.lstrip("+~").partition("=")[0]


def allowed(allow: str | Iterable[str]) -> tuple[str, ...]:
    """Return the packages that a value of `allow` names, one or several."""
    return (allow,) if isinstance(allow, str) else tuple(allow)


def refuse(key: str, value: object, problem: str) -> typing.NoReturn:
    """Raise the ConfigError."""
    raise ConfigError(f"{key}={show(value)}: {problem}")


def show(value: object) -> str:
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


def quoted(text: str) -> str:
    """Write a text in quotes, as Hydra reads it: a backslash is one unless a quote follows."""
    whole = re.sub(r"(\\+)$", r"\1\1", text)
    return "'" + re.sub(r"(\\*)'", r"\1\1\\'", whole) + "'"


def unquoted(text: str) -> str:
    """Undo `quoted`; a text without quotes is as it is."""
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
        return text
    ends = rf"(\\+)({text[0]}|$)"
    return re.sub(ends, lambda found: "\\" * (len(found[1]) // 2) + found[2], text[1:-1])


def word(text: str) -> str:
    """Write a text as Hydra reads it, in quotes where it needs some."""
    return text if _BARE.fullmatch(text) and show(text) == text else quoted(text)


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
