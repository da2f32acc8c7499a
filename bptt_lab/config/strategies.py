"""A gradient strategy from the name of its option and settings: one way for every command.

Training, shadows, bptt-explain and bptt-compare find a strategy here, one of --config-dir too.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from hydra import version
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from bptt_lab.config import components, hydra_internals, targets
from bptt_lab.config.loader import Loader
from bptt_lab.config.schema import Component, refuse
from bptt_lab.core.validation import ConfigError

CONFIG_PATH, CONFIG_NAME = "pkg://bptt_lab.conf", "config"
VERSION_BASE = "1.3"
SHADOW = "callbacks.shadow"


class Options:
    """The options of the group `gradient`, those of folders and installed packages among them."""

    def __init__(self, loader: Loader, name: str, searchpath: Sequence[str] = ()) -> None:
        self.loader, self.name, self.searchpath = loader, name, searchpath

    def names(self) -> list[str]:
        """Return the names, in order."""
        return sorted({*self.trusted(), *self.loader.installed.names("gradient")})

    def trusted(self) -> list[str]:
        """Return the names, less those of installed packages that are not allowed."""
        folders = OverridesParser.create().parse_overrides([*self.searchpath])
        files = self.loader.files(self.name, folders)
        return files.get_group_options("gradient")

    def section(self, name: str) -> Mapping[str, object]:
        """Return an option's `_target_` and settings, interpolations as written."""
        lines = [*self.searchpath, f"gradient={name}"]
        config = self.loader.load_configuration(self.name, lines, RunMode.RUN)
        section: Any = OmegaConf.to_container(config.gradient, resolve=False)
        return dict(section)


@functools.cache
def packaged() -> Options:
    """Return the package's own options, for whoever has no command line."""
    version.setbase(VERSION_BASE)
    search_path = hydra_internals.create_automatic_config_search_path(None, None, CONFIG_PATH)
    return Options(Loader(search_path), CONFIG_NAME)


def options_of_job() -> Options:
    """Return the options that Hydra's present job was composed from."""
    hydra = HydraConfig.get()
    search_path = hydra_internals.ConfigSearchPathImpl()
    for source in hydra.runtime.config_sources:
        if source.path or source.schema == "structured":  # where Hydra's own schemas are
            search_path.append(source.provider, f"{source.schema}://{source.path}")
    return Options(Loader(search_path), hydra.job.config_name or CONFIG_NAME)


def from_name(
    key: str,
    name: object,
    given: Mapping[str, object],
    options: Options,
    *,
    seed: int = 0,
    allow: str | Sequence[str] = (),
) -> Component:
    """Return the validated section of an option, some of its settings replaced by `given` ones.

    `key` named it, `seed` is for options that ask for one, `allow` has packages beside ours.
    """
    return _validated(key, _section(key, name, given, options, seed), allow)


def shadows(
    listed: Sequence[object], seed: int, options: Options, allow: str | Sequence[str]
) -> dict[str, Component]:
    """Return the strategies of `callbacks.shadow`, which do not train, by labels for their tags.

    Arguments and errors are as for `from_name`; an entry is the name of an option or a section.

    [truncated, autograd]                            options of the group `gradient`, as they are
    [{name: truncated, k: 4}, {name: truncated, k: 8, mode: lag}]
    [{_target_: mypkg.mine.Mine, some: 1}]           a class of an allowed package
    """
    found = shadow_sections(listed, seed, options)
    return {label: _validated(SHADOW, section, allow) for label, section in found.items()}


def shadow_sections(
    listed: Sequence[object], seed: int, options: Options
) -> dict[str, dict[str, object]]:
    """Return each shadow strategy's section by its label, not yet validated."""
    found: dict[str, dict[str, object]] = {}
    for entry in listed:
        section = dict(entry) if isinstance(entry, Mapping) else {"name": entry}
        name, target = section.pop("name", None), str(section.get("_target_", ""))
        changed = [f"{key}_{value}" for key, value in section.items() if key != "_target_"]
        called = target.rpartition(".")[2] if target else str(name)
        label = str(name) if target and name else "_".join([called, *changed])
        if not target:
            section = _section(SHADOW, name, section, options, seed)
        if label in found:
            raise ConfigError(f"{SHADOW}: holds {label} twice; keep one")
        found[label] = section
    return found


def resolved(section: Mapping[str, object], seed: int) -> dict[str, Any]:
    """Resolve an option's interpolations: what it may take from around it is the seed."""
    around = OmegaConf.create({"seed": seed, "gradient": dict(section)})
    plain: Any = OmegaConf.to_container(around, resolve=True)
    return dict(plain["gradient"])


def _section(
    key: str, name: object, given: Mapping[str, object], options: Options, seed: int
) -> dict[str, object]:
    names = options.names()
    if name not in names:
        refuse(key, name, f"must be one of {', '.join(names)}")
    return resolved({**options.section(str(name)), **given}, seed)


def _validated(key: str, section: Mapping[str, object], allow: str | Sequence[str]) -> Component:
    trusted = targets.packages(allow)
    for inner, target in targets.targets(section, key):
        kinds = targets.KINDS["gradient"] if inner == f"{key}._target_" else targets.PARTS
        targets.check_target(inner, target, kinds, trusted)
    return components.component(key, section)
