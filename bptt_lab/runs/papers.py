"""The papers of a run or a sweep, read: what they may say is checked here and nowhere else.

A paper may come from anyone. One that no run of ours can have written is `Damaged`; whoever reads
it says so and goes on with the other runs. A key that is not listed here may hold anything.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, get_args, get_origin

from bptt_lab.core.validation import ConfigError, Ge, Le, unmet
from bptt_lab.runs import files

STATUS, MANIFEST, SUMMARY, METRICS = "status.json", "manifest.json", "summary.json", "metrics.jsonl"
SWEEP = "sweep.json"
LONGEST_LINE = 2**20  # bytes of a line of metrics.jsonl
DEEPEST = 50  # levels of lists and objects
DIGITS = 300  # of a whole number; more are too many for a float


class Damaged(ConfigError):
    """A paper that no run of ours wrote; its message names the file and what is wrong with it."""


class _Rule(NamedTuple):
    """What a value must be, beyond its type."""

    holds: Callable[[Any], object]  # something true
    problem: str

    def unmet(self, value: Any, siblings: Any) -> str | None:
        """Say what is wrong with the value."""
        return None if self.holds(value) else self.problem


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)  # NaN among them


def _is_folder(path: str) -> bool:
    name = Path(path).name  # earlier versions wrote the whole path
    return name not in ("", "..") and "\0" not in name and len(os.fsencode(name)) <= 255


_SHORT = "must be 1 to 200 letters that can be printed"  # for a table, a title and a terminal
_SHA256 = _Rule(re.compile("[0-9a-f]{64}").fullmatch, "must be 64 hexadecimal digits")
Name = Annotated[str, _Rule(lambda text: 0 < len(text) <= 200 and text.isprintable(), _SHORT)]
Number = Annotated[Any, _Rule(_is_number, "must be a number")]
Seed = Annotated[int, Ge(0)]
Count = Annotated[int, Ge(0), Le(10**15)]
Written = Literal["waiting", "running", "completed", "failed", "diverged", "interrupted"]
Status = Literal[Written, "unreadable"]  # the last one: a paper is damaged
Section = dict[str, Any]
_SECTIONS = dict.fromkeys(
    ("model", "gradient", "optimizer", "schedule", "trainer", "device", "early_stopping"), Section
)
_LOGGED = _Rule(lambda x: _is_number(x) or x in ("nan", "inf", "-inf"), "must be a number")
_SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    STATUS: {"status": Written, "reason": str, "raised": bool},
    MANIFEST: {
        "command": str,
        "overrides": list[str],
        "choices": dict[Name, Name],
        "config": {**_SECTIONS, "dataset": {"_target_": str}, "callbacks": Section, "seed": Seed},
        "versions": Section,
        "forced": list[Any],
    },
    SUMMARY: {
        "metrics": dict[Name, Number],
        "references": dict[Name, dict[Name, Number]],
        "seconds": Annotated[float, Ge(0)],
        "steps": Count,
        "epochs": Count,
        "parameters_sha256": Annotated[str, _SHA256],
    },
    SWEEP: {
        "cwd": str,
        "command": str,
        "jobs": [
            {
                "folder": Annotated[str, _Rule(_is_folder, "must be the name of a folder")],
                "overrides": list[str],
            }
        ],
        "search": {
            "metric": Name,
            "direction": Literal["minimize", "maximize"],
            "settings": dict[str, str],
        },
    },
}
_REQUIRED = {"folder", "overrides", "metric", "direction", "settings"}  # of jobs and searches


def read(path: Path) -> dict[str, Any]:
    """Read a paper, an empty one where there is none; Damaged where no run writes what it says."""
    try:
        with files.reading(path, files.LARGEST_PAPER) as file:
            return _parsed(path.name, file.read(), _SCHEMAS[path.name])
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        _damaged(path.name, f"it cannot be read ({error.strerror})")


def read_metrics(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of metrics.jsonl: {"step": ..., tag: value, ...}, inf and NaN as floats.

    A kill may have cut the last one short; any other damage raises Damaged.
    """
    path = folder / METRICS
    try:
        with files.reading(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
                where = f"{path.name}, line {number},"
                if len(line) > LONGEST_LINE:
                    _damaged(where, "it is too long")
                try:
                    found = _parsed(where, line, dict[Name, Annotated[Any, _LOGGED]])
                except Damaged:
                    if line.endswith(b"\n"):
                        raise
                    return
                _check(where, "step", found.get("step"), Count)
                yield {tag: float(v) if isinstance(v, str) else v for tag, v in found.items()}
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        _damaged(path.name, f"it cannot be read ({error.strerror})")


def _damaged(where: str, problem: str) -> NoReturn:
    raise Damaged(f"{where} is damaged: {problem}")


def _parsed(where: str, content: bytes, schema: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(content.decode(), object_pairs_hook=_object)
        _refuse_odd(found)
    except UnicodeError:
        _damaged(where, "it is no UTF-8 text")
    except RecursionError:
        _damaged(where, "its lists and objects are too deep")
    except ValueError as error:
        _damaged(where, str(error) if content.strip() else "it is empty")
    _check(where, "", found, schema)
    return found


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it says a key twice")
    return found


def _refuse_odd(value: Any, depth: int = 0) -> None:
    """Refuse what JSON allows, and other formats that it ends in do not."""
    if depth > DEEPEST:
        raise RecursionError
    if isinstance(value, str):
        value.encode()  # half of a surrogate pair is no letter
    elif isinstance(value, int) and abs(value) >= 10**DIGITS:
        raise ValueError(f"it has a number of more than {DIGITS} digits")
    elif isinstance(value, dict | list):
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            _refuse_odd(item, depth + 1)


def _check(where: str, key: str, value: Any, schema: Any) -> None:
    """Refuse a value, at a dotted key in what the message names, that is not as a schema asks.

    A schema is a mapping from keys, of which those of _REQUIRED must be there; a list of one
    schema, that of all items; dict[...]; any other type hint.
    """
    by_name = get_origin(schema) is dict
    if isinstance(schema, Mapping) or by_name:
        problem = None if isinstance(value, dict) else "must be an object"
    elif isinstance(schema, list):
        problem = None if isinstance(value, list) else "must be a list"
    else:
        is_null = value is None and schema is not Any
        problem = "must not be null" if is_null else unmet(value, schema, {})
    if problem:
        shown = json.dumps(value)
        shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
        _damaged(where, f"{key.lstrip('.')}={shown}: {problem}" if key else f"it {problem}")
    if by_name:
        of_name, of_item = get_args(schema)
        for name, item in value.items():
            _check(where, f"{key}, a name" if key else "a name", name, of_name)
            _check(where, f"{key}.{name}", item, of_item)
    elif isinstance(schema, list):
        for number, item in enumerate(value):
            _check(where, f"{key}.{number}", item, schema[0])
    elif isinstance(schema, Mapping):
        for name, of_item in schema.items():
            if name in value:
                _check(where, f"{key}.{name}", value[name], of_item)
            elif name in _REQUIRED:
                _damaged(where, f"{key.lstrip('.') or 'it'} has no {name}")
