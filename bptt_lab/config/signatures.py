"""What a plug-in accepts and claims, read from its source text.

A plug-in is a class named by `_target_`. Importing it would import torch, which takes seconds;
parsing its file takes milliseconds, and its constructor's annotations are its schema:

    >>> plugin = read("bptt_lab.gradients.truncated.Truncated")
    >>> plugin.settings["k"].default, plugin.claims["unbiased"]
    (16, False)

No parent package is imported either, so a user's package may import what it likes.
"""

from __future__ import annotations

import ast
import builtins
import sys
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bptt_lab.config.claims import UNKNOWN as UNKNOWN
from bptt_lab.config.claims import FromSetting, literal, literals, properties
from bptt_lab.config.source_text import absolute, parse, source, statements
from bptt_lab.core import validation
from bptt_lab.core.renamed import current
from bptt_lab.core.validation import ConfigError

# What an annotation may name, beside its module's own constants; anything else makes it Any, and
# leaves the check to the constructor.
_NAMESPACE: dict[str, Any] = {
    **{name: value for name, value in vars(validation).items() if isinstance(value, type)},
    **{
        name: getattr(typing, name) for name in ("Annotated", "Any", "Literal", "Optional", "Union")
    },
    **{kind.__name__: kind for kind in (int, float, str, bool, list)},
    "__builtins__": {},
}
# And the syntax of an annotation that is evaluated.
_GRAMMAR = (
    *(ast.Expression, ast.Name, ast.expr_context, ast.Constant, ast.Subscript, ast.Tuple),
    *(ast.List, ast.BinOp, ast.BitOr, ast.UnaryOp, ast.USub, ast.Call, ast.keyword),
)


class Setting(NamedTuple):
    """One keyword argument of a constructor."""

    hint: Any  # Any where the annotation cannot be read
    default: Any = UNKNOWN  # UNKNOWN where there is none, or none that is a literal
    required: bool = False


@dataclass(frozen=True)
class Plugin:
    """What a class says of itself."""

    target: str
    summary: str = ""  # first line of the docstring
    settings: Mapping[str, Setting] = field(default_factory=dict)
    claims: Mapping[str, Any] = field(default_factory=dict)  # literals and FromSetting
    takes_any: bool = False  # the constructor has **kwargs

    def claim(self, name: str, settings: Mapping[str, Any]) -> Any:
        """Return what an object made with these settings claims; None where the class is silent."""
        value = self.claims.get(name)
        if not isinstance(value, FromSetting):
            return value
        return settings.get(value.setting, self.settings[value.setting].default)


class _Class(NamedTuple):
    """A class statement and the module that it stands in."""

    module: str
    node: ast.ClassDef


def read(target: str) -> Plugin:
    """Read the class that a `_target_` names.

    Args:
        target: dotted path, such as "bptt_lab.gradients.full.Full". The class may come from
            another module by `from ... import`.

    Raises:
        ConfigError: where there is no such class, or its file does not parse.
    """
    found = _class(target)
    doc = (ast.get_docstring(found.node) or "").partition("\n")[0]
    settings, takes_any = _constructor(found)
    claims = {**literals(found.node), **properties(found.node, settings)}
    return Plugin(target, doc, settings, claims, takes_any)


def home(target: str) -> str:
    """Return the module in which a `_target_`'s class statement stands.

    Raises:
        ConfigError: as `read` does.
    """
    return _class(target).module


def descends(target: str, kind: str) -> bool | None:
    """Tell whether a class descends from another one, or is it.

    Args:
        target: as for `read`.
        kind: the other's dotted path, by the module that defines it.

    Returns:
        None where some of its bases cannot be read, so that they may or may not.
    """
    known = True
    for ancestor in _lineage(_class(target)):
        if ancestor is None:
            known = False
        elif f"{ancestor.module}.{ancestor.node.name}" == kind:
            return True
    return False if known else None


def unimplemented(target: str) -> list[str]:
    """Name the abstract methods that no class in the lineage implements, as far as it is read."""
    seen: set[str] = set()
    missing = []
    for ancestor in _lineage(_class(target)):
        if ancestor is None:
            continue
        seen |= literals(ancestor.node).keys()
        for node in ancestor.node.body:
            if isinstance(node, ast.FunctionDef) and node.name not in seen:
                seen.add(node.name)
                if any("abstractmethod" in ast.unparse(mark) for mark in node.decorator_list):
                    missing.append(node.name)
    return missing


def _class(target: str) -> _Class:
    """Find the class that a `_target_` names."""
    module, _, name = current(target).rpartition(".")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise ConfigError("must name a class, as package.module.Class")
    if source(module) is None:
        package = module.partition(".")[0]
        raise ConfigError(
            f"there is no module '{module}'; correct the name, run from the folder that holds "
            f"'{package}', or add that folder to PYTHONPATH"
        )
    found = _find(module, name)
    if found is None:
        raise ConfigError(f"module '{module}' has no class '{name}'; it has {_classes(module)}")
    return found


def _find(module: str, name: str, seen: frozenset[tuple[str, str]] = frozenset()) -> _Class | None:
    """Find a class in a module, following `from ... import` to where it is defined."""
    module = current(module)
    file = source(module)
    if file is None or (module, name) in seen:
        return None
    seen |= {(module, name)}
    places: list[tuple[str, str]] = []
    for node in statements(file):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _Class(module, node)
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name == "*" or (alias.asname or alias.name) == name:
                    place = absolute(node, module, file), name if alias.name == "*" else alias.name
                    places.append(place)
    # Of several the last one counts, as when Python runs them.
    return next(filter(None, (_find(*place, seen) for place in reversed(places))), None)


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


def _lineage(found: _Class) -> Iterator[_Class | None]:
    """The class, then its bases; None stands for one whose source cannot be found."""
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
        parent = _find(module, name)
        if parent is None:
            yield None
        else:
            yield from _lineage(parent)


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


def _constructor(found: _Class) -> tuple[dict[str, Setting], bool]:
    """The keyword arguments of the first `__init__` in the lineage, and whether it takes any."""
    for ancestor in filter(None, _lineage(found)):
        for node in ancestor.node.body:
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                file = source(ancestor.module)
                constants = literals(parse(file)) if file else {}
                return _settings(node.args, constants), node.args.kwarg is not None
    return {}, False


def _settings(arguments: ast.arguments, constants: Mapping[str, Any]) -> dict[str, Setting]:
    positional = [*arguments.posonlyargs, *arguments.args]
    missing = [None] * (len(positional) - len(arguments.defaults))
    pairs = [*zip(positional, [*missing, *arguments.defaults], strict=True)][1:]  # less self
    pairs = [pair for pair in pairs if pair[0] not in arguments.posonlyargs]
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return {
        argument.arg: Setting(
            _hint(argument.annotation, constants), literal(default), default is None
        )
        for argument, default in pairs
    }


def _hint(annotation: ast.expr | None, constants: Mapping[str, Any]) -> Any:
    if annotation is None:
        return Any
    text = annotation.value if isinstance(annotation, ast.Constant) else ast.unparse(annotation)
    try:
        expression = ast.parse(str(text), mode="eval")
        # No attribute, no call but of a limit: nothing to break out of an evaluation by.
        if not all(isinstance(node, _GRAMMAR) for node in ast.walk(expression)):
            return Any
        return eval(compile(expression, "annotation", "eval"), {**constants, **_NAMESPACE})
    except Exception:
        return Any
