"""Libraries that only some launchers need."""

from __future__ import annotations

import importlib.util

from bptt_lab.core.validation import ConfigError


def require(library: str, launcher: str) -> None:
    """Refuse a launcher whose library is not installed.

    Args:
        library: its name to Python.
        launcher: option of hydra/launcher and name of the extra.

    Raises:
        ConfigError: naming what to install.
    """
    if importlib.util.find_spec(library) is None:
        raise ConfigError(
            f"hydra/launcher={launcher}: needs {library}; pip install 'bptt_lab[{launcher}]'"
        )
