"""What Hydra's own settings may do: choose among what is installed, and write below outputs/.

Hydra instantiates its launcher, sweeper and callbacks, hands its logging settings to
logging.config.dictConfig, which calls whatever they name, sets environment variables and makes
folders. All of these may come from a file that somebody else wrote. What only the user of the
command line may decide is told apart by `typed`.
"""

from collections.abc import Mapping
from typing import Any

from bptt_lab.config import output_paths, targets
from bptt_lab.core.validation import ConfigError

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


def refuse(
    hydra: Mapping[str, Any], lines: list[str], typed: frozenset[str], allow: tuple[str, ...]
) -> None:
    """Refuse settings of Hydra's that could run code or write outside of a run's folder.

    Args:
        hydra: the `hydra` section as plain containers, interpolations as written.
        lines: the overrides on the command line; a file in hydra.overrides may add none.
        typed: the dotted keys that the command line sets.
        allow: the packages it allows.
    """
    for part in ("hydra", "task"):
        for line in hydra["overrides"][part]:
            if line not in lines:
                problem = "is for Hydra to fill in; write the override on the command line"
                raise ConfigError(f"hydra.overrides.{part}=[{line}]: {problem}")
    _refuse_plugins(hydra, allow)
    for part in ("job_logging", "hydra_logging"):
        _refuse_logging(f"hydra.{part}", hydra[part])
    _refuse_launcher(hydra["launcher"], typed)
    job = hydra["job"]
    for name, value in job["env_set"].items():
        problem = "must not be set here, where it would leave no trace; set it before bptt-train"
        raise ConfigError(f"hydra.job.env_set.{name}={value}: {problem}")
    output_paths.check_part("hydra.job.name", job["name"])
    if hydra["output_subdir"] is not None:
        output_paths.check_part("hydra.output_subdir", hydra["output_subdir"])
    for key in ("dir", "subdir"):
        output_paths.check_pattern(f"hydra.sweep.{key}", hydra["sweep"][key])


def refuse_imports(searchpath: list[object], key: str) -> None:
    """Refuse a place to look for options that Hydra would have to import."""
    for place in searchpath:
        if str(place).startswith("pkg://") and not targets.covers(["bptt_lab"], str(place)[6:]):
            problem = "would import that package; give the path of its folder"
            raise ConfigError(f"{key}=[{place}]: {problem}")


def _refuse_plugins(hydra: Mapping[str, object], allow: tuple[str, ...]) -> None:
    for key, target in targets.targets(hydra, "hydra"):
        part = key.removesuffix("._target_").removeprefix("hydra.")
        if part in _KINDS:
            targets.check_target(key, target, _KINDS[part], allow, _PLUGINS)
        elif part.startswith("callbacks.") and part.count(".") == 1:
            targets.check_target(key, target, _CALLBACK, allow, ("bptt_lab",))
        else:
            raise ConfigError(f"{key}={target}: nothing is instantiated there; leave it out")


def _refuse_logging(key: str, section: object) -> None:
    """Refuse what logging.config.dictConfig would import, call, or write outside of the run."""
    group = key.replace(".", "/")
    if not isinstance(section, Mapping):
        raise ConfigError(f"{key}={section}: must be a section; choose with {group}=")
    for inner, value in targets.walk(section, key):
        if not isinstance(value, str):
            continue
        place, _, name = inner.rpartition(".")
        if name == "filename":
            folder, _, file = value.partition("}/")
            if folder not in ("${hydra.runtime.output_dir", "${hydra:runtime.output_dir"):
                problem = "must be in the run's folder; use ${hydra.runtime.output_dir}/NAME.log"
                raise ConfigError(f"{inner}={value}: {problem}")
            output_paths.check_part(inner, file.replace("${hydra.job.name}", "name"))
            continue
        is_handler = place.rpartition(".")[0] == f"{key}.handlers" and value in _HANDLERS
        imports = "://" in value and value not in _STREAMS and not name.endswith("format")
        if name == "()" or (name == "class" and not is_handler) or imports or "${" in value:
            allowed = ", ".join((*_HANDLERS, *_STREAMS))
            problem = f"might be imported or called; use one of {allowed}"
            raise ConfigError(f"{inner}={value}: {problem}, or choose {group}=default or disabled")


def _refuse_launcher(launcher: object, typed: frozenset[str]) -> None:
    """Hold that programs are named, and folders chosen, by the user alone."""
    for key, value in targets.walk(launcher, "hydra.launcher"):
        if not isinstance(value, str) or output_paths.is_typed(key, typed):
            continue
        if any(part in _PROGRAMS for part in key.split(".")):
            problem = "runs a program, so it must be given on the command line"
            raise ConfigError(f"{key}={value}: {problem}; repeat it there")
        inside = value.startswith(("${hydra.sweep.dir}/", "outputs/"))
        if "folder" in key.rpartition(".")[2] and (".." in value or not inside):
            problem = "must be in ${hydra.sweep.dir}/, or be given on the command line"
            raise ConfigError(f"{key}={value}: {problem}; repeat it there")
