"""docs/extending.md as its reader goes through it: the files written, installed, and at work."""

from __future__ import annotations

import copy
import csv
import os
import re
import shlex
import shutil
import statistics
from pathlib import Path
from typing import Any

import pages
import pytest
import torch
from commands import Forked

from bptt_lab import VanillaRNN, runs
from bptt_lab.commands.train import cli
from bptt_lab.diagnostics.conformance.claims import check_unbiased
from bptt_lab.diagnostics.conformance.contract import NETS, ON_NETS, outcome, verify
from bptt_lab.diagnostics.conformance.passes import check_gradient
from bptt_lab.gradients import base
from bptt_lab.training.callbacks.probe import Moment

ALLOW = "allow=[mypkg]"
PAGE = (pages.DOCS / "extending.md").read_text(encoding="utf-8")
LINES = [
    line
    for block in pages.blocks(PAGE)
    if block.language == "sh"
    for line in block.text.replace("\\\n   ", "").splitlines()
]
MAINS = {
    "bptt-train": "bptt_lab.commands.train.cli:main",
    "bptt-explain": "bptt_lab.commands.explain.cli:main",
    "bptt-compare": "bptt_lab.commands.compare.cli:main",
    "pytest": "commands:suite",
}
# What makes a command of the page last no minutes.
SHORT = {
    "bptt-train": ("dataset.train_size=64", "trainer.max_epochs=2", "model.hidden_size=8"),
    "bptt-compare": ("dataset.batch_size=2", "--strategies", "damped"),
}

pytestmark = pytest.mark.usefixtures("no_package_left")


class Reader:
    """Someone who has copied the page's files into a folder and types its commands there."""

    def __init__(self, folder, installed):
        self.folder = pages.write("extending.md", folder)
        self.path = pages.install(folder, installed)

    def types(self, line: str, *more: str) -> str:
        """Run a line of the page, and return what it says."""
        assert line in LINES or f"`{line}`" in PAGE, f"the page has no {line}"
        program, *words = shlex.split(line)
        given = {word.partition("=")[0] for word in more}
        words = [word for word in words if word.partition("=")[0] not in given]
        command = Forked(MAINS[program], (*words, *more), self.folder, {"PYTHONPATH": self.path})
        out, err = command.communicate()
        assert command.returncode == 0, f"{line}\n{out}\n{err}"
        return out

    def latest(self):
        """The folder of the latest run or sweep."""
        return max((self.folder / "outputs").iterdir(), key=lambda folder: folder.stat().st_mtime)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return Reader(tmp_path_factory.mktemp("my-package"), tmp_path_factory.mktemp("installed"))


def line(*having: str) -> str:
    """The page's one line of commands that has all of these."""
    (found,) = [line for line in LINES if all(part in line for part in having)]
    return found


def test_the_page_leads_to_a_run_of_strategy_task_and_instrument(reader):
    reader.types("pytest tests", "-q", "-p", "no:cacheprovider")
    reader.types(line("+callbacks.weight_change"), *SHORT["bptt-train"], "callbacks=none")
    lines = runs.read_metrics(reader.latest())
    moved = [metrics["weight_change/l0"] for metrics in lines if "weight_change/l0" in metrics]
    assert len(moved) == 1  # the first of two measurements has nothing to compare with
    assert 0 < moved[0] < 1


@pytest.mark.slow
@pytest.mark.parametrize("text", [line for line in LINES if line.split()[0] in MAINS])
def test_every_command_of_the_page(reader, text):
    program = text.split()[0]
    out = reader.types(text, *SHORT.get(program, ()))
    if program == "bptt-explain":
        assert "0.64  lag 2" in out  # of a term that counts in part
    if "conformance" in text:
        block = next(b.text for b in pages.blocks(PAGE) if " passed, " in b.text)
        assert all(line in out for line in block.splitlines()), out


@pytest.mark.slow
def test_the_table_of_the_sweep(reader):
    """Means to within what other machines' rounding makes of eight seeds."""
    reader.types(line("-m", "seed=range(8)"))
    jobs = runs.read_sweep(reader.latest())
    cells = re.findall(r"^\| `(\w+)`(?:, gamma ([\d.]+))? \| ([\d.]+) ± [\d.]+ \|$", PAGE, re.M)
    assert len(cells) == 4
    for name, gamma, mean in cells:
        settings = {"gradient": name, **({"gradient.gamma": gamma} if gamma else {})}
        wanted = {f"{key}={value}" for key, value in settings.items()}
        found = [job.metrics["test/accuracy"] for job in jobs if wanted <= {*job.overrides}]
        assert len(found) == 8
        assert statistics.mean(found) == pytest.approx(float(mean), abs=0.05)


def made(name: str) -> dict[str, Any]:
    """What a Python file of the page defines, without a module that stays behind."""
    names = {"__name__": "of_the_page"}
    exec(pages.files("extending.md")[name], names)
    return names


def test_the_instrument_goes_on_where_it_was():
    kind = made("mypkg/instruments.py")["WeightChange"]
    whole, begun, continued = (kind(every_n_steps=1) for _ in range(3))
    rnn = VanillaRNN(1, 3)
    moment = Moment(rnn, torch.zeros(2, 1, 1), torch.sum, 1)
    assert whole.read(moment).scalars == begun.read(moment).scalars == {}
    with torch.no_grad():
        rnn.weight_hh_l0.mul_(1.5)
    continued.load_state_dict(copy.deepcopy(begun.state_dict()))
    expected = {"weight_change/l0": pytest.approx(0.5)}
    assert whole.read(moment).scalars == continued.read(moment).scalars == expected


WRONG = {
    "TooMuch": (check_unbiased, "    unbiased = True\n"),
    "Late": (
        check_gradient,
        "    def mask(self, num_steps):\n        return self.gamma * super().mask(num_steps)\n",
    ),
}


@pytest.mark.slow
def test_what_conformance_says_of_wrong_ones():
    names = made("mypkg/rules.py")
    for name, (check, body) in WRONG.items():
        exec(f"class {name}(Damped):\n{body}", names)
        nets = NETS[:1] if check in ON_NETS else [None]
        said = str(outcome(check, names[name](), *nets)).removeprefix("failed ")
        said = re.sub(r"^(\w+) on", r"\1 on", said.replace(name, "Damped"))
        assert said in " ".join(PAGE.split()), said


@pytest.mark.slow
def test_what_conformance_cannot_check_without_a_mask():
    names = made("mypkg/rules.py")
    exec("class Bare(Damped):\n    mask = GradientStrategy.mask\n", names | vars(base), names)
    said = [each.reason for each in verify(names["Bare"]()) if each.status == "skipped"]
    unchecked = sum("is neither exact nor has a fixed mask" in reason for reason in said)
    assert f"{unchecked} checks are skipped" in " ".join(PAGE.split())


MISTAKES = [
    ["gradient=damped"],
    ["gradient=damped", "gradient.gamma=1", ALLOW],
    ["dataset=delayed_xor", "dataset.delay=30", ALLOW],
    ["gradient=damped", "gradient.gama=0.5", ALLOW],
]


def refusals() -> str:
    """The page's messages, one a line."""
    texts = [b.text for b in pages.blocks(PAGE) if b.text.startswith("bptt-train: ")]
    return "".join(texts).replace("\n", " ").replace(" bptt-train: ", "\nbptt-train: ").strip()


@pytest.mark.parametrize("arguments", MISTAKES, ids=lambda words: words[-1])
def test_messages_of_the_page(reader, monkeypatch, capsys, arguments):
    for place in reversed(reader.path.split(os.pathsep)):
        monkeypatch.syspath_prepend(place)
    monkeypatch.chdir(reader.folder)
    assert cli.main([*arguments, "dry_run=true"]) == 2
    assert capsys.readouterr().err.strip() in refusals().splitlines()


@pytest.mark.parametrize(
    ("old", "new"), [("def factors", "def factor"), ("class Damped", "class Damp")]
)
def test_messages_about_a_class(reader, tmp_path, monkeypatch, capsys, old, new):
    pages.write("extending.md", tmp_path)
    rules = tmp_path / "mypkg" / "rules.py"
    rules.write_text(rules.read_text().replace(old, new))
    site = Path(reader.path.split(os.pathsep)[0])
    shutil.copytree(next(site.glob("*.dist-info")), tmp_path / "mypkg-1.0.dist-info")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["gradient=damped", ALLOW, "dry_run=true"]) == 2
    assert capsys.readouterr().err.strip() in refusals().splitlines()


@pytest.mark.slow
def test_its_strategy_takes_part_in_the_league_by_name(reader):
    """A small sweep of the league with the package's rule, then the table and the page."""
    small = ("model.hidden_size=4", "dataset.stream_length=60", "dataset.reset_every=20")
    small += ("trainer.log_every_n_steps=5", "dataset.series=henon", "seed=range(2)")
    environment = {"PYTHONPATH": reader.path}

    def said(main: str, *words: str) -> str:
        command = Forked(main, words, reader.folder, environment)
        out, err = command.communicate()
        assert command.returncode == 0, f"{out}\n{err}"
        return out

    said(MAINS["bptt-train"], "experiment=league", "gradient=damped,snap1", ALLOW, *small)
    sweep = reader.latest()
    assert [job.status for job in runs.read_sweep(sweep)] == ["completed"] * 4
    out = said("bptt_lab.commands.league.cli:main", str(sweep), "--allow", "mypkg")
    (row,) = (line.split() for line in out.splitlines() if line.startswith("damped"))
    (other,) = (line.split() for line in out.splitlines() if line.startswith("snap1"))
    assert len(row) == len(other) and "-" not in row, out  # it has been timed, too
    with (sweep / "league.csv").open(newline="") as file:
        found = [line["rule"] for line in csv.DictReader(file)]
    assert sorted(found) == ["damped", "damped", "snap1", "snap1"]
    assert "damped" in (sweep / "league.html").read_text()
