"""Modules and classes under new names: the old ones still import, and mean the same.

Plug-ins, scripts and `_target_`s of old run folders go on working:

    >>> current("bptt_lab.callbacks.probe")
    'bptt_lab.training.callbacks.probe'
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_MOVED = {
    "cell": "core.cell",
    "kernels": "core.kernels",
    "limits": "core.validation",
    "recurrence": "core.recurrence",
    "seeds": "core.random",
    "initialisation": "nn.initialisation",
    "losses": "nn.losses",
    "rnn": "nn.rnn",
    "segmented": "nn.segmented",
    "conformance": "diagnostics.conformance",
    "plugins": "config.signatures",
    "schema": "config.schema",
    "callbacks": "training.callbacks",
    "checkpoints": "training.checkpoint_io",
    "endings": "runs.outcome",
    "launchers": "training.launchers",
    "module": "training.module",
    "sweeper": "training.sweeper",
    "search": "commands.search",
    "report": "commands.report",
    "cli": "commands.train.cli",
}


# Classes, which also keep the old name as an alias in their module.
_RENAMED = {
    "bptt_lab.gradients.rflo.Rflo": "bptt_lab.gradients.rflo.RFLO",
    "bptt_lab.gradients.rtrl.Rtrl": "bptt_lab.gradients.rtrl.RTRL",
    "bptt_lab.gradients.snap1.Snap1": "bptt_lab.gradients.snap1.SnAp1",
}


def current(name: str) -> str:
    """Return the present name of a module, or of something in it, that had `name` once."""
    package, _, rest = name.partition(".")
    old, dot, below = rest.partition(".")
    if package == "bptt_lab" and old in _MOVED:
        name = f"{package}.{_MOVED[old]}{dot}{below}"
    return _RENAMED.get(name, name)


class _Finder(MetaPathFinder, Loader):
    """Finds modules by their old names, and loads them by handing out the present ones."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        new = current(name)
        found = importlib.util.find_spec(new) if new != name else None
        if found is None:
            return None
        alias = ModuleSpec(name, self, origin=found.origin)
        alias.submodule_search_locations = found.submodule_search_locations
        return alias

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(current(spec.name))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state  # Python has just put the alias's there


def install() -> None:
    """Have Python import moved modules by their old names too."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        # First: Python's own finder would load the file a second time, under its old name.
        sys.meta_path.insert(0, _Finder())
