"""Loggers beside TensorBoard's: what `loggers` may name, and the settings of each."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bptt_lab.config.components import refuse_unknown, validate
from bptt_lab.config.schema import refuse, suggest
from bptt_lab.config.signatures import Setting
from bptt_lab.core.validation import missing

# What says where to write is none of them: a run writes in its own folder.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "csv": {},
    "wandb": {
        **dict.fromkeys(("project", "entity", "name", "group", "notes"), str),
        "tags": list[str],
        "mode": Literal["online", "offline"],
    },
    "mlflow": dict.fromkeys(("experiment_name", "run_name", "tracking_uri"), str),
}
PACKAGES = ("wandb", "mlflow")


def read(loggers: str | Sequence[object] | None) -> dict[str, dict[str, Any]]:
    """Return the settings of each logger by its name.

    An item of `loggers` is a name, or a mapping of one name to its settings, as in
    `[csv,{wandb:{project:mine}}]`. A setting that is null is left to its default.

    Raises:
        ConfigError: for another name or setting, and for a package that is not installed.
    """
    found: dict[str, dict[str, Any]] = {}
    for item in [loggers] if isinstance(loggers, str) else loggers or ():
        named: Mapping[Any, Any] = item if isinstance(item, Mapping) else {item: None}
        for name, given in named.items():
            if name not in SETTINGS:
                refuse("loggers", name, f"there is no such logger; {suggest(str(name), SETTINGS)}")
            if name in found:
                refuse("loggers", [*found, name], f"names {name} twice; leave one out")
            if not isinstance(given, Mapping | None):
                refuse(f"loggers.{name}", given, f"must be settings, as {{{name}:{{key:value}}}}")
            found[name] = _settings(name, given or {})
    return found


def _settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    hints, key = SETTINGS[name], f"loggers.{name}"
    refuse_unknown(key, given, hints)
    values = {setting: value for setting, value in given.items() if value is not None}
    validate(key, values, {setting: Setting(hint) for setting, hint in hints.items()})
    server: str = values.get("tracking_uri", "https://")
    if not server.startswith(("http://", "https://")):
        way_out = "must be a server, as http://HOST:PORT; leave it out to log in the run folder"
        refuse(f"{key}.tracking_uri", server, way_out)
    if name in PACKAGES and (problem := missing(name, f"bptt_lab[{name}]")):
        refuse("loggers", name, problem)
    return values
