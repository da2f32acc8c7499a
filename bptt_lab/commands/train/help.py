"""The help of `bptt-train` and `bptt-search`, read from conf/ and from the plug-ins' source."""

import argparse
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from omegaconf import DictConfig, OmegaConf

from bptt_lab.commands.command import EXIT_CODES
from bptt_lab.config import schema, signatures
from bptt_lab.config.components import plugin_settings
from bptt_lab.config.compose import CommandLine
from bptt_lab.config.errors import on_one_line
from bptt_lab.config.security import open_command_line
from bptt_lab.config.signatures import UNKNOWN, Plugin, Setting
from bptt_lab.config.source_text import FromSetting
from bptt_lab.core import validation
from bptt_lab.core.messages import columns
from bptt_lab.core.validation import ConfigError

CLAIMS = {
    "exact_within_chunk": "exact in a chunk",
    "exact_across_chunks": "across chunks",
    "unbiased": "unbiased",
    "cost": "time",
    "space": "space",
}
_TYPES = {int: "integer", float: "number", str: "text", bool: "true or false"}


def print_help(name: str, introduction: str, args: argparse.Namespace) -> None:
    """Print the help of a command, which begins with an introduction; --config-dir adds options.

    Raises:
        ConfigError: where the folders named do not hold a configuration.
    """
    with on_one_line(None, args.overrides):
        text = "\n".join(_help(open_command_line(args)[0]))
    print(f"usage: {name} [flags] [group=option ...] [key=value ...]\n")
    print(f"{introduction}\n")
    print("Other flags are Hydra's: bptt-train --hydra-help.")
    print(f"{text}\n\n{EXIT_CODES}")


def _help(command: CommandLine) -> Iterator[str]:
    config = _written(command.compose(command.searchpath))
    choices = config["hydra"]["runtime"]["choices"]
    options = {group: names for group in command.groups() if (names := command.options(group))}
    yield "\nGroups and their options (* unless you say otherwise):"
    purposes = dict(
        re.findall(r"- (\w+): .*# (.*)", "\n".join(command.text(f"{command.name}.yaml")))
    )
    said = {}
    for group, names in options.items():
        yield f"  {group}  {purposes.get(group, '')}".rstrip()
        rows = []
        for option in names:
            mark = "*" if choices.get(group) == option else " "
            comment, said[group, option] = _option(command, group, option)
            rows.append((f"  {mark} {option}", comment))
        yield from aligned(rows)
    found = {
        (group, name): _plugin(command, group, name, said[group, name])
        for group in schema.PLUGIN_SECTIONS
        for name in options.get(group, [])
        if said[group, name] is not None
    }
    yield "\nGradient strategies, and what each one claims (a test holds it to that):"
    claims: list[tuple[str, ...]] = [("  gradient=", *CLAIMS.values())]
    for (group, name), (plugin, _) in found.items():
        if group == "gradient":
            claims.append((f"  {name}", *(_claim(plugin.claims.get(claim)) for claim in CLAIMS)))
    yield from aligned(claims)
    yield "\nSettings, as they are unless you say otherwise, and their limits:"
    general = {**schema.fields(schema.General), **schema.fields(schema.Control)}
    fixed = {name: schema.fields(kind) for name, kind in schema.SECTIONS.items()}
    for section, settings in {"": general, **fixed}.items():
        yield from _settings(section, settings, config[section] if section else config)
    for (group, name), (plugin, values) in found.items():
        settings = {k: s for k, s in plugin_settings(plugin).items() if _worth(k, s, values)}
        yield f"  {group}={name}" + ("" if settings else " takes no settings")
        yield from _settings(group, settings, values, indent="    ")


def _option(command: CommandLine, group: str, name: str) -> tuple[str, Any]:
    """Read an option's first comment and its settings; None of an installed one that is broken."""
    try:
        return command.option(group, name)
    except ConfigError as error:
        return f"cannot be used: {str(error).partition(': ')[2]}", None


def _plugin(
    command: CommandLine, group: str, name: str, values: Any
) -> tuple[Plugin, Mapping[str, Any]]:
    """Read an option's class, and the values that its file gives."""
    if "_target_" not in values:  # it comes from the option's own defaults list
        values = _written(command.compose([*command.searchpath, f"{group}={name}"]))[group]
    try:
        return signatures.read(str(values["_target_"])), values
    except (ConfigError, KeyError, TypeError) as error:
        return Plugin(str(error)), values


def _worth(name: str, setting: Setting, values: Mapping[str, Any]) -> bool:
    """Whether a setting is worth a line: torch's optimizers have switches that nobody touches."""
    return name in values or setting.required or get_origin(setting.hint) in (Annotated, Literal)


def _settings(
    section: str, settings: Mapping[str, Setting], values: Any, indent: str = "  "
) -> Iterator[str]:
    rows = []
    for name, setting in settings.items():
        key = f"{section}.{name}" if section else name
        value = values.get(name, setting.default)
        shown = "..." if value is UNKNOWN else schema.show(value)
        rows.append((f"{indent}{key}={shown}", describe(setting.hint)))
    yield from aligned(rows)


def _written(config: DictConfig) -> Any:
    """A configuration as its files write it, interpolations too."""
    return OmegaConf.to_container(config, resolve=False)


def describe(hint: Any) -> str:
    """Say in words which values a type hint and its limits allow.

    >>> from annotated_types import Ge
    >>> describe(Annotated[int | None, Ge(1)])
    'integer or null, at least 1'
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return ", ".join([describe(args[0]), *map(validation.words, args[1:])])
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin in (Union, types.UnionType):
        return " or ".join(map(describe, args))
    if origin is list:
        return f"list of ({describe(args[0])})"
    if hint is type(None):
        return "null"
    return _TYPES.get(hint, "")


def _claim(value: Any) -> str:
    if isinstance(value, FromSetting):
        return f"if {value.setting}"
    return {True: "yes", False: "no", None: "?"}.get(value, str(value))


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lay out rows in columns."""
    layout = columns(rows)
    yield from (layout.format(*row).rstrip() for row in rows)
