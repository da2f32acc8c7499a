"""The command line, parsed and composed by Hydra without running anything.

It does as `hydra.main` does. What can go wrong here raises Hydra's own errors;
`bptt_lab.config.errors` puts them on one line.
"""

from __future__ import annotations

import argparse
import copy
import functools
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from hydra import version
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime, setup_globals
from hydra.types import HydraContext, RunMode
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from bptt_lab.config.hydra_internals import (
    Callbacks,
    ConfigLoaderImpl,
    IConfigRepository,
    create_automatic_config_search_path,
    get_overrides_dirname,
)
from bptt_lab.config.strategies import CONFIG_NAME, CONFIG_PATH, VERSION_BASE, Options
from bptt_lab.core.validation import ConfigError

Compose = Callable[[list[str]], DictConfig]  # may raise HydraException
MODULE = "bptt_lab.commands.train.cli"  # a relative --config-path starts from here


class CommandLine:
    """Composes configurations from the arguments of one command line."""

    def __init__(self, args: argparse.Namespace) -> None:
        version.setbase(VERSION_BASE)
        setup_globals()
        JobRuntime().set("name", MODULE.rpartition(".")[2])
        search_path = create_automatic_config_search_path(
            None, MODULE, args.config_path or CONFIG_PATH
        )
        if args.config_dir is not None:
            search_path.prepend(
                provider="command-line",
                path=f"file://{os.path.abspath(args.config_dir)}",
                anchor=SearchPathQuery(provider="schema"),
            )
        self.args = args
        self.lines: list[str] = list(args.overrides)
        self.searchpath = [line for line in self.lines if line.startswith("hydra.searchpath=")]
        self.loader = ConfigLoaderImpl(search_path)
        self.name = args.config_name or CONFIG_NAME
        self._parser = OverridesParser.create(config_loader=self.loader)
        self._bases: dict[tuple[str, ...], DictConfig] = {}

    def parse(self, lines: list[str]) -> list[Override]:
        """Parse overrides by Hydra's grammar."""
        return self._parser.parse_overrides(lines)

    def compose(self, lines: list[str], mode: RunMode = RunMode.RUN) -> DictConfig:
        """Compose a configuration, its `hydra` section included.

        Raises:
            ConfigError: for a folder in hydra.searchpath that does not exist.
            Exception: whatever Hydra raises.
        """
        with _folders_found():
            return self.loader.load_configuration(self.name, lines, mode)

    @functools.cached_property
    def _repository(self) -> IConfigRepository:
        create = self.loader._parse_overrides_and_create_caching_repo
        with _folders_found():
            return create(self.name, self.searchpath)[1]

    def is_group(self, override: Override) -> bool:
        """Whether an override chooses an option of a group, rather than sets a value."""
        if override.is_sweep_override() or not isinstance(override.value(), dict):
            return self._repository.group_exists(override.key_or_group)
        return False

    def groups(self) -> list[str]:
        """Return the groups, Hydra's own left out."""
        groups = self._repository.get_group_options("", ObjectType.GROUP)
        return [group for group in groups if group not in ("hydra", "__pycache__")]

    def options(self, group: str) -> list[str]:
        """Return the options of a group."""
        return self._repository.get_group_options(group)

    @functools.cached_property
    def strategies(self) -> Options:
        """Return the options of the group `gradient`, for whoever names a strategy."""
        return Options(self.loader, self.name, self.searchpath)

    def option(self, group: str, name: str) -> tuple[str, Any]:
        """Return an option's first comment, and what its file sets."""
        loaded = self._repository.load_config(f"{group}/{name}")
        assert loaded is not None
        comments = [line for line in self.text(f"{group}/{name}.yaml") if line.startswith("#")]
        comments = [line.strip("# ") for line in comments if "@package" not in line]
        return comments[0] if comments else "", OmegaConf.to_container(loaded.config, resolve=False)

    def text(self, path: str) -> list[str]:
        """Return the lines of a configuration file, none where it is not a file of text."""
        for source in self._repository.get_sources():
            file: Any = None
            if source.scheme() == "file":
                file = Path(source.path, path)
            elif source.scheme() == "pkg":
                file = resources.files(source.path.replace("/", ".")).joinpath(path)
            if file is not None and file.is_file():
                return list(file.read_text(encoding="utf-8").splitlines())
        return []

    @functools.cached_property
    def _outline(self) -> DictConfig:
        """The chosen options and Hydra's settings, without any setting that may not fit them."""
        kept = [o for o in self.parse(self.lines) if o.is_hydra_override() or self.is_group(o)]
        lines = [str(override.input_line) for override in kept if not override.is_sweep_override()]
        return self.compose(lines, RunMode.MULTIRUN)

    def mode(self) -> RunMode:
        """Tell one run from a sweep: by -m or by hydra.mode, on the command line or in a preset."""
        if self.args.multirun:
            return RunMode.MULTIRUN
        return self._outline.hydra.mode or RunMode.RUN

    def free_constants(self) -> dict[str, str]:
        """Overrides of a sweep that Hydra would refuse, and how to say the same.

        In `-m gradient=a,b gradient.k=4` Hydra looks for gradient.k in the default gradient, before
        it takes a or b; as a sweep over one value it goes to each job as it is.
        """
        overrides = self.parse(self.lines)
        swept = [o.key_or_group for o in overrides if o.is_sweep_override()]
        swept += self._outline.hydra.sweeper.get("params") or {}
        return {
            str(o.input_line): f"{o.get_key_element()}=choice({o.get_value_element_as_str()})"
            for o in overrides
            if not (o.is_sweep_override() or o.is_delete() or o.is_hydra_override())
            if any(o.key_or_group.startswith(f"{group}.") for group in swept)
            if o.get_value_element_as_str()
        }

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
        sweeper.hydra_context = HydraContext(self.loader, Callbacks())
        batches = sweeper.split_arguments(overrides, section.max_batch_size)
        return [job for batch in batches for job in batch]

    def knows_jobs(self, sweep: DictConfig) -> bool:
        """Whether all jobs are known before the first starts."""
        kind = admit(sweep.hydra.sweeper._target_)
        # By name: Hydra's search for plug-ins runs that module twice, and so makes the class twice.
        return any(base.__name__ == "BasicSweeper" for base in kind.__mro__)

    def compose_job(self, sweep: DictConfig, number: int, job: list[str]) -> DictConfig:
        """Compose a job of a sweep, with the `hydra` section that it will have.

        Composing takes 50 ms, so it is done once for each choice of groups; the job's values are
        then set in a copy, by the function by which Hydra sets them.
        """
        overrides = self.parse(job)
        chosen = {o.input_line: o for o in overrides if self.is_group(o)}
        groups = tuple(line for line in job if line in chosen)
        if groups not in self._bases:
            base = self.compose([*given(sweep, "hydra"), *groups])
            with open_dict(base):
                del base["hydra"]
            self._bases[groups] = base
        config = copy.deepcopy(self._bases[groups])
        values = [override for override in overrides if override.input_line not in chosen]
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        with open_dict(config):
            config.hydra = sweep.hydra
        with read_write(config.hydra), open_dict(config.hydra):
            settings = config.hydra.job
            settings.id = settings.num = number
            settings.override_dirname = get_overrides_dirname(
                overrides=overrides, **settings.config.override_dirname
            )
            config.hydra.overrides.task = job
            config.hydra.runtime.choices.update(
                {o.key_or_group: o.value() for o in chosen.values()}
            )
        return config


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


@contextmanager
def _folders_found() -> Iterator[None]:
    """Refuse what Hydra only warns of: a folder in hydra.searchpath that does not exist."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if str(warning.message).endswith("is not available."):
            path = str(warning.message).partition("path=")[2].split()[0]
            raise ConfigError(f"hydra.searchpath={path}: is not a folder; give one that exists")


def given(config: DictConfig, kind: Literal["task", "hydra"]) -> list[str]:
    """Return the overrides of a kind as they were given, interpolations unresolved."""
    lines = OmegaConf.to_container(config.hydra.overrides[kind], resolve=False)
    assert isinstance(lines, list)
    return [str(line) for line in lines]


def swept(sweep: DictConfig) -> list[str]:
    """Return what a sweeper makes jobs from: its own `params`, then the overrides as given."""
    params = sweep.hydra.sweeper.get("params") or {}
    return [*(f"{key}={value}" for key, value in params.items()), *given(sweep, "task")]


def composer(loader: ConfigLoader, sweep: DictConfig) -> Compose:
    """Return a function that composes overrides beside those of a sweep's `hydra` section."""
    name, fixed = sweep.hydra.job.config_name, given(sweep, "hydra")
    return lambda lines: loader.load_configuration(name, [*fixed, *lines], RunMode.MULTIRUN)


def hydra_setting(config: DictConfig, key: str) -> str:
    """Return a setting of a composed configuration's `hydra` section, resolved; empty for null."""
    wanted = OmegaConf.create({"value": f"${{hydra:{key}}}"})
    return str(resolved(wanted, config)["value"] or "")


def resolved(config: DictConfig, hydra: DictConfig) -> Any:
    """Turn a configuration into plain containers, `${hydra:...}` taken from `hydra`."""
    singleton = HydraConfig.instance()
    before, singleton.cfg = singleton.cfg, None
    try:
        singleton.set_config(hydra)
        return OmegaConf.to_container(config, resolve=True)
    finally:
        singleton.cfg = before
