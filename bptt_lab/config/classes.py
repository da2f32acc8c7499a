"""Classes found in source text: where one is defined, and what it descends from.

Importing a plug-in would import torch, which takes seconds; parsing its file takes milliseconds.
No parent package is imported either, so a user's package may import what it likes.
"""

import ast
import builtins
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bptt_lab.config.source_text import absolute, literals, methods, source, statements
from bptt_lab.core.renamed import current
from bptt_lab.core.validation import ConfigError


class Found(NamedTuple):
    """A class statement and the module that it stands in."""

    module: str
    node: ast.ClassDef


def descends(target: str, kind: str) -> bool | None:
    """Tell whether a class descends from another one, or is it; None where bases are unreadable."""
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
        for name, method in methods(ancestor.node).items():
            abstract = any("abstractmethod" in ast.unparse(mark) for mark in method.decorator_list)
            if abstract and name not in seen:
                missing.append(name)
            seen.add(name)
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
        way_out = f"run from the folder that holds '{module.partition('.')[0]}', or add that folder"
        problem = f"there is no module '{module}'; correct the name, {way_out} to PYTHONPATH"
        raise ConfigError(problem)
    found = _find_in(module, name)
    if found is None:
        names = _names(module, source(module))[0].items()
        own = [n for n, meant in names if not isinstance(meant, str) or meant.startswith(module)]
        classes = ", ".join(n for n in own if n[:1].isupper()) or "none"
        raise ConfigError(f"module '{module}' has no class '{name}'; it has {classes}")
    return found


def _find_in(
    module: str, name: str, seen: frozenset[tuple[str, str]] = frozenset()
) -> Found | None:
    """Find a class in a module, following `from ... import` to where it is defined."""
    module = current(module)
    if (module, name) in seen:
        return None
    seen |= {(module, name)}
    names, stars = _names(module, source(module))
    meant = names.get(name)
    if isinstance(meant, ast.ClassDef):
        return Found(module, meant)
    places = [meant] if meant else [f"{home}.{name}" for home in reversed(stars)]
    parts = (place.rpartition(".") for place in places)
    return next(filter(None, (_find_in(home, own, seen) for home, _, own in parts)), None)


@functools.cache
def _names(module: str, file: Path | None) -> tuple[dict[str, ast.ClassDef | str], list[str]]:
    """What the names of a module stand for, and the modules of which it imports every name.

    A name stands for the class that has it, or for the dotted path that is imported as it.
    """
    names: dict[str, ast.ClassDef | str] = {}
    stars = []
    for node in statements(file) if file else []:
        if isinstance(node, ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.Import):
            for alias in node.names:
                head = alias.name.partition(".")[0]
                names[alias.asname or head] = alias.name if alias.asname else head
        elif isinstance(node, ast.ImportFrom) and file:
            home = absolute(node, module, file)
            stars += [home for alias in node.names if alias.name == "*"]
            names |= {alias.asname or alias.name: f"{home}.{alias.name}" for alias in node.names}
    return names, stars


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
        head, dot, rest = ast.unparse(base).partition(".")
        meant = _names(found.module, source(found.module))[0].get(head)
        home = meant if isinstance(meant, str) else f"{found.module}.{head}"
        dotted = f"{home}{dot}{rest}"
        # The standard library's bases (ABC, Protocol) take no settings.
        if dotted.partition(".")[0] in sys.stdlib_module_names:
            continue
        module, _, name = dotted.rpartition(".")
        parent = _find_in(module, name)
        yield from _walk(parent) if parent else [None]
