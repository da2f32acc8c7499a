"""What a plug-in accepts and claims, read from its source text.

A plug-in is a class named by `_target_`. It is not imported; the annotations of its constructor are
its schema:

    >>> plugin = read("bptt_lab.gradients.truncated.Truncated")
    >>> plugin.settings["k"].default, plugin.claims["unbiased"]
    (16, False)
"""

import ast
import collections
import functools
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args, get_origin

from bptt_lab.config import source_text
from bptt_lab.config.classes import Found, find, lineage
from bptt_lab.config.source_text import UNKNOWN as UNKNOWN
from bptt_lab.config.source_text import FromSetting
from bptt_lab.core import validation

# What an annotation may name, beside its module's own constants; anything else is Any there, and
# leaves the check to the constructor.
_NAMESPACE: dict[str, Any] = {
    **{name: value for name, value in vars(validation).items() if isinstance(value, type)},
    **{name: getattr(typing, name) for name in ("Annotated", "Literal", "Optional", "Union")},
    **{kind.__name__: kind for kind in (int, float, str, bool, list)},
}
# And the syntax of an annotation that is evaluated.
_GRAMMAR = (
    *(ast.Expression, ast.Name, ast.expr_context, ast.Constant, ast.Subscript, ast.Tuple),
    *(ast.List, ast.BinOp, ast.BitOr, ast.UnaryOp, ast.USub, ast.Call, ast.keyword),
)
# What evaluating within that grammar raises for an annotation that means nothing here.
_UNREADABLE = SyntaxError, NameError, TypeError, ValueError, LookupError, RecursionError


class Setting(NamedTuple):
    """One keyword argument of a constructor."""

    hint: Any  # Any where the annotation cannot be read
    default: Any = UNKNOWN  # UNKNOWN where there is none, or none that is a literal
    required: bool = False

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that a Literal allows; none without one."""
        return get_args(self.hint) if get_origin(self.hint) is Literal else ()


@dataclass(frozen=True)
class Plugin:
    """What a class says of itself."""

    target: str
    settings: Mapping[str, Setting] = field(default_factory=dict)
    claims: Mapping[str, Any] = field(default_factory=dict)  # literals and FromSetting
    takes_any: bool = False  # the constructor has **kwargs

    def claim(self, name: str, settings: Mapping[str, Any]) -> Any:
        """Return what an object made with these settings claims; None where the class is silent."""
        value = self.claims.get(name)
        if not isinstance(value, FromSetting):
            return value
        setting = self.value(value.setting, settings)
        if value.claim:
            return getattr(Described(setting), value.claim, None)
        return setting if value.among is None else setting in value.among

    def value(self, name: Any, settings: Mapping[str, Any]) -> Any:
        """Return what a setting has come to, or `name` itself where it names none."""
        if name not in self.settings:
            return name
        return settings.get(name, self.settings[name].default)


@dataclass(frozen=True)
class Described:
    """What stands for a plug-in's object before there is one: its section, with its claims."""

    section: Any  # `_target_` and settings; anything else claims nothing

    def __getattr__(self, name: str) -> Any:
        if not isinstance(self.section, Mapping) or name.startswith("_"):
            raise AttributeError(name)
        return read(str(self.section["_target_"])).claim(name, self.section)


def read(target: str) -> Plugin:
    """Read the class that a `_target_` names, be it in another module by `from ... import`."""
    return _read(target, find(target))


@functools.cache
def _read(target: str, found: Found) -> Plugin:
    settings, takes_any = _constructor(found)
    claims: dict[str, Any] = {}
    for ancestor in filter(None, reversed(lineage(found))):
        node = ancestor.node
        own = {*source_text.methods(node), *(name for name, _ in source_text.assigned(node))}
        claims = {name: claims[name] for name in claims.keys() - own}
        claims |= {**source_text.literals(node), **source_text.properties(node, settings)}
    return Plugin(target, settings, claims, takes_any)


def _constructor(found: Found) -> tuple[dict[str, Setting], bool]:
    """The keyword arguments of a class's `__init__`, and whether it takes any other.

    Where `__init__` hands its **kwargs to `super().__init__`, those of the next one in the lineage
    follow, but for those that the call sets.
    """
    settings: dict[str, Setting] = {}
    given: set[str | None] = set()
    takes_any = False
    for ancestor in lineage(found):
        if ancestor is None and takes_any:
            break
        init = source_text.methods(ancestor.node).get("__init__") if ancestor else None
        if ancestor is None or init is None:
            continue
        file = source_text.source(ancestor.module)
        own = _settings(init.args, source_text.literals(source_text.parse(file)) if file else {})
        settings |= {name: s for name, s in own.items() if name not in {*settings, *given}}
        takes_any = init.args.kwarg is not None
        handed_on = _handed_on(init)
        if handed_on is None:
            break
        given |= handed_on
    return settings, takes_any


def _handed_on(init: ast.FunctionDef) -> set[str | None] | None:
    """What `super().__init__(..., **kwargs)` sets besides the kwargs; None without such a call."""
    for call in ast.walk(init):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__":
            names = {keyword.arg for keyword in call.keywords}
            return names if None in names and init.args.kwarg else None
    return None


def _settings(arguments: ast.arguments, constants: Mapping[str, Any]) -> dict[str, Setting]:
    positional = [*arguments.posonlyargs, *arguments.args]
    missing = [None] * (len(positional) - len(arguments.defaults))
    pairs = [*zip(positional, [*missing, *arguments.defaults], strict=True)][1:]  # less self
    pairs = [pair for pair in pairs if pair[0] not in arguments.posonlyargs]
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return {
        argument.arg: Setting(
            _hint(argument.annotation, constants),
            constants[default.id]
            if isinstance(default, ast.Name) and default.id in constants
            else source_text.literal(default),
            default is None,
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
        names = collections.defaultdict(lambda: Any, {**constants, **_NAMESPACE})
        return eval(compile(expression, "annotation", "eval"), {"__builtins__": {}}, names)
    except _UNREADABLE:
        return Any
