"""What a class says of itself by literals, and by properties that return one or a setting.

Read from its syntax tree: nothing is imported.
"""

from __future__ import annotations

import ast
from collections.abc import Container
from typing import Any, NamedTuple

UNKNOWN: Any = object()


class FromSetting(NamedTuple):
    """A claim that is as a setting is: `return self.carry_influence`."""

    setting: str


def literal(node: ast.expr | None) -> Any:
    """Return the value of an expression that is a literal, else UNKNOWN."""
    if node is None:
        return UNKNOWN
    try:
        return ast.literal_eval(node)
    except ValueError:
        return UNKNOWN


def literals(node: ast.ClassDef | ast.Module) -> dict[str, Any]:
    """Names set to a literal in the body of a class or module, annotated or not."""
    claims: dict[str, Any] = {}
    for statement in node.body:
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets = [statement.target]
        else:
            continue
        value = literal(statement.value)
        if value is not UNKNOWN:
            claims.update({target.id: value for target in targets if isinstance(target, ast.Name)})
    return claims


def properties(node: ast.ClassDef, settings: Container[str]) -> dict[str, Any]:
    """Properties of a class that return a literal, or one of its settings."""
    claims: dict[str, Any] = {}
    for method in node.body:
        if not isinstance(method, ast.FunctionDef) or not isinstance(method.body[-1], ast.Return):
            continue
        returned = method.body[-1].value
        if [ast.unparse(mark) for mark in method.decorator_list] != ["property"]:
            continue
        if isinstance(returned, ast.Attribute) and ast.unparse(returned.value) == "self":
            if returned.attr in settings:
                claims[method.name] = FromSetting(returned.attr)
        elif (value := literal(returned)) is not UNKNOWN:
            claims[method.name] = value
    return claims
