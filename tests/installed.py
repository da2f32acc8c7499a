"""Options of installed packages, for the contract tests: BPTT_ALLOW=mypkg,other allows them."""

import os
from typing import Any

from bptt_lab.config.installed import Installed


def sections(group: str) -> dict[str, Any]:
    """Sections of a group's options by name, those of allowed packages only."""
    source = Installed()
    source.allowed = [*filter(None, os.environ.get("BPTT_ALLOW", "").split(","))]
    names = source.names(group, allowed=True)
    return {name: source.load_config(f"{group}/{name}").config for name in names}
