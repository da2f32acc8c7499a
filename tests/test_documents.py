"""Every example in a docstring runs, and every command and block of the documents works.

A command is run in this process as it stands, with what CHEAPLY adds, so that a wrong option, key
or value fails. Placeholders stand for a small run and a small sweep that are made once.
"""

from __future__ import annotations

import doctest
import importlib
import os
import re
import shlex
import shutil
import sys
import tomllib
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pages
import pytest
import torch
from tasks.samples import PROSE, write_music

import bptt_lab
from bptt_lab.commands.train import cli as train

ROOT = Path(__file__).parents[1]
PACKAGE = Path(bptt_lab.__file__).parent
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md")),
)
COMMANDS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
EXAMPLE = re.compile(r"^\s*>>> ", re.MULTILINE)

# What is added to a command, so that it takes no minutes.
NET = ("model.hidden_size=4", "dataset.batch_size=2")
CHEAPLY = {
    "bptt-train": ("dry_run=true",),
    "bptt-search": ("dry_run=true", "gradient=truncated"),
    "bptt-compare": ("dataset.batch_size=2", "--strategies", "full"),
    "bptt-reproduce": ("--list",),
    "bptt-bench": ("--help",),
    "bptt-sample": ("--help",),
}
TINY = ("num_threads=1", "callbacks=none", "trainer.max_epochs=1", *NET, "dataset.train_size=8")
SWEEP = (
    *("hydra/launcher=basic", "dataset=adding", "gradient=truncated", "gradient.k=2"),
    *("dataset.num_steps=4,6", *TINY),
)


# Docstrings


def _with_examples() -> list[str]:
    files = [f for f in PACKAGE.rglob("*.py") if EXAMPLE.search(f.read_text(encoding="utf-8"))]
    parts = [file.relative_to(PACKAGE.parent).with_suffix("").parts for file in files]
    return sorted(".".join(p).removesuffix(".__init__") for p in parts)


@pytest.mark.parametrize("name", _with_examples())
def test_examples_of_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(verbose=False)
    found = doctest.DocTestFinder(exclude_empty=True).find(module)
    torch.manual_seed(0)
    report: list[str] = []
    for test in found:
        runner.run(test, out=report.append)
    assert not runner.summarize(verbose=False).failed, "".join(report)
    written = len(EXAMPLE.findall(Path(str(module.__file__)).read_text(encoding="utf-8")))
    assert sum(len(test.examples) for test in found) == written, "an example that nobody finds"


# Documents


class Block(NamedTuple):
    """An indented or a fenced block of a document."""

    language: str  # "" where it is indented, "file" where a reader is to write it to one
    lines: list[str]


def _blocks(text: str) -> list[Block]:
    rest = pages.FENCED.sub("", text)
    indented = re.findall(r"(?:^    .*\n)+", rest, re.MULTILINE)
    return [
        Block("file" if block.title else block.language or "text", block.text.splitlines())
        for block in pages.blocks(text)
    ] + [Block("", [line[4:] for line in body.splitlines()]) for body in indented]


def _is_command(line: str) -> bool:
    return bool(re.match(r"(bptt-|(make|python|pytest|tensorboard|pip)\s)", line))


def _spans(text: str) -> list[str]:
    """The spans of code in the prose and in the tables, each on one line."""
    prose = re.sub(r"^(```.*?^```| {4}.*?)$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def _commands(text: str) -> list[str]:
    """The commands of all blocks that have one, and of all spans."""
    blocks = [block.lines for block in _blocks(text) if any(map(_is_command, block.lines))]
    lines = [re.sub(r"\s+#\s.*", "", line) for lines in blocks for line in lines if line.strip()]
    return list(dict.fromkeys(lines + [span for span in _spans(text) if _is_command(span)]))


def _settings(text: str) -> list[str]:
    """KEY=VALUE wherever a span begins so, and KEY alone where it names a setting of a group."""
    groups = "|".join(path.name for path in (ROOT / "conf").iterdir() if path.is_dir())
    setting = re.compile(rf"[a-z_./]+=[\w.-]*|(?:{groups}|trainer)(?:\.[a-z_]+)+$")
    words = [w for span in _spans(text) if setting.match(span) for w in span.split()]
    return [found[0] for word in words if (found := setting.match(word))]


def _everywhere(find):
    return [
        pytest.param(found, id=f"{name} {number}")
        for name in DOCUMENTS
        for number, found in enumerate(find((ROOT / name).read_text(encoding="utf-8")))
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, a sweep, a text, chorales and a plug-in."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "prose.txt").write_text(PROSE)
    (folder / "numbers.csv").write_text("a,b\n0.1,1\n0.2,0\n0.3,1\n")
    write_music(folder)
    pages.write("extending.md", folder)
    groups = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"]
    record = folder / "mypkg-1.0.dist-info"
    record.mkdir()
    entries = [
        f"[{group}]\n{name} = {value}\n"
        for group, entry in groups.items()
        for name, value in entry.items()
    ]
    (record / "entry_points.txt").write_text("".join(entries))
    here = Path.cwd()
    os.chdir(folder)
    try:
        assert _run("bptt-train", "dataset=adding", "hydra.run.dir=outputs/run", *TINY) == 0
        assert _run("bptt-train", "-m", *SWEEP, "hydra.sweep.dir=outputs/sweep") == 0
    finally:
        os.chdir(here)
    return folder


def _run(command: str, *arguments: str) -> int:
    """Run one of our commands in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [command, *arguments])
        patch.setattr(sys, "path", [*sys.path])
        patch.setattr(os, "execv", lambda *_: sys.exit(0))  # bptt-board becomes TensorBoard
        patch.setattr(train, "show_plan", lambda plan: None)  # it makes the data to count the steps
        try:
            return int(EntryPoint(command, COMMANDS[command], "").load()() or 0)
        except SystemExit as stop:
            return int(stop.code or 0)


def _filled(words: list[str]) -> list[str]:
    """The words with real things for the placeholders."""
    of_sweep = "-m" in words or words[0] in ("bptt-report", "bptt-board", "bptt-horizon")
    text = shlex.join(words)
    if "..." in words:
        text = shlex.join([w for word in words for w in (SWEEP if word == "..." else [word])])
    text = text.replace("RUN_FOLDER", "outputs/run").replace("dataset.path=FILE", "dataset.path=X")
    text = text.replace("outputs/FOLDER", f"outputs/{'sweep' if of_sweep else 'run'}")
    text = text.replace("--input FILE", "--input numbers.csv")
    text = text.replace("=X", "=rolls.json" if "music" in text else "=prose.txt")
    return shlex.split(text.replace("FOLDER", "outputs/sweep" if of_sweep else "outputs/run"))


@pytest.mark.parametrize("line", _everywhere(_commands))
def test_commands_of_documents(
    line: str, folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    program, *arguments = words = shlex.split(line)
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert arguments[0] in targets, line
        (given,) = [a.removeprefix("ARGS=") for a in arguments[1:]] or [""]
        program, *arguments = words = ["bptt-train", *shlex.split(given)]
    if program in ("python", "pip", "tensorboard"):
        assert shutil.which(program, path=str(Path(sys.executable).parent)), line
        assert all((ROOT / word).is_file() for word in arguments if word.endswith(".py")), line
    elif program == "pytest":
        for word in arguments:
            if word.startswith("--") and word != "--pyargs":
                request.config.getoption(word)
            assert not word.startswith("bptt_lab") or find_spec(word), line
    else:
        assert program in COMMANDS, f"{program}: there is no such command"
        if arguments or line.startswith("make train"):
            monkeypatch.chdir(folder)
            cheaply = [word for word in CHEAPLY.get(program, ()) if not {word, "--help"} & {*words}]
            assert _run(*_filled(words), *cheaply) == 0, line


@pytest.mark.parametrize("setting", _everywhere(_settings))
def test_settings_of_documents(setting: str) -> None:
    key, _, value = setting.partition("=")
    conf = ROOT / "conf"
    group, _, name = key.rpartition(".")
    if (conf / key).is_dir():
        assert not value or (conf / key / f"{value}.yaml").is_file(), f"{key} has no {value}"
    elif not re.fullmatch(r"hydra\.(run|sweep)\.dir", key):
        files = [conf / "config.yaml", *(conf / group.replace(".", "/")).glob("*.yaml")]
        known = any(re.search(rf"^ *{name}:", file.read_text(), re.MULTILINE) for file in files)
        assert known, f"{key}: there is no such setting"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_options_of_documents(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    spans = [s for s in _spans((ROOT / name).read_text(encoding="utf-8")) if not _is_command(s)]
    options = {option for span in spans for option in re.findall(r"(?<!\S)--[a-z-]+", span)}
    for command in COMMANDS if options else ():
        assert _run(command, "--help") == 0
    assert not options - {*re.findall(r"--[a-z-]+", capsys.readouterr().out)}


def _rows(text: str) -> list[str]:
    return re.findall(r"^\|.*\|$", text, re.MULTILINE)


@pytest.mark.parametrize("row", _rows((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
def test_files_and_names_of_contributings_tables(row: str) -> None:
    """A file lies in the package, or in that of its row; a name beside it stands in one of them."""
    spans = re.findall(r"`([^`;=]+)`", row)
    folders = [PACKAGE, *(PACKAGE / span for span in spans if span.endswith("/"))]
    texts = []
    for span in spans:
        if span.endswith((".py", "/")):
            found = [f / span for f in (ROOT, *folders) if (f / span).exists()]
            assert found, f"there is no {span}"
            texts += [path.read_text(encoding="utf-8") for path in found if path.is_file()]
    for span in spans:
        if span.isidentifier():
            defined = re.compile(rf"^\s*(def|class) {span}\b", re.MULTILINE)
            assert any(map(defined.search, texts)), f"there is no {span} in these files"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_python_of_documents(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(ROOT / "scripts" / "site")  # where the site's blocks find `show`
    names: dict[str, object] = {}
    for block in _blocks((ROOT / name).read_text(encoding="utf-8")):
        if block.language == "python":
            exec("\n".join(block.lines), names)
