"""Validation of one section: its settings are there, of the right type, in their limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from bptt_lab.config import signatures
from bptt_lab.config.schema import (
    MISSING,
    Component,
    Fraction,
    NotNegative,
    Positive,
    refuse,
    suggest,
)
from bptt_lab.config.signatures import UNKNOWN, Plugin, Setting
from bptt_lab.core.renamed import current
from bptt_lab.core.validation import ConfigError, unmet


@dataclass(frozen=True)
class Length:
    """The list has so many items."""

    number: int

    def unmet(self, value: Any, siblings: Mapping[str, Any]) -> str | None:
        """Say the number where the list has another."""
        return None if len(value) == self.number else f"must be a list of {self.number}"


# torch annotates its optimizers loosely, and checks them late.
TORCH_OPTIM: Mapping[str, object] = {
    "lr": Positive,
    "momentum": Fraction,
    "betas": Annotated[list[Fraction], Length(2)],
    "eps": Positive,
    "weight_decay": NotNegative,
    "alpha": Fraction,
    "lr_decay": NotNegative,
    "nesterov": bool,
}


def component(key: str, section: Mapping[str, object]) -> Component:
    """Validate a plug-in's section.

    Args:
        key: of the section, for messages.
        section: `_target_` and settings, interpolations resolved.

    Raises:
        ConfigError: naming the dotted key, the value, the limit and the way out, on one line.
    """
    if "_target_" not in section:
        refuse(f"{key}._target_", None, "must name a class, as package.module.Class")
    found = Component.of(renamed(section))
    plugin = signatures.read(found.target)
    settings = plugin_settings(plugin)
    if not plugin.takes_any:
        refuse_unknown(key, found.settings, settings)
    validate(key, found.settings, settings)
    return found


def renamed(value: Any) -> Any:
    """Return plain containers with the present name of every class that has moved."""
    if isinstance(value, Mapping):
        return {
            key: current(item) if key == "_target_" else renamed(item)
            for key, item in value.items()
        }
    return [renamed(item) for item in value] if isinstance(value, list) else value


def plugin_settings(plugin: Plugin) -> Mapping[str, Setting]:
    """What a plug-in's section may hold beside `_target_`."""
    settings = {name: value for name, value in plugin.settings.items() if name != "params"}
    if not plugin.target.startswith("torch.optim."):
        return settings
    return {
        name: setting._replace(hint=TORCH_OPTIM.get(name, setting.hint))
        for name, setting in settings.items()
    }


def validate(section: str, values: Mapping[str, object], settings: Mapping[str, Setting]) -> None:
    """Refuse a value that is missing, of another type or outside its limits."""
    prefix = f"{section}." if section else ""
    defaults = {n: s.default for n, s in settings.items() if s.default is not UNKNOWN}
    for name, setting in settings.items():
        if values.get(name) == MISSING or (setting.required and name not in values):
            raise ConfigError(f"{prefix}{name}: is missing; give it as {prefix}{name}=...")
        if name in values:
            problem = unmet(values[name], setting.hint, {**defaults, **values})
            if problem:
                refuse(f"{prefix}{name}", values[name], problem)


def refuse_unknown(section: str, values: Mapping[str, object], known: Iterable[str]) -> None:
    """Refuse a setting that the section does not have."""
    for name in values:
        if name not in known:
            way_out = suggest(name, known)
            refuse(f"{section}.{name}", values[name], f"there is no such setting; {way_out}")
