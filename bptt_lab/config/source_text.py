"""Modules as text: where a module's file is, and what its statements are; none is imported."""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from bptt_lab.core.renamed import current
from bptt_lab.core.validation import ConfigError


def source(module: str) -> Path | None:
    """Find a module's file without importing its parent packages."""
    head, *rest = current(module).split(".")
    try:
        spec = importlib.util.find_spec(head)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest:
        origin = spec.origin or ""
        return Path(origin) if origin.endswith(".py") else None
    *parents, last = rest
    for location in spec.submodule_search_locations or ():
        folder = Path(location, *parents)
        for file in (folder / last / "__init__.py", folder / f"{last}.py"):
            if last and file.is_file():
                return file
    return None


@functools.cache
def parse(file: Path) -> ast.Module:
    """Return a file's syntax tree.

    Raises:
        ConfigError: where it is not Python.
    """
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise ConfigError(f"{file}, line {line} is not Python: {error}; correct it") from None


def statements(file: Path) -> Iterator[ast.stmt]:
    """A module's statements, those under `if TYPE_CHECKING` as well: names that it imports late."""
    for node in parse(file).body:
        late = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        yield from node.body if isinstance(node, ast.If) and late else [node]


def absolute(node: ast.ImportFrom, module: str, file: Path) -> str:
    """The dotted name of the module that a `from` statement reads."""
    if node.level == 0:
        return node.module or ""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    package = package[: len(package) - (node.level - 1)]
    return ".".join([*package, *([node.module] if node.module else [])])
