"""Options that installed packages bring by entry points.

    [project.entry-points."bptt_lab.gradients"]
    mine = "mypkg.rules:Mine"

in a package's pyproject.toml is `gradient=mine`; `bptt_lab.tasks` is for `dataset`. Its settings
are the constructor's, with their defaults, read from source text as ever: what is listed, described
or refused here has imported nothing, and a class is made only where `allow=` names its package.
"""

import ast
import functools
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from bptt_lab.config import classes, schema, signatures, targets
from bptt_lab.core.messages import printable
from bptt_lab.core.validation import ConfigError

GROUPS: Mapping[str, str] = {"gradient": "bptt_lab.gradients", "dataset": "bptt_lab.tasks"}
# What can be typed as an option, and is no other value.
_NAME = re.compile(r"(?!(?:null|true|false|nan|inf)$)[a-z_][a-z0-9_-]*", re.IGNORECASE | re.ASCII)
Names = list[str]  # `list` is Hydra's name of a method
LONGEST = 100  # characters of a description
DAMAGED = OSError, TypeError, ValueError, LookupError


class Installed(ConfigSource):
    """Hydra's source of these options; it lists those of allowed packages, and finds all."""

    allowed: Sequence[str] = ()

    def __init__(self) -> None:
        super().__init__("installed packages", f"{self.scheme()}://")

    @staticmethod
    def scheme() -> str:
        """Return what no other source is called."""
        return "installed"

    def names(self, group: str, *, allowed: bool = False) -> Names:
        """Return the options of a group, all of them or those of allowed packages."""
        trusted = (*targets.OURS, *self.allowed)
        return [
            name
            for name, found in _found(group).items()
            if not allowed or any(targets.covers(trusted, target) for target in found)
        ]

    def load_config(self, config_path: str) -> ConfigResult:
        """Return an option's section, and its description as the header `comment`.

        Raises:
            ConfigError: where it has none, since what it names is no such class, or not the only.
        """
        group, name = _parts(config_path)
        target, *others = _found(group)[name]
        if others:
            problem = f"is brought more than once, as {', '.join([target, *others])}"
            schema.refuse(group, name, f"{problem}; uninstall all but one of these packages")
        try:
            packages = _packages(target)
            targets.check_target("", target, targets.KINDS[group], packages)
            section = _section(target)
        except (ConfigError, RecursionError) as error:
            problem = str(error).removeprefix(f"={target}: ")
            schema.refuse(group, name, f"is {target} by its entry point, but {problem}")
        comment = f"{_description(target)} (allow=[{','.join(packages)}])"
        header = {"package": None, "comment": comment}
        return ConfigResult(self.provider, self.full_path(), OmegaConf.create(section), header)

    def available(self) -> bool:
        """Tell that one can always look."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Tell a group of which packages may bring options."""
        return config_path.strip("/") in GROUPS

    def is_config(self, config_path: str) -> bool:
        """Tell whether a package brings an option."""
        group, name = _parts(config_path)
        return name in _found(group)

    def list(self, config_path: str, results_filter: ObjectType | None) -> Names:
        """Return the options of allowed packages, which `glob(*)` stands for."""
        is_group = results_filter == ObjectType.GROUP
        return [] if is_group else self.names(config_path.strip("/"), allowed=True)


def _parts(config_path: str) -> tuple[str, str]:
    group, _, name = config_path.removesuffix(".yaml").strip("/").rpartition("/")
    return group, name


def _found(group: str) -> Mapping[str, Names]:
    """The classes that each option of a group is; one unless packages are at odds."""
    if group not in GROUPS:
        return {}
    # As Python does, look again where a package may have come or gone.
    places = tuple((place, _changed(place)) for place in sys.path)
    return _found_in(places, GROUPS[group])


def _changed(place: str) -> int:
    try:
        return os.stat(place or ".").st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache
def _found_in(places: Sequence[object], entry_group: str) -> Mapping[str, Names]:
    found: dict[str, Names] = {}
    for option, value in _entries(entry_group):
        module, _, name = value.partition("[")[0].replace(" ", "").partition(":")
        target, known = f"{module}.{name}", found.setdefault(option, [])
        if target not in known:
            known.append(target)
    return found


def _entries(group: str) -> Iterator[tuple[str, str]]:
    """The entry points of a group that can be options, name and value, each package's once.

    `metadata.entry_points` would raise for all packages where the file of one is damaged.
    """
    from importlib import metadata  # takes 30 ms, which few command lines need

    seen = set()
    for distribution in metadata.distributions():
        try:
            if f"[{group}]" not in (distribution.read_text("entry_points.txt") or ""):
                continue
            found = distribution.entry_points.select(group=group)
        except DAMAGED:
            continue
        package = None
        with suppress(*DAMAGED):  # importlib_metadata, once it is loaded, raises for no name
            package = distribution.name
        if package is None or package not in seen:  # Python, too, takes the first that it finds
            yield from ((e.name, e.value) for e in found if _NAME.fullmatch(e.name))
        seen.add(package)


def _packages(target: str) -> tuple[str, ...]:
    """The packages to allow for a class: the one that names it, and the one that defines it."""
    modules = (target, classes.find(target).module)
    return tuple(dict.fromkeys(module.partition(".")[0] for module in modules))


def _section(target: str) -> dict[str, Any]:
    """A class's section: what its constructor takes, by default or to be given.

    A default that is no literal, or that a configuration would read as something else, is left to
    the constructor.
    """
    section: dict[str, Any] = {}
    for name, setting in signatures.read(target).settings.items():
        default = schema.MISSING if setting.required else setting.default
        if name == "seed":
            section[name] = "${seed}"
        elif setting.required or (name != "defaults" and _is_plain(default)):
            section[name] = default
    return {**section, "_target_": target}


def _is_plain(value: Any) -> bool:
    """Whether a configuration holds a value as it is."""
    if any(mark in repr(value) for mark in ("${", schema.MISSING)):
        return False
    try:
        OmegaConf.create({"value": value})
    except ValueError:
        return False
    return True


def _description(target: str) -> str:
    """The first line of a class's docstring, empty without one."""
    text = ast.get_docstring(classes.find(target).node) or ""
    return printable(text.partition("\n")[0])[:LONGEST]
