"""Papers of runs as no run writes them: a hundred kinds of damage, and oddities that are none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

LONE = '"\\ud800"'


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def _link(path: Path) -> None:
    whole = path.with_name(f"whole.{path.name}")
    path.rename(whole)
    path.symlink_to(whole.name)


# What happens to any of the papers: bytes in its place, or something done to it.
ANYWHERE: dict[str, bytes | Callable[[Path], None]] = {
    "empty": b"",
    "blank": b" \n\t\n",
    "null": b"null\n",
    "list": b"[]\n",
    "list of objects": b'[{"step": 1}]\n',
    "number": b"3\n",
    "text": b'"completed"\n',
    "true": b"true\n",
    "NaN": b"NaN\n",
    "half": b'{"metrics": {"test/lo\n',
    "two": b'{"step": 1}{"step": 2}\n',
    "garbage behind": b'{"step": 1} x\n',
    "python": b"{'step': 1}\n",
    "comment": b'// of mine\n{"step": 1}\n',
    "comma": b'{"step": 1,}\n',
    "NULs": b"\0" * 100 + b"\n",
    "no UTF-8": b'{"step": 1, "a\xff": 1}\n',
    "UTF-16": '{"step": 1}\n'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"step": 1}\n',
    "deep list": b'{"step": 1, "a": ' + b"[" * 100_000 + b"\n",
    "deep whole list": b'{"step": 1, "a": ' + b"[" * 900 + b"]" * 900 + b"}\n",
    "deep object": b'{"a":' * 100_000 + b"\n",
    "deep whole object": b'{"a":' * 200 + b"1" + b"}" * 200 + b"\n",
    "a key twice": b'{"step": 1, "reason": "a", "reason": "b"}\n',
    "lone surrogate": b'{"step": 1, "reason": ' + LONE.encode() + b"}\n",
    "lone surrogate key": b'{"step": 1, ' + LONE.encode() + b": 1}\n",
    "long number": b'{"step": 1, "a": ' + b"9" * 5000 + b"}\n",
    "longer than a float": b'{"step": 1, "a": ' + b"9" * 400 + b"}\n",
    "enormous": _sparse,
    "folder": lambda path: (path.unlink(), path.mkdir())[1],
    "pipe": lambda path: (path.unlink(), os.mkfifo(path))[1],
    "link": _link,
    "link to itself": lambda path: (path.unlink(), path.symlink_to(path.name))[1],
}
LONG = "x" * 300
# Values at a key, "/" between its parts, that no run writes there.
VALUES: dict[str, dict[str, list[Any]]] = {
    "status.json": {
        "status": [None, 5, True, "done", "unreadable", [], {}, ["completed"]],
        "reason": [None, 5, [], {}],
        "raised": [None, "yes", 1, []],
    },
    "summary.json": {
        "metrics": [None, [], {}, "x", 3, [["test/loss", 1]]],
        "metrics|test/loss": [None, "0.4", [], [1], {}, {"a": 1}, True],
        "metrics|": [1.0],
        "metrics|test/a\x1b]0;x\x07": [1.0],
        f"metrics|{LONG}": [1.0],
        "references": [None, [], "x", 3, {"chance": None}, {"chance": [1]}, {"chance": 1}],
        "references|chance|loss": [None, "x", [], {}, False],
        "references|": [{"loss": 1}],
        "seconds": [None, "3", [], -1, float("nan"), float("inf"), True],
        "steps": [None, "3", 1.5, -1, True, [], 10**30],
        "epochs": [None, "3", 1.5, -1, True, {}],
        "parameters_sha256": [None, 5, [], {}, "", "x", "0" * 63, "g" * 64],
    },
    "manifest.json": {
        "command": [None, 5, [], {}],
        "overrides": [None, "seed=0", {}, [None], [5], [["seed=0"]], 3],
        "choices": [None, [], "x", {"gradient": None}, {"gradient": 3}, {"gradient": {}}],
        "choices|gradient": ["", LONG, [], "\0", "\x1b[2J"],
        "choices|": ["x"],
        "config": [None, [], "x", 5],
        "config|dataset": [None, [], "digits", 5],
        "config|dataset|_target_": [None, 5, [], {}],
        "config|gradient": [None, [], "full"],
        "config|model": [None, [1]],
        "config|callbacks": [None, [], 3],
        "config|seed": [None, "a", 1.5, -1, True, []],
        "versions": [None, [], "x"],
        "forced": [None, {}, "x"],
    },
    "metrics.jsonl": {
        "step": [None, "1", 1.5, -1, True, [], {}, 10**30],
        "val/loss": [None, [], {}, True, "five", "NaN", "1e3", ""],
        "": [1.0],
        LONG: [1.0],
    },
    "sweep.json": {
        "command": [None, 5, [], {}],
        "cwd": [None, 5, []],
        "jobs": [None, {}, "x", 3, [None], [3], ["x"], [[]], [{}], [{"folder": "0"}]],
        "jobs|0|folder": [None, 5, "", "..", ".", "/", "a\0b", LONG, "ä" * 200, "001", [], {}],
        "jobs|0|overrides": [None, "seed=0", {}, [None], [5], [[]]],
        "search": [None, [], "x", {}, {"metric": "val/loss", "direction": "minimize"}],
        "search|metric": [None, 5, "", []],
        "search|direction": [None, "up", 1],
        "search|settings": [None, [], "x", {"k": 5}, {"k": None}],
    },
}
SEARCH = {"metric": "val/loss", "direction": "minimize", "settings": {}}
# Values that a run may write, or somebody else, and that the report has to live with.
ODD: dict[str, dict[str, list[Any]]] = {
    "status.json": {"reason": ["", "x" * 10**5, "\0\x1b[2J\n", "<b>", "漢字", "$\\frac{"]},
    "summary.json": {
        "metrics|test/loss": [float("nan"), float("inf"), -1e308, 1e308, 0, 10**200],
        "references": [{}, {"chance": {}}],
        "references|chance|loss": [float("nan"), float("-inf"), 1e308, -5, 0],
        "seconds": [0, 1e-300],
        "steps": [0, 10**15],
    },
    "manifest.json": {
        "command": ["", "=1+1", "\x1b[31m"],
        "overrides": [[], ["="], ["a=[1"], ["~"], ["seed=${x}"], ["x" * 10**4], ["\0"]],
        "choices": [{}, {"gradient": "../../x"}, {"dataset": "漢/字"}],
        "config": [{}, {"dataset": {}}, {"seed": 10**200}],
        "config|dataset|_target_": ["", ".", "a..b", "os.system", "\0", "x" * 10**4, "bptt_lab"],
        "config|dataset|loss": [None, [], {}, 5, float("nan")],
        "config|optimizer|lr": [None, [], {}, "", float("nan"), float("inf"), 10**200, LONG * 30],
        "config|gradient|k": [None, [1, [2]], {"a": []}, "x", 1.5, True, -1, 10**200],
        "versions": [{}, {"python": None}, {"python": {"a": []}}],
        "git_commit": [None, [], 5],
    },
    "metrics.jsonl": {
        "val/loss": [float("nan"), "inf", "-inf", "nan", 1e308, -1e308, 0, 10**200],
        "gradient_norm/total": [0, -1, 1e-320, 1e308],
        "step": [0, 10**15],
    },
}


def kinds(table: dict[str, dict[str, list[Any]]]) -> list[tuple[str, str, Any]]:
    """Return file, key and value of each of the kinds in a table."""
    return [
        (file, key, value)
        for file, keys in table.items()
        for key, values in keys.items()
        for value in values
    ]


def put(path: Path, key: str, value: Any) -> None:
    """Write a value at a key of a paper, or into the first line of a log."""
    first, _, rest = path.read_text().partition("\n") if path.suffix == ".jsonl" else ("", "", "")
    content = json.loads(first or path.read_text())
    if path.name == "sweep.json" and key.startswith("search|"):
        content["search"] = SEARCH
    *parts, last = key.split("|")
    place: Any = content
    for part in parts:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
    place[int(last) if isinstance(place, list) else last] = value
    path.write_text(json.dumps(content) + ("\n" + rest if first else "\n"))


def spoil(path: Path, name: str) -> None:
    """Do to a paper what happens to any."""
    what = ANYWHERE[name]
    if isinstance(what, bytes):
        path.write_bytes(what)
    else:
        what(path)
