"""Modules as text: where a module's file is, and what its statements say; none is imported."""

import ast
import functools
import importlib.util
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bptt_lab.core.renamed import current
from bptt_lab.core.validation import ConfigError

UNKNOWN: Any = object()


class FromSetting(NamedTuple):
    """A claim that follows from a setting.

    return self.carry_influence              what the setting is
    return self.mode in ("chunk", "tail")    whether it is `among` these
    return self.of.one_sweep                 what its object claims
    """

    setting: str
    among: tuple[Any, ...] | None = None
    claim: str = ""


def source(module: str) -> Path | None:
    """Find a module's file without importing its parent packages."""
    head, *rest = current(module).split(".")
    try:
        spec = importlib.util.find_spec(head)
    except (ImportError, ValueError):
        return None
    origin = (spec and spec.origin) or ""
    if not rest:
        return Path(origin) if origin.endswith(".py") else None
    *parents, last = rest
    for location in (spec and spec.submodule_search_locations) or ():
        folder = Path(location, *parents)
        for file in (folder / last / "__init__.py", folder / f"{last}.py"):
            if last and file.is_file():
                return file
    return None


@functools.cache
def parse(file: Path) -> ast.Module:
    """Return a file's syntax tree; a ConfigError where it is not Python."""
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        raise ConfigError(f"{file}, line {line} is not Python: {error}; correct it") from None


def statements(file: Path) -> Iterator[ast.stmt]:
    """A module's statements, those under `if TYPE_CHECKING` as well: names that it imports late."""
    for node in parse(file).body:
        late = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        yield from node.body if isinstance(node, ast.If) and late else [node]


def absolute(node: ast.ImportFrom, module: str, file: Path) -> str:
    """The dotted name of the module that a `from` statement reads."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    return importlib.util.resolve_name("." * node.level + (node.module or ""), package)


def literal(node: ast.expr | None) -> Any:
    """Return the value of an expression that is a literal, else UNKNOWN."""
    try:
        return UNKNOWN if node is None else ast.literal_eval(node)
    except (ValueError, TypeError):  # as of {[]: 1}
        return UNKNOWN


def methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    """The functions in the body of a class, by their names."""
    return {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}


def assigned(node: ast.ClassDef | ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Names that the body of a class or module sets, annotated or not, and to what."""
    for part in node.body:
        if isinstance(part, ast.Assign):
            targets, value = part.targets, part.value
        elif isinstance(part, ast.AnnAssign) and part.value is not None:
            targets, value = [part.target], part.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id, value


def literals(node: ast.ClassDef | ast.Module) -> dict[str, Any]:
    """Names that the body of a class or module sets to a literal."""
    values = {name: literal(value) for name, value in assigned(node)}
    return {name: value for name, value in values.items() if value is not UNKNOWN}


def properties(node: ast.ClassDef, settings: Container[str]) -> dict[str, Any]:
    """Properties of a class that return a literal, or what follows from one of its settings."""
    claims: dict[str, Any] = {}
    for method in methods(node).values():
        last, marks = method.body[-1], [ast.unparse(mark) for mark in method.decorator_list]
        if not isinstance(last, ast.Return) or marks != ["property"]:
            continue
        returned = last.value
        among = None
        if isinstance(returned, ast.Compare) and isinstance(returned.ops[0], ast.In):
            among = literal(returned.comparators[0])
            if not isinstance(among, tuple):
                continue
            returned = returned.left
        first, setting, *claim = [*ast.unparse(returned or ast.Constant(None)).split(".", 2), ""]
        if first == "self" and setting in settings:
            claims[method.name] = FromSetting(setting, among, claim[0])
        elif among is None and (value := literal(returned)) is not UNKNOWN:
            claims[method.name] = value
    return claims
