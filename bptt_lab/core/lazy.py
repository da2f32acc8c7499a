"""Names that a package imports when they are first used.

A package lists them once, as imports under `if TYPE_CHECKING:`, where type checkers read them too:

    if TYPE_CHECKING:
        from mypkg.heavy import Thing as Thing

    __all__, __getattr__, __dir__ = exports(__name__, __file__)
"""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    """A package whose names are not hidden by modules in it that are called the same."""

    def __setattr__(self, name: str, value: object) -> None:
        exported = vars(self).get("__all__", ())
        if name not in exported or not isinstance(value, ModuleType):  # as an import sets it
            super().__setattr__(name, value)


def exports(
    package: str, file: str, *others: str
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's `__all__`, `__getattr__` and `__dir__`; it defines `others` itself."""
    homes = {
        alias.name: node.module or ""
        for block in ast.parse(Path(file).read_text(encoding="utf-8")).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    names = sorted([*homes, *others])
    sys.modules[package].__class__ = _Package

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def list_names() -> list[str]:
        return sorted({*names, *(name for name in vars(sys.modules[package]) if name[:2] == "__")})

    return names, get, list_names
