"""The command line, parsed and composed by Hydra without running anything.

It does as `hydra.main` does. What can go wrong here raises Hydra's own errors;
`bptt_lab.config.errors` puts them on one line.
"""

import argparse
import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

from hydra import version
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime, setup_globals
from hydra.types import HydraContext, RunMode
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf, open_dict

from bptt_lab.config import hydra_internals
from bptt_lab.config.hints import says_nothing
from bptt_lab.config.loader import Loader, is_choice
from bptt_lab.config.loader import given as given
from bptt_lab.config.loader import swept as swept
from bptt_lab.config.strategies import CONFIG_NAME, CONFIG_PATH, VERSION_BASE, Options
from bptt_lab.core.validation import ConfigError

Compose = Callable[[list[str]], DictConfig]  # may raise HydraException
MODULE = "bptt_lab.commands.train.cli"  # a relative --config-path starts from here


class CommandLine:
    """Composes configurations from the arguments of one command line."""

    job_name = MODULE.rpartition(".")[2]  # hydra.job.name, where nobody says another

    def __init__(self, args: argparse.Namespace) -> None:
        version.setbase(VERSION_BASE)
        setup_globals()
        JobRuntime().set("name", self.job_name)
        create = hydra_internals.create_automatic_config_search_path
        search_path = create(None, MODULE, args.config_path or CONFIG_PATH)
        if args.config_dir is not None:
            folder = f"file://{os.path.abspath(args.config_dir)}"
            search_path.prepend("command-line", folder, SearchPathQuery(provider="schema"))
        self.args = args
        self.lines: list[str] = [line for line in args.overrides if not says_nothing(line)]
        self.searchpath = [line for line in self.lines if line.startswith("hydra.searchpath=")]
        self.loader = Loader(search_path)
        self.name = args.config_name or CONFIG_NAME
        self._parser = OverridesParser.create(config_loader=self.loader)

    def parse(self, lines: list[str]) -> list[Override]:
        """Parse overrides by Hydra's grammar."""
        return self._parser.parse_overrides(lines)

    def compose(self, lines: list[str], mode: RunMode = RunMode.RUN) -> DictConfig:
        """Compose a configuration as `Loader.load_configuration` does."""
        return self.loader.load_configuration(self.name, lines, mode)

    @functools.cached_property
    def _files(self) -> hydra_internals.IConfigRepository:
        return self.loader.files(self.name, self.parse(self.searchpath))

    def is_group(self, override: Override) -> bool:
        """Whether an override chooses an option of a group, rather than sets a value."""
        return is_choice(override, self._files)

    def groups(self) -> list[str]:
        """Return the groups, Hydra's own left out."""
        groups = self._files.get_group_options("", ObjectType.GROUP)
        return [group for group in groups if group not in ("hydra", "__pycache__")]

    def options(self, group: str) -> list[str]:
        """Return the options of a group."""
        names = self._files.get_group_options(group)
        return sorted({*names, *self.loader.installed.names(group)})

    @functools.cached_property
    def strategies(self) -> Options:
        """Return the options of the group `gradient`, for whoever names a strategy."""
        return Options(self.loader, self.name, self.searchpath)

    def takers(self, group: str, setting: str) -> str:
        """Name the options of a group that have a setting, as on a command line."""
        found = []
        for name in self._files.get_group_options(group):
            with suppress(ConfigError):  # one that cannot be used
                found += [f"{group}={name}"] if setting in self.option(group, name)[1] else []
        return " or ".join(found)

    def option(self, group: str, name: str) -> tuple[str, Any]:
        """Return an option's first comment, and what its file sets."""
        loaded: Any = self._files.load_config(f"{group}/{name}")
        comments = [line for line in self.text(f"{group}/{name}.yaml") if line.startswith("#")]
        comments = [line.strip("# ") for line in comments if "@package" not in line]
        comments.append(loaded.header.get("comment", ""))  # of a class that has no file
        return comments[0], OmegaConf.to_container(loaded.config, resolve=False)

    def text(self, path: str) -> list[str]:
        """Return the lines of a configuration file, none where it is not a file of text."""
        for source in self._files.get_sources():
            place: Any = Path(source.path)
            if source.scheme() == "pkg":
                place = resources.files(source.path.replace("/", "."))
            if source.scheme() != "structured" and (file := place / path).is_file():
                return list(file.read_text(encoding="utf-8").splitlines())
        return []

    def outline(self, lines: list[str], mode: RunMode) -> DictConfig:
        """Compose the options that lines choose and Hydra's settings, and set nothing else.

        A setting may not fit the options, which is what the outline is then asked for.
        """
        kept = [o for o in self.parse(lines) if o.is_hydra_override() or self.is_group(o)]
        own = [str(override.input_line) for override in kept if not override.is_sweep_override()]
        return self.compose(own, mode)

    def free_constants(self) -> dict[str, str]:
        """Overrides of a sweep that Hydra would refuse, and how to say the same.

        In `-m gradient=a,b gradient.k=4` Hydra looks for gradient.k in the default gradient, before
        it takes a or b; as a sweep over one value it goes to each job as it is.
        """
        overrides = self.parse(self.lines)
        swept = [o.key_or_group for o in overrides if o.is_sweep_override()]
        swept += self.outline(self.lines, RunMode.MULTIRUN).hydra.sweeper.get("params") or {}
        return {
            str(o.input_line): f"{o.get_key_element()}=choice({o.get_value_element_as_str()})"
            for o in overrides
            if not (o.is_sweep_override() or o.is_delete() or o.is_hydra_override())
            if any(o.key_or_group.startswith(f"{group}.") for group in swept)
            if o.get_value_element_as_str()
        }

    def count(self, sweep: DictConfig) -> int:
        """Return how many jobs a sweep asks for, without making one."""
        by_key = {override.key_or_group: override for override in self.parse(swept(sweep))}
        return math.prod(map(num_values, by_key.values()))

    def expand(self, sweep: DictConfig) -> list[list[str]]:
        """Return the overrides of each job of a sweep, in Hydra's order.

        A sweeper that is not of the family of Hydra's own chooses values as it goes: then the one
        job returned is the part that is fixed.
        """
        section = sweep.hydra.sweeper
        overrides = self.parse(swept(sweep))
        if not self.knows_jobs(sweep):
            return [[o.input_line or "" for o in overrides if not o.is_sweep_override()]]
        kind: Any = admit(section._target_)
        sweeper = kind(section.max_batch_size)
        sweeper.config = sweep
        sweeper.hydra_context = HydraContext(self.loader, hydra_internals.Callbacks())
        batches = sweeper.split_arguments(overrides, section.max_batch_size)
        return [job for batch in batches for job in batch]

    def knows_jobs(self, sweep: DictConfig) -> bool:
        """Whether all jobs are known before the first starts."""
        kind = admit(sweep.hydra.sweeper._target_)
        # By name: Hydra's search for plug-ins runs that module twice, and so makes the class twice.
        return any(base.__name__ == "BasicSweeper" for base in kind.__mro__)


def num_values(override: Override) -> int:
    """Return how many values an override gives a key; those of a range are not made.

    Raises:
        ConfigError: for a range that has no end, or no step.
    """
    if not override.is_discrete_sweep():
        return 1
    values = override.value()
    if not isinstance(values, RangeSweep):
        return sum(1 for _ in override.sweep_string_iterator())
    try:
        start, stop, step = (Fraction(str(x)) for x in (values.start, values.stop, values.step))
        return max(0, math.ceil((stop - start) / step))
    except (ValueError, ZeroDivisionError):
        problem = "must be a range of finite numbers, with a step other than 0"
        raise ConfigError(f"{override.input_line}: {problem}; correct it") from None


def admit(target: str) -> type:
    """Have Hydra take a plug-in of ours, though it looks in the package `hydra_plugins` only."""
    plugins = Plugins.instance()
    if target in plugins.class_name_to_class:
        return plugins.class_name_to_class[target]
    kind = get_class(target)
    plugins.register(kind)
    known = staticmethod(plugins.class_name_to_class.__contains__)
    setattr(Plugins, "is_in_toplevel_plugins_module", known)  # noqa: B010  # mypy forbids the other
    return kind


def compose_job(
    loader: ConfigLoader, sweep: DictConfig, number: int, overrides: Sequence[str]
) -> DictConfig:
    """Compose a job of a sweep, as Hydra's own launcher does."""
    config = loader.load_sweep_config(sweep, list(overrides))
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = number
    return config


def composer(loader: ConfigLoader, sweep: DictConfig) -> Compose:
    """Return a function that composes overrides beside those of a sweep's `hydra` section."""
    name, fixed = sweep.hydra.job.config_name, given(sweep, "hydra")
    return lambda lines: loader.load_configuration(name, [*fixed, *lines], RunMode.MULTIRUN)


def hydra_setting(config: DictConfig, key: str) -> str:
    """Return a setting of a composed configuration's `hydra` section, resolved; empty for null."""
    with _speaking_for_hydra(config):
        return str(OmegaConf.select(config, f"hydra.{key}") or "")


def resolved(config: DictConfig) -> Any:
    """Turn a composed configuration into plain containers, its `hydra` section left out."""
    own = OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
    with _speaking_for_hydra(config):
        return OmegaConf.to_container(own, resolve=True)


@contextmanager
def _speaking_for_hydra(config: DictConfig) -> Iterator[None]:
    singleton = HydraConfig.instance()
    before = singleton.cfg
    singleton.cfg = config  # type: ignore[assignment]  # less is asked of it than is declared
    try:
        yield
    finally:
        singleton.cfg = before
