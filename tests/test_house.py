"""The house: which package may import which, no circle, what stays out of each."""

import ast
import functools
from collections import defaultdict
from pathlib import Path

import pytest

import bptt_lab

ROOT = Path(bptt_lab.__file__).parent
# What each package may import, besides itself.
MAY = {
    "core": set(),
    "gradients": {"core"},
    "nn": {"core", "gradients"},
    "tasks": {"core", "gradients", "nn"},
    "diagnostics": {"core", "gradients", "nn"},
    "config": {"core"},
    "runs": {"core", "config"},
    "training": {"core", "gradients", "nn", "tasks", "diagnostics", "config", "runs"},
    "lab": {"core", "gradients", "nn", "tasks", "diagnostics", "config", "runs", "training"},
}
MAY["commands"] = {*MAY["lab"], "lab"}
LIGHTNING = {"lightning", "hydra", "omegaconf"}
LIBRARIES = {
    "config": {"torch", "lightning", "tensorboard"},
    "runs": {"torch", "lightning", "tensorboard"},
    "core": LIGHTNING,
    "gradients": LIGHTNING,
    "nn": LIGHTNING,
    "diagnostics": LIGHTNING,
}
LONGEST = 300  # lines of a file


def name_of(file: Path, root: Path = ROOT) -> str:
    parts = ("bptt_lab", *file.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in sorted(ROOT.rglob("*.py"))}


def imported(text: str, module: str, is_package: bool, modules: set[str]) -> set[str]:
    """Every module that a file imports: at its top, under TYPE_CHECKING, in a function."""
    package = module if is_package else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in modules else base)
    return found


@functools.cache
def all_imports() -> dict[str, set[str]]:
    """What each of our modules imports."""
    return {
        name: imported(file.read_text(), name, file.name == "__init__.py", set(MODULES))
        for name, file in MODULES.items()
    }


def room(module: str) -> str:
    """The package of a module; empty for bptt_lab itself."""
    return [*module.split("."), ""][1] if module.startswith("bptt_lab") else ""


def upward(imports: dict[str, set[str]]) -> list[str]:
    return [
        f"{name} imports {other}"
        for name, others in imports.items()
        for other in others
        if room(name) in MAY and room(other) in MAY
        if room(other) != room(name) and room(other) not in MAY[room(name)]
    ]


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Every circle that a depth-first walk meets."""
    state, path, found = defaultdict(int), [], []

    def walk(name: str) -> None:
        state[name] = 1
        path.append(name)
        for other in sorted(imports.get(name, ()) & imports.keys()):
            if state[other] == 1:
                found.append([*path[path.index(other) :], other])
            elif state[other] == 0:
                walk(other)
        path.pop()
        state[name] = 2

    for name in imports:
        if state[name] == 0:
            walk(name)
    return found


def test_arrows_point_one_way():
    assert upward(all_imports()) == []


def test_there_is_no_circle():
    # bptt_lab itself hands out names of other modules, when they are asked for.
    inner = {name: others for name, others in all_imports().items() if name != "bptt_lab"}
    assert circles(inner) == []


def test_the_packages_and_nothing_else():
    packages = {p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert packages == set(MAY)
    assert {p.name for p in ROOT.glob("*.py")} == {"__init__.py"}


@pytest.mark.parametrize("package", LIBRARIES)
def test_a_package_does_without(package):
    for name, others in all_imports().items():
        if room(name) == package:
            heads = {other.partition(".")[0] for other in others}
            assert not heads & LIBRARIES[package], name


def test_hydras_private_side_is_touched_in_one_file():
    touching = [
        name
        for name, others in all_imports().items()
        if any("hydra._internal" in o for o in others)
    ]
    assert touching == ["bptt_lab.config.hydra_internals"]


def test_no_file_is_too_long():
    files = [*MODULES.values(), *ROOT.rglob("*.[ch]")]
    assert [f.name for f in files if len(f.read_text().splitlines()) > LONGEST] == []


def test_a_wrong_arrow_and_a_circle_would_be_seen():
    modules = {"bptt_lab.core.a", "bptt_lab.nn.b", "bptt_lab.nn.c"}
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from bptt_lab.nn import b\n"
    wrong = {"bptt_lab.core.a": imported(text, "bptt_lab.core.a", False, modules)}
    assert upward(wrong) == ["bptt_lab.core.a imports bptt_lab.nn.b"]
    late = "def f():\n    from . import c\n"
    circle = {
        "bptt_lab.nn.b": imported(late, "bptt_lab.nn.b", False, modules),
        "bptt_lab.nn.c": {"bptt_lab.nn.b"},
    }
    assert circles(circle) == [["bptt_lab.nn.b", "bptt_lab.nn.c", "bptt_lab.nn.b"]]
