"""A gradient strategy by the name of its option, conf/gradient/NAME.yaml or DIR/gradient/NAME.yaml.

What an option takes from the experiment around it is the seed, which is 0 here. Only `build` needs
torch.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from bptt_lab.config import schema, signatures, targets
from bptt_lab.config.compose import CommandLine
from bptt_lab.config.errors import on_one_line
from bptt_lab.config.schema import Config
from bptt_lab.core.validation import ConfigError, unmet

if TYPE_CHECKING:
    from bptt_lab.gradients.base import GradientStrategy


def names(config_dir: str | None = None) -> list[str]:
    """Return the options of the group `gradient`, in order; those of a folder among them."""
    return sorted(_options(config_dir).options("gradient"))


def section(
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    config_dir: str | None = None,
    allow: Iterable[str] = (),
) -> Config:
    """Return what an option's file sets, with some settings replaced; nothing is imported.

    Args:
        name: of the option.
        settings: replace the file's.
        config_dir: a folder with options of its own, as bptt-train's --config-dir.
        allow: packages beside bptt_lab that the class may come from.

    Raises:
        ConfigError: for an option or a setting that does not exist, or a foreign class.
    """
    with on_one_line(None, [f"gradient={name}"]):
        known = names(config_dir)
        if name not in known:
            raise ConfigError(f"gradient={name}: must be one of {', '.join(known)}")
        around = {"seed": 0, "gradient": _options(config_dir).option("gradient", name)[1]}
        config: Any = OmegaConf.to_container(OmegaConf.create(around), resolve=True)
        targets.refuse_foreign({"gradient": config["gradient"]}, allow)
        found: Config = {**config["gradient"], **(settings or {})}
        accepted = accepts(found)
        for key in settings or ():
            if key not in accepted:
                way_out = schema.suggest(key, accepted)
                schema.refuse(f"gradient.{key}", found[key], f"there is no such setting; {way_out}")
            problem = unmet(found[key], accepted[key].hint, found)
            if problem is not None:
                schema.refuse(f"gradient.{key}", found[key], problem)
    return found


def accepts(section: Config) -> Mapping[str, signatures.Setting]:
    """Return the settings that a section's class takes."""
    return signatures.read(section["_target_"]).settings


def choices(section: Config, key: str) -> tuple[str, ...]:
    """Return the values that a section's class allows for a setting by Literal, or none."""
    setting = accepts(section).get(key)
    return get_args(setting.hint) if setting and get_origin(setting.hint) is Literal else ()


def build(section: Config) -> GradientStrategy:
    """Make the strategy that a section describes.

    Raises:
        ConfigError: where its constructor refuses.
    """
    try:
        return cast("GradientStrategy", instantiate(section, _convert_="all"))
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            raise ConfigError(f"gradient.{error.__cause__}") from error
        raise


def claims(strategy: GradientStrategy) -> str:
    """Return what a strategy says of its gradient within a chunk: exact, unbiased or biased."""
    if strategy.exact_within_chunk:
        return "exact"
    return "unbiased" if strategy.unbiased else "biased"


def _options(config_dir: str | None) -> CommandLine:
    if config_dir is not None and not os.path.isdir(config_dir):
        raise ConfigError(f"--config-dir={config_dir}: is not a folder; give one that exists")
    return _command_line(config_dir and os.path.abspath(config_dir))


@functools.cache
def _command_line(config_dir: str | None) -> CommandLine:
    flags = {"config_path": None, "config_dir": config_dir, "config_name": None}
    return CommandLine(argparse.Namespace(**flags, overrides=[]))
