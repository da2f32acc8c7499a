"""Classes found in source text: where one is defined, and what it descends from.

Importing a plug-in would import torch, which takes seconds; parsing its file takes milliseconds.
No parent package is imported either, so a user's package may import what it likes.
"""

from __future__ import annotations

import ast
import builtins
import functools
import sys
from collections.abc import Iterator
from typing import NamedTuple

from bptt_lab.config.source_text import absolute, literals, parse, source, statements
from bptt_lab.core.renamed import current
from bptt_lab.core.validation import ConfigError


class Found(NamedTuple):
    """A class statement and the module that it stands in."""

    module: str
    node: ast.ClassDef


def descends(target: str, kind: str) -> bool | None:
    """Tell whether a class descends from another one, or is it, each by its dotted path.

    Returns:
        None where some of its bases cannot be read, so that they may or may not.
    """
    ancestors = lineage(find(target))
    if any(found and f"{found.module}.{found.node.name}" == kind for found in ancestors):
        return True
    return None if None in ancestors else False


def unimplemented(target: str) -> list[str]:
    """Name the abstract methods that no class in the lineage implements, as far as it is read."""
    seen: set[str] = set()
    missing = []
    for ancestor in lineage(find(target)):
        if ancestor is None:
            continue
        seen |= literals(ancestor.node).keys()
        for node in ancestor.node.body:
            if isinstance(node, ast.FunctionDef) and node.name not in seen:
                seen.add(node.name)
                if any("abstractmethod" in ast.unparse(mark) for mark in node.decorator_list):
                    missing.append(node.name)
    return missing


def find(target: str) -> Found:
    """Find the class that a `_target_` names.

    Raises:
        ConfigError: where there is no such class, or its file does not parse.
    """
    module, _, name = current(target).rpartition(".")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise ConfigError("must name a class, as package.module.Class")
    if source(module) is None:
        package = module.partition(".")[0]
        raise ConfigError(
            f"there is no module '{module}'; correct the name, run from the folder that holds "
            f"'{package}', or add that folder to PYTHONPATH"
        )
    found = _find_in(module, name)
    if found is None:
        raise ConfigError(f"module '{module}' has no class '{name}'; it has {_classes(module)}")
    return found


def _find_in(
    module: str, name: str, seen: frozenset[tuple[str, str]] = frozenset()
) -> Found | None:
    """Find a class in a module, following `from ... import` to where it is defined."""
    module = current(module)
    file = source(module)
    if file is None or (module, name) in seen:
        return None
    seen |= {(module, name)}
    places: list[tuple[str, str]] = []
    for node in statements(file):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return Found(module, node)
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name == "*" or (alias.asname or alias.name) == name:
                    place = absolute(node, module, file), name if alias.name == "*" else alias.name
                    places.append(place)
    # Of several the last one counts, as when Python runs them.
    return next(filter(None, (_find_in(*place, seen) for place in reversed(places))), None)


def _classes(module: str) -> str:
    """The classes that a module defines or imports, for a message."""
    file = source(module)
    names = []
    for node in statements(file) if file else []:
        if isinstance(node, ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.ImportFrom) and file and file.name == "__init__.py":
            names.extend(alias.asname or alias.name for alias in node.names)
    return ", ".join(n for n in names if n[:1].isupper()) or "none"


@functools.cache
def lineage(found: Found) -> tuple[Found | None, ...]:
    """The class, then its bases, in Python's order; None for one whose source cannot be found."""
    # A class that is met on several paths comes after all that descend from it.
    walk = list(_walk(found))
    return tuple(one for n, one in enumerate(walk, 1) if one is None or one not in walk[n:])


def _walk(found: Found) -> Iterator[Found | None]:
    """The class, then the bases of each base, some more than once."""
    yield found
    for base in found.node.bases:
        if isinstance(base, ast.Subscript):  # a generic class
            base = base.value
        if isinstance(base, ast.Name) and base.id in vars(builtins):
            continue
        dotted = _imported(found.module, ast.unparse(base))
        # The standard library's bases (ABC, Protocol) take no settings.
        if dotted.partition(".")[0] in sys.stdlib_module_names:
            continue
        module, _, name = dotted.rpartition(".")
        parent = _find_in(module, name)
        if parent is None:
            yield None
        else:
            yield from _walk(parent)


def _imported(module: str, expression: str) -> str:
    """The dotted path that a name or attribute of a module stands for, by the module's imports."""
    head, dot, rest = expression.partition(".")
    file = source(module)
    for node in parse(file).body if file else []:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            if (alias.asname or alias.name.partition(".")[0]) != head:
                continue
            if isinstance(node, ast.ImportFrom):
                assert file is not None
                return f"{absolute(node, module, file)}.{alias.name}{dot}{rest}"
            return f"{alias.name if alias.asname else head}{dot}{rest}"
    return f"{module}.{expression}"
