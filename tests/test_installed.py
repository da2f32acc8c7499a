"""Installed packages bring strategies and tasks by entry points, and nothing of them runs unasked.

The package of docs/extending.md is installed by pip, as the page says, without a network.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

import pages
import pytest
from commands import Forked
from runs import QUICK, state_dict
from torch import equal

from bptt_lab import runs
from bptt_lab.commands.compare import request
from bptt_lab.commands.train import cli
from bptt_lab.config import installed
from bptt_lab.config.strategies import from_name, packaged
from bptt_lab.core.validation import ConfigError

ALLOW = "allow=[mypkg]"
MARK = """
import os
from pathlib import Path

if "MYPKG_IMPORTED" in os.environ:
    Path(os.environ["MYPKG_IMPORTED"]).touch()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """What is on the path once the page's package is installed, which tells when it is imported."""
    source = pages.write("extending.md", tmp_path_factory.mktemp("mypkg"))
    with (source / "mypkg" / "__init__.py").open("a") as file:
        file.write(MARK)
    return pages.install(source, tmp_path_factory.mktemp("installed"))


@pytest.fixture
def here(site, tmp_path, monkeypatch):
    """The package on the path, a folder of one's own, and the file that an import leaves."""
    imported = tmp_path / "imported"
    monkeypatch.setenv("MYPKG_IMPORTED", str(imported))
    for place in reversed(site.split(os.pathsep)):
        monkeypatch.syspath_prepend(place)
    monkeypatch.chdir(tmp_path)
    yield imported
    assert not [name for name in sys.modules if name.partition(".")[0] == "mypkg"]


@pytest.fixture
def bring(tmp_path, monkeypatch):
    """Install a package by hand, from its entry points and modules."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, entries: str, **modules: str) -> None:
        folder = tmp_path / f"{name}_site"
        record = folder / f"{name}-1.0.dist-info"
        record.mkdir(parents=True)
        (folder / name).mkdir()
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (record / "entry_points.txt").write_text(entries)
        for module, text in modules.items():
            (folder / name / f"{module}.py").write_text(text)
        monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()

    return write


def train(tmp_path, site, *arguments):
    main = "bptt_lab.commands.train.cli:main"
    command = Forked(main, (*arguments, ALLOW), tmp_path, {"PYTHONPATH": site})
    out, err = command.communicate()
    assert command.returncode == 0, err
    return out


def refused(capsys, *arguments):
    """The line that refuses a command line."""
    capsys.readouterr()
    assert cli.main([*arguments, "dry_run=true"]) == 2
    err = capsys.readouterr().err.removeprefix("bptt-train: ")
    assert err.count("\n") == 1
    return err.strip()


def test_a_run_of_them_has_the_bits_of_our_own_strategy(site, tmp_path):
    """Where a chunk is one step there is nothing to damp."""
    for gradient in ("damped", "full"):
        chosen = ("dataset=delayed_xor", "dataset.chunk_length=1", f"gradient={gradient}")
        small = ("dataset.num_steps=3", "dataset.delay=1", "dataset.train_size=64", "seed=7")
        train(tmp_path, site, *QUICK, *chosen, *small, f"hydra.run.dir=outputs/{gradient}")
    mine, ours = (tmp_path / "outputs" / gradient for gradient in ("damped", "full"))
    expected = state_dict(ours)
    assert all(equal(value, expected[key]) for key, value in state_dict(mine).items())
    config = json.loads((mine / runs.MANIFEST).read_text())["config"]
    assert config["gradient"] == {"_target_": "mypkg.rules.Damped", "gamma": 0.8}
    sizes = {"num_steps": 3, "delay": 1, "train_size": 64, "val_size": 256, "test_size": 1024}
    usual = {"batch_size": 32, "chunk_length": 1, "seed": 7}
    assert config["dataset"] == {"_target_": "mypkg.tasks.DelayedXor", **sizes, **usual}
    assert "is completed already" in train(tmp_path, site, "resume=outputs/damped")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["fleet", "process"])
def test_a_sweep_of_them_in_processes_and_fleets(site, tmp_path, launcher):
    sweep = ("-m", *QUICK, "dataset=delayed_xor", "gradient=full,damped", "seed=0,1")
    folder = f"outputs/{launcher}"
    out = train(tmp_path, site, *sweep, f"hydra/launcher={launcher}", f"hydra.sweep.dir={folder}")
    assert "4 of 4 jobs completed" in out
    again = train(tmp_path, site, *sweep, f"hydra/launcher={launcher}", f"resume={folder}")
    assert "4 of 4 jobs are completed already" in again


@pytest.mark.slow
def test_a_shadow_by_name(site, tmp_path):
    shadow = ("callbacks=default", "callbacks.shadow=[damped]", "callbacks.every_n_steps=1")
    quick = [line for line in QUICK if line != "callbacks=none"]
    train(tmp_path, site, *quick, *shadow, "dataset=delayed_xor", "hydra.run.dir=outputs/run")
    metrics = runs.read_metrics(tmp_path / "outputs" / "run")
    assert any("alignment/cosine_damped" in line for line in metrics)


@pytest.mark.parametrize("option", ["gradient=damped", "dataset=delayed_xor"])
def test_without_leave_a_line_says_which_one_it_takes(here, capsys, option):
    assert "add allow=[mypkg] to the command line" in refused(capsys, option)
    assert cli.main([option, ALLOW, "dry_run=true"]) == 0
    assert not here.exists()


def test_limits_are_the_annotations(here, capsys):
    line = refused(capsys, "gradient=damped", "gradient.gamma=1", ALLOW)
    assert line == "gradient.gamma=1: must be less than 1; leave it out for 0.8"
    assert "gradient.k=1: there is no such" in refused(capsys, "gradient=damped", "gradient.k=1")


def test_help_lists_them_without_an_import(here, capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    shrinks = "Biased: credit shrinks by the factor gamma with each step back in time."
    assert f"damped              {shrinks} (allow=[mypkg])" in out
    assert "    gradient.gamma=0.8  number, greater than 0, less than 1" in out
    assert "    dataset.num_steps=20       integer, at least 2" in out
    assert not here.exists()


def test_a_glob_stands_for_those_of_allowed_packages(here, capsys):
    sweep = ("-m", "gradient=glob([d*,full])", "dry_run=true")
    assert cli.main([*sweep]) == 0
    assert "gradient=damped" not in capsys.readouterr().out
    assert cli.main([*sweep, ALLOW]) == 0
    assert "gradient=damped" in capsys.readouterr().out
    assert not here.exists()


def test_a_strategy_is_made_by_its_name(here):
    with pytest.raises(ConfigError, match=r"add allow=\[mypkg\]"):
        from_name("--gradient", "damped", {}, packaged())
    found = from_name("--gradient", "damped", {"gamma": 0.5}, packaged(), allow=["mypkg"])
    assert found.section() == {"_target_": "mypkg.rules.Damped", "gamma": 0.5}
    assert not here.exists()


@pytest.mark.slow
def test_other_commands_know_them_by_name(here):
    chosen = ["dataset=delayed_xor", "gradient=damped", "gradient.gamma=0.5", ALLOW]
    asked = request.read(chosen, None, None)
    (option,) = (option for option in asked.options if option.name == "damped")
    assert option.component.settings["gamma"] == 0.5
    asked = request.read(["dataset=adding"], None, None)
    assert "damped" not in [*(option.name for option in asked.options), *asked.refused]
    (why,) = request.read(["dataset=adding"], None, ["damped"]).refused.values()
    assert "add allow=[mypkg]" in why
    assert not here.exists()


def test_a_folder_of_the_users_comes_before_a_package(here, tmp_path, capsys):
    (tmp_path / "conf" / "gradient").mkdir(parents=True)
    option = tmp_path / "conf" / "gradient" / "damped.yaml"
    option.write_text("_target_: bptt_lab.gradients.truncated.Truncated\nk: 9\n")
    for folder in (["--config-dir", "conf"], ["hydra.searchpath=[conf]"]):
        assert cli.main([*folder, "gradient=damped", "--cfg", "job", "--package", "gradient"]) == 0
        assert "k: 9" in capsys.readouterr().out


def test_nothing_replaces_one_of_ours(bring, tmp_path, capsys):
    bring("cuckoo", "[bptt_lab.gradients]\nfull = cuckoo.a:Full\n", a="class Full: ...\n")
    assert cli.main(["gradient=full", "dry_run=true"]) == 0
    line = refused(capsys, "gradient=full", "allow=[cuckoo]")
    assert line.startswith("gradient=full: a package that you allow has the name of one of ours;")
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    (tmp_path / "conf" / "dataset" / "adding.yaml").write_text("_target_: a.B\n")
    for folder in (["--config-dir", "conf"], ["hydra.searchpath=[conf]"]):
        line = refused(capsys, *folder, "dataset=adding")
        assert "conf/dataset/adding.yaml has the name of one of ours; give it another" in line
        assert cli.main([*folder, "dry_run=true"]) == 0


BROKEN = {
    "nowhere = evil.nowhere:Mine": "there is no module 'evil.nowhere'",
    "nopackage = nothing.here:Mine": "there is no module 'nothing.here'",
    "function = evil.code:helper": "module 'evil.code' has no class 'helper'",
    "attribute = evil.code:Plain.inner": "there is no module 'evil.code.Plain'",
    "plain = evil.code:Plain": "must be a GradientStrategy",
    "whole = evil": "must name a class",
    "empty =": "must name a class",
    "hidden = evil.code:_Half [extra]": "is an interface, without states",
    "syntax = evil.bad:Mine": "is not Python",
    "deep = evil.deep:Mine": "is not Python",
    "chain = evil.chain:Mine": "maximum recursion depth",
    "binary = evil.binary:Mine": "is not Python",
    "system = os:system": "there is no module 'os'",
    "linear = torch.nn:Linear": "must be a GradientStrategy",
}
CODE = """
from bptt_lab.gradients.base import GradientStrategy
def helper(): ...
class Plain: ...
class _Half(GradientStrategy): ...
"""


def test_a_broken_one_is_refused_in_a_line_and_harms_no_other(bring, capsys):
    entries = "\n".join(
        ["[bptt_lab.gradients]", *BROKEN, "../x = evil.code:A", "a b = evil.code:A"]
    )
    deep = "x = " + "-" * 100_000 + "1\n"
    chain = "from bptt_lab.gradients.full import Full\nclass Mine(Full):\n"
    chain += f" @property\n def cost(self): return self{'.a' * 2000}\n"
    bad = "class Mine(:\n"
    bring("evil", entries, code=CODE, bad=bad, deep=deep, binary="\0", chain=chain)
    for allow in ([], ["allow=[evil]"]):
        assert cli.main(["dry_run=true", *allow]) == 0
        for entry, why in BROKEN.items():
            line = refused(capsys, f"gradient={entry.split()[0]}", *allow)
            assert line.startswith(f"gradient={entry.split()[0]}: is "), line
            assert why in line, line
        for name in ("../x", "a b", "'../x'"):
            assert "gradient=" in refused(capsys, f"gradient={name}", *allow)
        assert "there is no such setting" in refused(capsys, "gradient.kk=3", *allow)
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert out.count("cannot be used: is ") == len(BROKEN)
    assert "../x" not in out and "a b " not in out


def test_a_damaged_package_hides_no_other(bring, here, capsys, tmp_path):
    bring("torn", "[bptt_lab.gradients]\nno equals sign\n")
    bring("bytes", "")
    record = tmp_path / "bytes_site" / "bytes-1.0.dist-info"
    (record / "entry_points.txt").write_bytes(b"[bptt_lab.gradients]\n\xff = a:B\n")
    (record / "METADATA").unlink()
    assert cli.main(["gradient=damped", ALLOW, "dry_run=true"]) == 0


def test_two_packages_with_one_name_are_at_odds(bring, capsys):
    for name in ("one", "two"):
        bring(name, f"[bptt_lab.gradients]\nsame = {name}.a:B\n")
    line = refused(capsys, "gradient=same", "allow=[one]")
    assert "is brought more than once, as two.a.B, one.a.B; uninstall all but one" in line


def test_a_package_that_comes_later_is_seen(bring, tmp_path):
    pytest.importorskip("importlib_metadata")  # as MLflow does; it takes metadata's place
    source = installed.Installed()
    bring("early", "[bptt_lab.gradients]\nearly = early.a:B\n")
    assert {"early", "late"} & {*source.names("gradient")} == {"early"}
    record = tmp_path / "early_site" / "late-1.0.dist-info"
    record.mkdir()
    (record / "entry_points.txt").write_text("[bptt_lab.gradients]\nlate = late.a:B\n")
    os.utime(record.parent, (1, 1))  # the clock of files may not have moved on
    assert {"early", "late"} <= {*source.names("gradient")}


def test_defaults_are_those_that_a_configuration_can_say(bring):
    text = """
from bptt_lab.gradients.full import Full
SIZE = 3
class Odd(Full):
    def __init__(self, *, given, size: int = SIZE, none=None, pair=(1, [2.5]), flag=True,
                 seed: int = 0, later=float("nan"), odd={1}, unhashable={[]: 1}, defaults=("a",),
                 inserted="${oc.env:HOME}", marked={"a": "???"}, of=Full()): ...
"""
    bring("odd", "[bptt_lab.gradients]\nodd = odd.a:Odd\n", a=text)
    loaded = installed.Installed().load_config("gradient/odd").config
    expected = {"given": "???", "size": 3, "none": None, "pair": [1, [2.5]], "flag": True}
    expected |= {"seed": "${seed}", "_target_": "odd.a.Odd"}
    assert dict(loaded._content) == expected
