"""Every example in a docstring runs, and every command and block of the documents works.

A command is run in this process as it stands, with what CHEAPLY adds, so that a wrong option, key
or value fails. Placeholders stand for a small run and a small sweep that are made once.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pages
import pytest
import torch
from tasks.samples import PROSE, write_music
from torch.utils.data import DataLoader

import bptt_lab
from bptt_lab import VanillaRNN, lab
from bptt_lab.commands.train import cli as train
from bptt_lab.gradients import Truncated
from bptt_lab.lab import process

ROOT = Path(__file__).parents[1]
PACKAGE = Path(bptt_lab.__file__).parent
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md")),
)
# In these a section stands by itself: its blocks know nothing of the sections before it.
BY_SECTION = {f"docs/{name}.md" for name in ("dropin", "python", "sweeps", "tasks", "trained")}
# These draw what instruments have measured; the site's build runs them, too.
IN_EARNEST = {"docs/dashboard.md"}
DEAR = {f"docs/{name}.md" for name in ("dropin", "python", "trained")}  # which train networks
SHELL = ("", "sh")  # languages of blocks that hold commands
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
    "bptt-homework": ("--help",),
    "bptt-league": ("--no-timing",),
    "bptt-sample": ("--help",),
}
# Commands whose FOLDER is a sweep's.
SWEPT = ("bptt-report", "bptt-board", "bptt-horizon", "bptt-league")
# Pages write these of Python's functions as they write settings.
FUNCTIONS = (lab.train, lab.sweep, lab.load, VanillaRNN, Truncated, DataLoader)
ARGUMENTS = {name for function in FUNCTIONS for name in inspect.signature(function).parameters}
TINY = ("num_threads=1", "callbacks=none", "trainer.max_epochs=1", *NET, "dataset.train_size=8")
SWEEP = (
    *("hydra/launcher=basic", "dataset=adding", "gradient=truncated", "gradient.k=2"),
    *("dataset.num_steps=4,6", *TINY),
)

pytestmark = pytest.mark.usefixtures("no_package_left")


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
    options: dict[str, str]  # of a fence: title, exec, slow (run where the site is built), ...
    section: int  # how many headings of the second level stand above it


def _flat(text: str) -> str:
    """The text without the indentation of admonitions and tabs."""
    lines, inside = [], False
    for line in text.splitlines():
        begins = re.match(r"(!!!|\?\?\?\+?|===) ", line)
        inside = bool(begins) or (inside and (not line or line.startswith("    ")))
        lines.append(line[4:] if inside and not begins else line)
    flat = "\n".join(lines) + "\n"
    return flat if flat == text else _flat(flat)


BLOCK = re.compile(
    r"^```(?P<language>\w*)(?P<options>.*)\n(?P<fenced>(?s:.*?))^```$|(?P<indented>(?:^    .*\n)+)"
    r"|^## ",
    re.MULTILINE,
)


def _blocks(text: str) -> list[Block]:
    blocks, section = [], 0
    for found in BLOCK.finditer(_flat(text)):
        if found["indented"]:
            lines = [line[4:] for line in found["indented"].splitlines()]
            blocks.append(Block("", lines, {}, section))
        elif found["fenced"] is not None:
            options = dict(re.findall(r'(\w+)="(.*?)"', found["options"]))
            lines = found["fenced"].splitlines()
            blocks.append(Block(found["language"] or "text", lines, options, section))
        else:
            section += 1
    return blocks


def _is_command(line: str) -> bool:
    return bool(re.match(r"(bptt-|(make|python|pytest|tensorboard|pip)\s)", line))


def _spans(text: str) -> list[str]:
    """The spans of code in the prose and in the tables, each on one line."""
    prose = re.sub(r"^(```.*?^```| {4}.*?)$", "", _flat(text), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def _lines(block: Block) -> list[str]:
    """The commands of a block, each on one line."""
    if block.language not in SHELL or not any(map(_is_command, block.lines)):
        return []
    lines = "\n".join(block.lines).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+#\s.*", "", line) for line in lines if line.strip()]


def _commands(text: str) -> list[str]:
    """The commands of all indented blocks that have one, and of all spans.

    Those of fenced blocks may need what the blocks above them have made: `_walk` runs them.
    """
    lines = [line for block in _blocks(text) if not block.language for line in _lines(block)]
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
    for name in DOCUMENTS:
        for block in _blocks((ROOT / name).read_text(encoding="utf-8")):
            _write(block, folder)
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
    of_sweep = "-m" in words or words[0] in SWEPT
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
    monkeypatch.chdir(folder)
    _cheaply(line, request.config)


def _cheaply(line: str, config: pytest.Config, code: int = 0) -> None:
    """Run a command in this folder, with what makes it cheap."""
    program, *arguments = words = shlex.split(line)
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert arguments[0] in targets, line
        (given,) = [a.removeprefix("ARGS=") for a in arguments[1:]] or [""]
        program, *arguments = words = ["bptt-train", *shlex.split(given)]
    if program in ("python", "pip", "tensorboard"):
        assert shutil.which(program, path=str(Path(sys.executable).parent)), line
        scripts = [word for word in arguments if word.endswith(".py")]
        assert all((ROOT / name).is_file() or Path(name).is_file() for name in scripts), line
    elif program == "pytest":
        for word in arguments:
            if word.startswith("--") and word != "--pyargs":
                config.getoption(word)
            assert not word.startswith("bptt_lab") or find_spec(word), line
    else:
        assert program in COMMANDS, f"{program}: there is no such command"
        if arguments or line.startswith("make train"):
            cheaply = [word for word in CHEAPLY.get(program, ()) if not {word, "--help"} & {*words}]
            if program == "bptt-train" and "experiment=" in line and "seed=" not in line:
                cheaply.append("seed=0")  # of the many seeds of a preset
            assert _run(*_filled(words), *cheaply) == code, line


@pytest.mark.parametrize("setting", _everywhere(_settings))
def test_settings_of_documents(setting: str) -> None:
    key, _, value = setting.partition("=")
    conf = ROOT / "conf"
    group, _, name = key.rpartition(".")
    if (conf / key).is_dir():
        assert not value or (conf / key / f"{value}.yaml").is_file(), f"{key} has no {value}"
    elif not re.fullmatch(r"hydra\.(run|sweep)\.dir", key) and key not in ARGUMENTS:
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


def _write(block: Block, folder: Path) -> None:
    """Write a block with a title into the file that this names."""
    if title := block.options.get("title"):
        path = folder / title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(block.lines) + "\n", encoding="utf-8")


def _masked(lines: list[str]) -> str:
    """Lines without their numbers, times and random names, and without a table's widths."""
    text = "\n".join(re.sub(r"\d[\w.:+-]*", "#", line.rstrip()) for line in lines)
    return re.sub(r"-{3,}", "---", re.sub(r"[ \t]+", " ", text)) + "\n"


def _assert_shown(block: Block, printed: str, after: str) -> None:
    """The lines of a block were printed, in this order; a line of dots stands for any lines."""
    parts = _masked(block.lines).split("...\n")
    pattern = r"(?m:^)" + r"(?:.*\n)*?".join(re.escape(part) for part in parts)
    assert re.search(pattern, _masked(printed.splitlines())), f"{after}\nprints\n{printed}"


def _walk(name: str, run: Callable[[str, int, bool], str], read: Callable[[], str]) -> None:
    """Do what a page says from top to bottom, as its reader does, in this folder.

    Args:
        name: of the document.
        run: runs a command that is to end with an exit code, and whose output the page shows or
            not, and returns what it prints; "" is not compared.
        read: returns what was printed since it was last called.
    """
    names: dict[object, dict[str, object]] = {}
    blocks = _blocks((ROOT / name).read_text(encoding="utf-8"))
    printed, last = "", ""
    for block, following in zip(blocks, [*blocks, None][1:], strict=True):
        _write(block, Path())
        if block.language == "python" and "slow" not in block.options:
            session = block.section if name in BY_SECTION else 0
            last = "\n".join(block.lines)
            exec(last, names.setdefault(session, {"__name__": "__main__"}))
            printed = read()
        elif block.language == "output" and printed:
            _assert_shown(block, printed, last)
        elif block.language in SHELL[1:]:
            shown = following is not None and following.language == "output"
            for last in _lines(block):
                refused = shown and following.lines[0].startswith(f"{shlex.split(last)[0]}: ")
                printed = run(last, 2 if refused else 0, shown)


@pytest.fixture
def at_page(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is a new one with all that pages speak of."""
    monkeypatch.chdir(shutil.copytree(folder, tmp_path / "page"))
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "site"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.fixture
def lightly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `lab` starts in a process of its own trains for one epoch, without instruments."""
    start, light = process.run, {"trainer.max_epochs": "1", "callbacks": "none"}

    def run(words: list[str]) -> process.Ended:
        kept = [word for word in words if word.partition("=")[0] not in light]
        return start([*kept, *(f"{key}={value}" for key, value in light.items())])

    monkeypatch.setattr(process, "run", run)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in DEAR else ())
        for name in DOCUMENTS
        if name not in IN_EARNEST
    ],
)
@pytest.mark.usefixtures("at_page", "lightly")
def test_blocks_of_documents(
    name: str, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    def run(line: str, code: int, shown: bool) -> str:
        _cheaply(line, request.config, code)
        return ""

    _walk(name, run, lambda: "".join(capfd.readouterr()))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(IN_EARNEST))
@pytest.mark.usefixtures("at_page")
def test_blocks_that_need_all_of_a_run(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    _walk(name, lambda *_: "", lambda: "".join(capfd.readouterr()))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BY_SECTION | {"docs/index.md", "docs/runs.md"}))
@pytest.mark.usefixtures("at_page")
def test_shown_outputs_of_commands(
    name: str, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """A command whose output a page shows runs as it stands, in a process of its own."""

    def run(line: str, code: int, shown: bool) -> str:
        if not shown:
            _cheaply(line, request.config, code)
            return ""
        done = subprocess.run(line, shell=True, capture_output=True, text=True)
        assert done.returncode == code, f"{line}\n{done.stderr}"
        return done.stdout + done.stderr

    _walk(name, run, lambda: "".join(capfd.readouterr()))


def test_everything_public_is_in_the_reference() -> None:
    pages = [path.read_text(encoding="utf-8") for path in ROOT.glob("docs/reference/*.md")]
    named = set(re.findall(r"^::: (\S+)$", "\n".join(pages), re.MULTILINE))
    packages = ("nn", "gradients", "lab", "diagnostics")
    for package in ("bptt_lab", *(f"bptt_lab.{name}" for name in packages)):
        there = importlib.import_module(package)
        for name in {*there.__all__} - {"__version__"}:
            home = getattr(there, name).__module__  # whose page may show it whole
            places = {f"{package}.*", f"{package}.{name}", f"{package}.{name}.{name}", home}
            assert named & places, f"{package}.{name} is in no page of docs/reference"
    for path in (ROOT / "conf" / "dataset").glob("*.yaml"):
        (target,) = re.findall(r"^_target_: (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert target in named, f"{target} is in no page of docs/reference"
