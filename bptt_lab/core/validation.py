"""Limits on settings, written once: in the annotations of a constructor.

    @checked
    def __init__(self, *, k: Annotated[int, Ge(1)] = 16) -> None: ...

Ge, Gt, Le and Lt are annotated-types'; the bound may be the name of another setting. The others say
by `unmet` what a value must be, given the object's settings. `checked` enforces them whenever the
object is made, in a notebook too. `bptt_lab.config` reads the same annotations from the source
text, so that a bad setting is refused before torch is imported.
"""

import difflib
import functools
import importlib.util
import inspect
import math
import operator
import os
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge as Ge
from annotated_types import Gt as Gt
from annotated_types import Le as Le
from annotated_types import Lt as Lt

F = TypeVar("F", bound=Callable[..., None])

_NAMES = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}


class ConfigError(ValueError):
    """A setting that cannot work; its message names key, value, limit and way out, on one line."""


# The names by which plug-ins of earlier versions import them.
AtLeast, Above, AtMost, Below = Ge, Gt, Le, Lt


@dataclass(frozen=True)
class OnlyWith:
    """The setting means something only while another one has a certain value."""

    key: str
    wanted: str | None

    def unmet(self, value: Any, siblings: Mapping[str, Any]) -> str | None:
        """Say which other setting the value needs; false, as null, is no value."""
        if value is False or siblings.get(self.key) == self.wanted:
            return None
        wanted, off = self.wanted or "null", "false" if value is True else "null"
        return f"only means something with {self.key}={wanted}; leave it {off}"


@dataclass(frozen=True)
class Claiming:
    """The value is an object that claims something of itself."""

    claim: str
    otherwise: str  # what it must be, why, and the way out

    def unmet(self, value: Any, siblings: Mapping[str, Any]) -> str | None:
        """Say what it must be where it claims nothing of the kind."""
        return None if getattr(value, self.claim, False) else self.otherwise


def too_many(num_layers: int, rule: str, most: int | None) -> str | None:
    """Say what the number of layers must be with a rule that unrolls `most` at most."""
    if most is None or num_layers <= most:
        return None
    limit = "must be 1" if most == 1 else f"must be at most {most}"
    problem = f"{limit}, since {rule} unrolls no more layers"
    return f"{problem}; use gradient=full, checkpointed or truncated"


@dataclass(frozen=True)
class ReadableFile:
    """The value is the path of a file that can be read and is not empty."""

    def unmet(self, value: Any, siblings: Mapping[str, Any]) -> str | None:
        """Say what is wrong with the file."""
        if not value:
            return "must name a file; give the path of one"
        path = Path(os.path.expanduser(value))  # where Path's own raises for a user unknown
        if not os.path.exists(path):
            return "must be an existing file, but there is none; give the path of one"
        if path.is_dir():
            return "must be a file, but it is a folder; give the path of a file in it"
        if not path.is_file():
            return "must be an ordinary file, but it is a device or a pipe; give another one"
        if not os.access(path, os.R_OK):
            return "must be readable, but you may not read it; change its permissions"
        if path.stat().st_size == 0:
            return "must hold some data, but the file is empty; give another one"
        return None


@dataclass(frozen=True)
class Splits:
    """The value says how much is for training, validation and test: shares, or numbers of rows."""

    def unmet(self, value: Any, siblings: Mapping[str, Any]) -> str | None:
        """Say what the three numbers must be."""
        rows = all(isinstance(part, int) for part in value)
        whole = rows or math.isclose(sum(value), 1)
        if len(value) == 3 and min(value) > 0 and whole:
            return None
        return "must be three shares above 0 that sum to 1, as [0.8,0.1,0.1], or numbers of rows"


@dataclass(frozen=True)
class Duration:
    """The value is a time: a number of seconds, or days, hours, minutes and seconds."""

    def unmet(self, value: Any, siblings: Mapping[str, Any]) -> str | None:
        """Say how a time is written."""
        try:
            fits = seconds(value) > 0
        except ValueError:
            fits = False
        return None if fits else "must be above 0, in seconds or as DD:HH:MM:SS"


def seconds(duration: float | str) -> float:
    """Return a time in seconds.

    >>> seconds(90), seconds("00:01:00:00")
    (90.0, 3600.0)

    Raises:
        ValueError: for a text that is not as DD:HH:MM:SS.
    """
    if not isinstance(duration, str):
        return float(duration)
    days, hours, minutes, rest = map(int, duration.split(":"))
    return float(((24 * days + hours) * 60 + minutes) * 60 + rest)


@dataclass(frozen=True)
class OfValidation:
    """The value is the tag of a metric of validation."""

    def unmet(self, value: Any, siblings: Mapping[str, Any]) -> str | None:
        """Name a tag that every run has."""
        fits = value.startswith("val/")
        return None if fits else "must be a metric of validation; use val/loss"


@dataclass(frozen=True)
class Distinct:
    """The value lists one thing or more, none of them twice."""

    def unmet(self, value: Any, siblings: Mapping[str, Any]) -> str | None:
        """Say what the list must be."""
        if value and len(set(value)) == len(value):
            return None
        return "must be a list of different names, one or more, as [a,b]"


@dataclass(frozen=True)
class ReadablePath:
    """The value is the path of a folder that can be read, or of a file as ReadableFile has it."""

    def unmet(self, value: Any, siblings: Mapping[str, Any]) -> str | None:
        """Say what is wrong with the folder or file."""
        if not value:
            return "must name a folder; give the path of one"
        place = os.path.expanduser(value)
        if os.path.isdir(place):
            readable = os.access(place, os.R_OK | os.X_OK)
            return None if readable else "must be readable, but is not; change its permissions"
        if os.path.lexists(place):
            return ReadableFile().unmet(value, siblings)
        return "must be an existing folder or file, but there is none; give another path"


def missing(package: str, install: str) -> str | None:
    """Say that a package is needed, where it is not installed."""
    if importlib.util.find_spec(package) is not None:
        return None
    return f"needs the package {package}; run pip install '{install}'"


def checked(init: F) -> F:
    """Decorate a constructor so that it refuses values outside its annotations' limits.

    Raises:
        ConfigError: naming the argument, its value and the limit.
    """

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        signature = inspect.signature(init)
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        hints = inspect.get_annotations(init, eval_str=True)
        values = {name: bound.arguments[name] for name in hints if name in bound.arguments}
        for name, value in values.items():
            check(name, value, hints[name], values)
        init(self, *args, **kwargs)

    return wrapper  # type: ignore[return-value]


def check(key: str, value: Any, hint: Any, siblings: Mapping[str, Any]) -> None:
    """Raise a ConfigError where `value` is not of type `hint` or outside its limits."""
    problem = unmet(value, hint, siblings)
    if problem:
        shown = "null" if value is None else "''" if value == "" else value
        raise ConfigError(" ".join(f"{key}={shown}: {problem}".split()))


def unmet(value: Any, hint: Any, siblings: Mapping[str, Any]) -> str | None:
    """Say what `value` must be to satisfy the type hint, or None where it does.

    Args:
        value: a setting as YAML or Python gives it.
        hint: a type, Literal, union, list[...] or Annotated[..., limits]; any other type passes.
        siblings: the other settings of the same object, for limits that refer to them.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        problem = unmet(value, args[0], siblings)
        if problem or value is None:
            return problem
        return next((text for limit in args[1:] if (text := _beyond(limit, value, siblings))), None)
    if origin is Literal:
        if value in args:
            return None
        options = [*map(str, args)]
        close = difflib.get_close_matches(str(value).lower(), options, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"must be one of {', '.join(options)}{hint}"
    if origin in (Union, types.UnionType):
        problems = [unmet(value, arg, siblings) for arg in args]
        if None in problems:
            return None
        return " or ".join(filter(None, problems)).replace(" or must be ", " or ")
    if origin is list:
        if not isinstance(value, list | tuple):
            return "must be a list"
        return next((text for v in value if (text := unmet(v, args[0], siblings))), None)
    if hint in (None, types.NoneType):
        return None if value is None else "must be null"
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        return None if math.isfinite(value) else "must be a finite number"
    if hint in _NAMES:
        fits = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
        return None if fits else f"must be {_NAMES[hint]}"
    return None


# By the attribute that holds its bound: what a limit of annotated-types asks for, and its words.
_BOUNDS: Mapping[str, tuple[Callable[[Any, Any], bool], str]] = {
    "ge": (operator.ge, "at least"),
    "gt": (operator.gt, "greater than"),
    "le": (operator.le, "at most"),
    "lt": (operator.lt, "less than"),
}


def words(limit: Any) -> str:
    """Say a limit in words, for help: "at least 1"."""
    for name, (_, text) in _BOUNDS.items():
        if hasattr(limit, name):
            return f"{text} {getattr(limit, name)}"
    name = re.sub(r"(?<!^)(?=[A-Z])", " ", type(limit).__name__).lower()
    return " ".join([name, "=".join(str(value) for value in vars(limit).values())]).strip()


def _beyond(limit: Any, value: Any, siblings: Mapping[str, Any]) -> str | None:
    """Say which limit a value passes; a bound that names a setting has that setting's value."""
    if hasattr(limit, "unmet"):
        text: str | None = limit.unmet(value, siblings)
        return text
    for name, (within, text) in _BOUNDS.items():
        if hasattr(limit, name):
            bound = getattr(limit, name)
            number = siblings.get(bound) if isinstance(bound, str) else bound
            if not isinstance(number, int | float) or within(value, number):
                return None
            return (
                f"must be {text} {bound}={number}" if bound != number else f"must be {text} {bound}"
            )
    return None
