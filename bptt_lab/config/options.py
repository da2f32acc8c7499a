"""The gradient strategies that a command line or a job can name, the user's own among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from bptt_lab.config.hydra_internals import ConfigLoaderImpl, ConfigSearchPathImpl

CONFIG_NAME = "config"


class FoundOptions:
    """The options of the group `gradient`, those of the user's folders among them."""

    def __init__(self, loader: ConfigLoaderImpl, name: str, searchpath: Sequence[str] = ()) -> None:
        self.loader, self.name, self.searchpath = loader, name, list(searchpath)
        self._sections: dict[str, Mapping[str, Any]] = {}

    def names(self) -> list[str]:
        """Return the names, in order."""
        return sorted(self.loader.get_group_options("gradient"))

    def section(self, name: str) -> Mapping[str, Any]:
        """Return an option's `_target_` and settings, interpolations as written."""
        if name not in self._sections:
            lines = [*self.searchpath, f"gradient={name}"]
            config = self.loader.load_configuration(self.name, lines, RunMode.RUN)
            section: Any = OmegaConf.to_container(config.gradient, resolve=False)
            self._sections[name] = section
        return self._sections[name]


def options_of_job() -> FoundOptions:
    """Return the options that Hydra's present job was composed from."""
    hydra = HydraConfig.get()
    search_path = ConfigSearchPathImpl()
    for source in hydra.runtime.config_sources:
        if source.path:
            search_path.append(source.provider, f"{source.schema}://{source.path}")
    return FoundOptions(ConfigLoaderImpl(search_path), hydra.job.config_name or CONFIG_NAME)
