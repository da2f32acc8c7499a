"""What files from somebody else may say: options, presets, Hydra's own settings.

Whoever types may allow packages and write to any absolute path. A preset or another file of options
may do neither. `open_command_line` is the door: what it returns reads such files within bounds, and
knows what was typed.

Hydra instantiates its launcher, sweeper and callbacks, hands its logging settings to
logging.config.dictConfig, which calls whatever they name, sets environment variables and makes
folders. Its settings may choose among what is installed, and write below outputs/.
"""

import argparse
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]  # its stubs are another package
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from bptt_lab.config import hydra_internals, output_paths, targets
from bptt_lab.config.compose import CommandLine, given
from bptt_lab.config.schema import CONTROL, refuse
from bptt_lab.core.validation import ConfigError

MAX_BYTES = 65536  # of a file; the reader takes about a second for so many
MAX_ITEMS = 10_000  # of a file, once every alias is written out
_PLUGINS = ("bptt_lab", "hydra_plugins", "hydra._internal.core_plugins")  # Hydra imports the others
_KINDS = {
    "launcher": ("hydra.plugins.launcher.Launcher",),
    "sweeper": ("hydra.plugins.sweeper.Sweeper",),
}
_CALLBACK = ("hydra.experimental.callback.Callback",)
_HANDLERS = ("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler")
_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
# Settings of launchers that are programs, or options of programs.
_PROGRAMS = ("setup", "python", "srun_args", "additional_parameters", "runtime_env")


def open_command_line(args: argparse.Namespace) -> tuple[CommandLine, "Typed"]:
    """Read a command line before anything is composed from it.

    Raises:
        ConfigError: for an option that leads out of its folder, a place to look for options that
            would be imported, or packages that may not be allowed.
    """
    sources = hydra_internals.SourcesRegistry.instance().types
    sources[FileConfigSource.scheme()] = FileConfigSource
    _refuse_imports([args.config_path], "--config-path")
    command = CommandLine(args)
    overrides = command.parse(command.lines)
    for override in overrides:
        _refuse_paths(override)
    _refuse_imports(_searchpath(command, overrides), "hydra.searchpath")
    allow: tuple[str, ...] = ()
    for override in overrides:
        if override.key_or_group == "allow" and override.is_sweep_override():
            problem = "holds for all jobs; write a list, as allow=[mypkg]"
            raise ConfigError(f"{override.input_line}: {problem}")
        if override.key_or_group == "allow" and not override.is_delete():
            allow += targets.packages(_listed(override.value()))
    command.loader.installed.allowed = allow
    keys = frozenset(override.get_key_element().lstrip("+~") for override in overrides)
    return command, Typed(keys, allow)


class Typed(NamedTuple):
    """What was typed, and therefore meant: dotted keys, and packages that are allowed."""

    keys: frozenset[str]
    allow: tuple[str, ...]

    def refuse_allowing(self, config: Mapping[str, object]) -> None:
        """Refuse packages that a file allows, in a job's configuration as plain containers."""
        found = config.get("allow", [])
        if list(self.allow) != _listed(found):
            way_out = "only the command line may allow packages, as allow=[mypkg]"
            refuse("allow", found, f"comes from a file; {way_out}")

    def refuse_settings(self, config: DictConfig, lines: list[str]) -> None:
        """Refuse Hydra's own settings where they could run code or write elsewhere.

        `lines` are the overrides on the command line; a file in hydra.overrides may add none.
        """
        whole: Any = OmegaConf.to_container(config, resolve=False)
        hydra = whole["hydra"]
        for part in ("hydra", "task"):
            for line in hydra["overrides"][part]:
                if line not in lines:
                    problem = "is for Hydra to fill in; write the override on the command line"
                    refuse(f"hydra.overrides.{part}", [line], problem)
        _refuse_plugins(hydra, self.allow)
        for part in ("job_logging", "hydra_logging"):
            _refuse_logging(f"hydra.{part}", hydra[part])
        _refuse_launcher(hydra["launcher"], self.keys)
        for name, value in hydra["job"]["env_set"].items():
            problem = "must not be set here, where it would leave no trace; set it before"
            refuse(f"hydra.job.env_set.{name}", value, f"{problem} bptt-train")
        output_paths.check_part("hydra.job.name", hydra["job"]["name"])
        if hydra["output_subdir"] is not None:
            output_paths.check_part("hydra.output_subdir", hydra["output_subdir"])
        for key in ("dir", "subdir"):
            output_paths.check_pattern(f"hydra.sweep.{key}", hydra["sweep"][key])

    def refuse_settings_of_job(self, config: DictConfig, sweep: DictConfig, job: list[str]) -> None:
        """Do so for a job, whose options may set what the sweep's own configuration does not."""
        self.refuse_settings(config, [*given(sweep, "hydra"), *job])
        for key in ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir"):
            if (found := _written(config, key)) != _written(sweep, key):
                problem = "is set by an option that is swept; set it for the whole sweep"
                refuse(key, found, problem)


class FileConfigSource(hydra_internals.FileConfigSource):
    """Hydra's own source of files, which refuses one that is too large to be a configuration."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a file that `check_file` lets pass."""
        path = os.path.join(self.path, self._normalize_file_name(config_path))
        if os.path.isfile(path):
            check_file(path)
        return super().load_config(config_path)


def check_file(path: str) -> None:
    """Refuse a file that is, or stands for, more than a configuration may hold.

    A few hundred bytes of YAML can stand for billions of items, by aliases of aliases.
    """
    size = os.path.getsize(path)
    if size > MAX_BYTES:
        raise ConfigError(f"{path}: is too large, with {size} bytes; give at most {MAX_BYTES}")
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    if "&" not in text:
        return
    try:
        items = _count(yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), {})
    except yaml.YAMLError:
        return  # whoever reads it says so
    if items > MAX_ITEMS:
        raise ConfigError(f"{path}: its aliases stand for more than {MAX_ITEMS} items; write less")


def _count(node: yaml.Node | None, known: dict[int, float]) -> float:
    """The number of nodes below one, aliases written out; infinite where it holds itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")  # until it is counted: what comes back here is a circle
        pairs = isinstance(node, yaml.MappingNode)
        items = [part for pair in node.value for part in pair] if pairs else node.value
        known[id(node)] = 1 + sum(_count(item, known) for item in items)
    return known[id(node)]


def _refuse_paths(override: Override) -> None:
    """Refuse an option of a group, or a key, that is a path out of the folder of options."""
    key = override.key_or_group
    texts = [key] if "/" in key else []
    if not override.is_sweep_override() and isinstance(text := override.value(), str):
        is_option = key not in CONTROL and not set(".$") & set(key)
        texts += [text] if is_option and "/" in text else []
    for text in texts:
        if ".." in text.split("/") or text.startswith("/"):
            problem = "must name an option, not a path; add its folder with --config-dir"
            raise ConfigError(f"{override.input_line}: {problem}")


def _searchpath(command: CommandLine, overrides: list[Override]) -> list[object]:
    """The folders to look for options in, by the command line or else the primary file."""
    for override in overrides:
        if override.key_or_group == "hydra.searchpath":
            return _listed(override.value())
    primary = command.loader.repository.load_config(command.name)
    found = OmegaConf.select(primary.config, "hydra.searchpath") if primary else None
    return list(found or [])


def _refuse_imports(searchpath: list[object], key: str) -> None:
    """Refuse a place to look for options that Hydra would have to import."""
    for place in searchpath:
        if str(place).startswith("pkg://") and not targets.covers(["bptt_lab"], str(place)[6:]):
            refuse(key, [place], "would import that package; give the path of its folder")


def _refuse_plugins(hydra: Mapping[str, object], allow: tuple[str, ...]) -> None:
    for key, target in targets.targets(hydra, "hydra"):
        part = key.removesuffix("._target_").removeprefix("hydra.")
        if part in _KINDS:
            targets.check_target(key, target, _KINDS[part], allow, _PLUGINS)
        elif part.startswith("callbacks.") and part.count(".") == 1:
            targets.check_target(key, target, _CALLBACK, allow, ("bptt_lab",))
        else:
            refuse(key, target, "nothing is instantiated there; leave it out")


def _refuse_logging(key: str, section: object) -> None:
    """Refuse what logging.config.dictConfig would import, call, or write outside of the run."""
    choose = f"choose with {key.replace('.', '/')}=default or disabled"
    if not isinstance(section, Mapping):
        refuse(key, section, f"must be a section; {choose}")
    for inner, value in targets.walk(section, key):
        if not isinstance(value, str):
            continue
        place, _, name = inner.rpartition(".")
        if name == "filename":
            folder, _, file = value.partition("}/")
            if folder not in ("${hydra.runtime.output_dir", "${hydra:runtime.output_dir"):
                problem = "must be in the run's folder; use ${hydra.runtime.output_dir}/NAME.log"
                refuse(inner, value, problem)
            output_paths.check_part(inner, file.replace("${hydra.job.name}", "name"))
            continue
        is_handler = place.rpartition(".")[0] == f"{key}.handlers" and value in _HANDLERS
        imports = "://" in value and value not in _STREAMS and not name.endswith("format")
        if name == "()" or (name == "class" and not is_handler) or imports or "${" in value:
            allowed = ", ".join((*_HANDLERS, *_STREAMS))
            refuse(inner, value, f"might be imported or called; use one of {allowed}, or {choose}")


def _refuse_launcher(launcher: object, typed: frozenset[str]) -> None:
    """Hold that programs are named, and folders chosen, by the user alone."""
    for key, value in targets.walk(launcher, "hydra.launcher"):
        if not isinstance(value, str) or output_paths.is_typed(key, typed):
            continue
        if any(part in _PROGRAMS for part in key.split(".")):
            refuse(key, value, "runs a program, so it must be given on the command line")
        inside = value.startswith(("${hydra.sweep.dir}/", "outputs/"))
        if "folder" in key.rpartition(".")[2] and (".." in value or not inside):
            refuse(key, value, "must be in ${hydra.sweep.dir}/, or be given on the command line")


def _written(config: DictConfig, key: str) -> str:
    """A setting of Hydra's as its file writes it."""
    section, _, name = key.removeprefix("hydra.").partition(".")
    return str(config.hydra[section]._get_node(name)._value())


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]
