"""Hydra's loader, which composes a choice of options once, however many values are set in it.

To read and merge the files of options takes 80 ms, to set values in a copy 3. A sweep over values
composes once. So does the refusal of a value, with the default that it names. What only the files
of packages say is remembered as long as the process lives, since those files do not change.

A sweep's job is called after the settings that differ between its jobs, the seed last. A setting
that all share says nothing, so it is left out. Where the others are too many for a name, each gives
up some of its middle, and none falls off the end.
"""

import functools
import os
import pickle
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from bptt_lab.config import hydra_internals
from bptt_lab.config.hydra_internals import ConfigLoaderImpl, ConfigRepository, IConfigRepository
from bptt_lab.config.installed import Installed
from bptt_lab.config.schema import CONTROL, key_of, refuse

SEARCHPATH = "hydra.searchpath"
LONGEST = 150  # characters of a job's name, all settings together
PACKAGES = ("pkg://", "structured://")
FIXED = ("main", "hydra")  # whose packages lie in no folder that an option names
_of_packages: dict[tuple[object, ...], bytes] = {}
_read: dict[tuple[str, str], bytes] = {}


class Repository(ConfigRepository):
    """Finds options: ours, then those of the user's folders, then those of installed packages.

    None of the others may have the name of one of ours, which would hide it without a word.
    """

    def __init__(self, search_path: ConfigSearchPath) -> None:
        self.installed = Installed()
        super().__init__(search_path)

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Make the sources; the schema, which Hydra wants there, stays the last."""
        super().initialize_sources(config_search_path)
        self.sources.insert(-1, self.installed)

    def get_sources(self) -> list[ConfigSource]:
        """Return the sources that have a place, of which Hydra makes a record."""
        return [source for source in self.sources if source is not self.installed]

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Load a file, or what stands for one.

        Raises:
            ConfigError: where one of ours has a namesake in a folder or an allowed package.
        """
        group, _, name = config_path.rpartition("/")
        sources = [source for source in self.sources if source.scheme() in ("pkg", "file")]
        places = [source for source in sources if source.is_config(config_path)]
        if places and places[0].provider == "main":
            way_out = "has the name of one of ours; give it another"
            if places[1:]:
                refuse(group, name, f"{places[1].path}/{config_path}.yaml {way_out}")
            if self.installed.allowed and name in self.installed.names(group, allowed=True):
                refuse(group, name, f"a package that you allow {way_out}, or allow less")
        if not places or places[0].scheme() != "pkg" or places[0].provider not in FIXED:
            return super().load_config(config_path)
        key = places[0].path, config_path
        if key not in _read:
            _read[key] = pickle.dumps(super().load_config(config_path))
        found: ConfigResult = pickle.loads(_read[key])
        return found


class Loader(ConfigLoaderImpl):
    """Loads what `ConfigLoaderImpl` does, and remembers what options compose to."""

    repository: Repository

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        self.repository = Repository(search_path)
        self._paths = tuple(str(folder.path) for folder in search_path.get_path())
        self.of_packages = all(path.startswith(PACKAGES) for path in self._paths)
        self._composed = _of_packages if self.of_packages else {}
        self._files: dict[tuple[str | None, tuple[str, ...]], IConfigRepository] = {}

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Compose a configuration, its `hydra` section included; Hydra's errors pass."""
        parsed = OverridesParser.create().parse_overrides(overrides)
        if validate_sweep_overrides:
            self.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
        files = self.files(config_name, parsed)
        options: list[Override] = []
        values: list[Override] = []
        for override in parsed:
            if not override.is_sweep_override():
                # Hydra's own settings are the same in all jobs of a sweep.
                once = override.is_hydra_override() or is_choice(override, files)
                (options if once else values).append(override)
        allowed = self.installed.allowed  # a package may be another one in another folder
        around = (self._paths, *allowed, os.getcwd() if allowed else "")
        key = (*around, config_name, run_mode, *_lines(options))
        packed = self._composed.get(key)
        if packed is None:
            whole = super().load_configuration(config_name, [*_lines(options)], run_mode)
            OmegaConf.clear_cache(whole)  # of `${now:...}`, which has been asked for a default
            packed = pickle.dumps(whole)
            if not any(map(_is_searchpath, options)):  # those folders' files may change
                self._composed[key] = packed
        config: DictConfig = pickle.loads(packed)  # in half the time of a deep copy
        config.hydra.runtime.cwd = os.getcwd()
        self._apply_overrides_to_config(values, config)
        _describe(config, parsed, options)
        return config

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """Compose a sweep's job, called after what tells it from the others."""
        config = super().load_sweep_config(master_config, sweep_overrides)
        config.hydra.job.override_dirname = words(master_config, sweep_overrides)
        return config

    @property
    def installed(self) -> Installed:
        """The options of installed packages, of which those of allowed ones are listed."""
        return self.repository.installed

    def files(self, config_name: str | None, overrides: Sequence[Override]) -> IConfigRepository:
        """Return the files of options, of the folders too that the overrides name."""
        folders = _lines(filter(_is_searchpath, overrides))
        if (config_name, folders) not in self._files:
            create = self._parse_overrides_and_create_caching_repo
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Hydra only warns of what is refused here
                found = create(config_name, [*folders])[1]
            for source in found.get_sources():
                if source.provider.startswith(SEARCHPATH) and not source.available():
                    refuse(SEARCHPATH, source.path, "is not a folder; give one that exists")
            self._files[config_name, folders] = found
        return self._files[config_name, folders]


def is_choice(override: Override, files: IConfigRepository) -> bool:
    """Whether an override chooses an option of a group, rather than sets a value."""
    if override.is_sweep_override() or not isinstance(override.value(), dict):
        return files.group_exists(override.key_or_group)
    return False


def _describe(config: DictConfig, all_: Sequence[Override], known: Sequence[Override]) -> None:
    """List the settings of the experiment in the `hydra` section, which lists known ones only."""
    settings = [override for override in all_ if not override.is_hydra_override()]
    number = sum(not override.is_hydra_override() for override in known)
    listed = config.hydra.overrides.task
    config.hydra.overrides.task = [*listed[: len(listed) - number], *_lines(settings)]
    how = config.hydra.job.config.override_dirname
    config.hydra.job.override_dirname = hydra_internals.get_overrides_dirname(
        settings, how.exclude_keys, how.item_sep, how.kv_sep
    )


def _is_searchpath(override: Override) -> bool:
    return override.get_key_element() == SEARCHPATH


def _lines(overrides: Iterable[Override]) -> tuple[str, ...]:
    return tuple(str(override.input_line) for override in overrides)


def given(config: DictConfig, kind: Literal["task", "hydra"]) -> list[str]:
    """Return the overrides of a kind as they were given, interpolations unresolved."""
    lines: Any = OmegaConf.to_container(config.hydra.overrides[kind], resolve=False)
    return [str(line) for line in lines]


def swept(sweep: DictConfig) -> list[str]:
    """Return what a sweeper makes jobs from: its own `params`, then the overrides as given."""
    params = sweep.hydra.sweeper.get("params") or {}
    return [*(f"{key}={value}" for key, value in params.items()), *given(sweep, "task")]


def words(master: DictConfig, overrides: Sequence[str]) -> str:
    """Return what a job is called after: `master` is the sweep's configuration."""
    constant = _constant(tuple(swept(master)))
    own = [line for line in overrides if key_of(line) not in constant]
    own.sort(key=lambda line: key_of(line) == "seed")
    room = LONGEST // max(1, len(own)) - 1
    separator = str(master.hydra.job.config.override_dirname.item_sep)
    return separator.join(_short(line, room) for line in own)


@functools.lru_cache
def _constant(lines: tuple[str, ...]) -> frozenset[str]:
    """Return the keys to which a sweep gives one value, and those that are no settings."""
    found = set(CONTROL)
    for override in OverridesParser.create().parse_overrides([*lines]):
        one = override.is_choice_sweep() and len(getattr(override.value(), "list", ())) == 1
        if one or not override.is_sweep_override():
            found.add(key_of(str(override.input_line)))
    return frozenset(found)


def _short(line: str, room: int) -> str:
    """Write a setting in as many letters as there is room, without a section's brackets."""
    text = re.sub(r"[][{}\"' ]", "", line.lstrip("+")).replace(":", "=")
    if len(text) <= room:
        return text
    head = (room - 2) // 2
    return f"{text[:head]}--{text[head + 2 - room :]}"
