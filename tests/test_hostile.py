"""What a hostile command line, file or run folder asks for is refused: nothing runs, nothing stays.

Each one would, if it were followed, create the file `canary` or write outside of outputs/.
"""

import hashlib
import json
import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from sampling import every

from bptt_lab.commands.train import cli
from bptt_lab.config import security
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs.outcome import CheckpointError
from bptt_lab.training import checkpoint_io
from bptt_lab.training import job as jobs

SYSTEM = "_target_: os.system\n  command: touch CANARY\n"
POPEN = "_target_: subprocess.Popen\n  args: [touch, CANARY]\n"
WRITE = "_target_: pathlib.Path.write_text\n  self: CANARY\n  data: x\n"
GLOBAL = "# @package _global_\n"


@pytest.fixture(autouse=True)
def started(tmp_path, monkeypatch):
    """Start in a folder inside of the one that is watched; no job trains."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    seen = []

    def record(cfg):
        seen.append(HydraConfig.get().runtime.output_dir)
        return 0

    monkeypatch.setattr(jobs, "run", record)
    return seen


def listing(folder):
    return sorted(
        (str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")
    )


def bptt_train(*arguments):
    before, sys.argv = sys.argv, ["bptt-train", *arguments]
    try:
        return cli.main()
    except SystemExit as stop:
        return stop.code
    finally:
        sys.argv = before


@pytest.fixture
def refuses(tmp_path, started, capfd):
    """Hold that a command line is refused on one line, and leaves no trace."""

    def check(*arguments, part=""):
        before, modules = listing(tmp_path), set(sys.modules)
        assert bptt_train(*arguments) == 2
        out, err = capfd.readouterr()
        assert out == ""
        assert err.startswith("bptt-train: ") and err.count("\n") == 1 and len(err) < 1200
        assert "Traceback" not in err and err.strip().isprintable()
        assert "NameError" not in err and "AttributeError" not in err  # a fault of ours
        assert part in err
        assert not started
        assert listing(tmp_path) == before
        assert not {name for name in set(sys.modules) - modules if name.startswith("evil")}

    return check


EVIL = "gradient._target_=evil.Evil"
EVIL_MODULE = """
import os, pathlib
from collections import OrderedDict as Imported
pathlib.Path({canary!r}).touch()
from bptt_lab.gradients.full import Full
class Evil(Full): ...
class NoStrategy: ...
def function(): ...
"""

# Each is one command line; CANARY stands for the file that must not come to be.
LINES = [
    # what _target_ may name
    "gradient._target_=os.system",
    "gradient._target_=os.system +gradient.command='touch CANARY'",
    "gradient._target_=subprocess.Popen +gradient.args=[touch,CANARY]",
    "gradient._target_=builtins.exec",
    "gradient._target_=builtins.eval",
    "gradient._target_=torch.load +gradient.f=CANARY",
    "gradient._target_=torch.save +gradient.f=CANARY",
    "gradient._target_=pathlib.Path.write_text",
    "gradient._target_=shutil.rmtree",
    "gradient._target_=importlib.import_module",
    "gradient._target_=torch.optim.os.system",
    "gradient._target_=bptt_lab.training.train.os.system",
    "gradient._target_=bptt_lab.training.manifest.subprocess.run",
    "gradient._target_=bptt_lab.tasks.text.Path",
    "gradient._target_=torch.nn.modules.module.torch.load",
    "gradient._target_=bptt_lab_evil.Evil",
    "gradient._target_=torch.optimizers.Evil",
    "gradient._target_=lightning.pytorch.loggers.CSVLogger",
    "gradient._target_=torch.nn.Linear",
    "gradient._target_=__main__.Evil",
    "gradient._target_=hydra.utils.call",
    "gradient._target_=../../evil",
    "dataset._target_=bptt_lab.training.metrics_log.MetricsLog +dataset.path=CANARY",
    "dataset._target_=bptt_lab.training.train.Experiment",
    "optimizer._target_=os.system",
    "optimizer.betas={_target_:os.system,command:'touch CANARY'}",
    "optimizer.betas=[0.9,{_target_:os.system}]",
    "+optimizer.foreach={_target_:os.system,command:'touch CANARY'}",
    "+trainer._target_=os.system",
    "+_target_=os.system",
    "+gradient._args_=[touch]",
    "+gradient._convert_=all",
    "+gradient._recursive_=false",
    "-m gradient._target_=os.system,bptt_lab.gradients.full.Full",
    # what a user may allow
    EVIL,
    f"{EVIL} allow=[os]",
    f"{EVIL} allow=[evi]",
    f"{EVIL} +allow.0=evil",
    "gradient._target_=torch.load allow=[torch]",
    "gradient._target_=os.system allow=os",
    "gradient._target_=evil.os.system allow=[evil]",
    "gradient._target_=evil.Imported allow=[evil]",
    "gradient._target_=evil.function allow=[evil]",
    "gradient._target_=evil.NoStrategy allow=[evil]",
    # what Hydra would instantiate, call or set
    "+hydra.callbacks.x._target_=os.system",
    "+hydra.callbacks.x={_target_:subprocess.Popen,args:[touch,CANARY]}",
    "hydra.launcher._target_=os.system",
    "hydra.launcher._target_=evil.Launcher",
    "-m hydra.sweeper._target_=evil.Sweeper seed=1,2",
    "-m hydra.sweeper._target_=subprocess.Popen seed=1,2",
    "+hydra.launcher.x={_target_:os.system}",
    "hydra.sweeper.params={seed:{_target_:os.system}}",
    "+hydra.job_logging.handlers.x={'()':os.system,command:'touch CANARY'}",
    "hydra.job_logging.handlers.file.class=evil.Handler",
    "hydra.job_logging.handlers.file.filename=CANARY",
    "hydra.job_logging.handlers.file.filename=${hydra.runtime.output_dir}/../../../CANARY",
    "hydra.job_logging.handlers.console.stream=ext://evil.stream",
    "+hydra.job_logging.formatters.simple.class=evil.Formatter",
    "hydra/hydra_logging=hydra_debug",
    "+hydra.job.env_set.LD_PRELOAD=/tmp/evil.so",
    "+hydra.job.env_set.PYTHONPATH=/tmp",
    "hydra.searchpath=[pkg://evil]",
    # where files would go
    "hydra.run.dir=../out",
    "hydra.run.dir=outputs/../../out",
    "hydra.run.dir=outputs/..",
    "hydra.run.dir=/tmp/../tmp/out",
    "hydra.run.dir=out",
    "hydra.run.dir=~/out",
    "hydra.run.dir=outputs/${oc.env:UP}/out",
    "hydra.run.dir=link/out",
    "-m hydra.sweep.dir=../out seed=1,2",
    "-m hydra.sweep.dir=out seed=1,2",
    "-m hydra.sweep.dir=outputs/${dataset._target_} seed=1,2",
    "-m hydra.sweep.subdir=../../${hydra.job.num} seed=1,2",
    "-m hydra.sweep.subdir=/tmp/${hydra.job.num} seed=1,2",
    "-m hydra.sweep.subdir=${hydra.job.override_dirname} seed=1,2",
    "-m hydra.sweep.subdir=${hydra.job.num}/${oc.select:dataset.path} dataset=text seed=1,2",
    "hydra.output_subdir=../../out",
    "hydra.output_subdir=/tmp/out",
    "hydra.output_subdir=${oc.env:UP}",
    "hydra.job.name=../../out",
    "hydra.job.name=/tmp/out",
    # names of options and files
    "gradient=../../evil",
    "dataset=/etc/passwd",
    "+experiment=../../evil",
    "experiment=../../../etc/passwd",
    "-m gradient=full,../../evil",
    "gradient/../dataset=digits",
    "--config-name=../../evil",
    "--config-path=pkg://evil",
    "--config-dir=/etc/passwd",
    # text that a terminal or a file system would trip over
    "seed=\x1b[2J",
    "seed=\u202e1",
    "seed='\x00'",
    "hydra.run.dir='outputs/\x1b[2J'",
    "hydra.run.dir='outputs/\x00'",
    "hydra.run.dir=outputs/" + "a" * 300,
    "hydra.run.dir=outputs" + "/a" * 3000,
    "model.init=" + "a" * 100_000,
    "s" * 100_000 + "=1",
    "dataset.x=" + "[" * 3000 + "]" * 3000,
]


@pytest.mark.parametrize(
    "line", every(2, LINES), ids=lambda line: line[:60].encode("unicode_escape").decode()
)
def test_a_hostile_command_line_is_refused(line, refuses, tmp_path, monkeypatch):
    monkeypatch.setenv("UP", "../..")
    canary = tmp_path / "canary"
    text = EVIL_MODULE.format(canary=str(canary))
    Path("evil.py").write_text(text)
    Path("bptt_lab_evil.py").write_text(text)
    Path("evil.yaml").write_text("_target_: os.system\n")
    Path("link").symlink_to(tmp_path)
    # Split at the blanks between overrides, not at those in quotes.
    words = [
        word.replace("touch\n", "touch ") for word in line.replace("touch ", "touch\n").split(" ")
    ]
    refuses(*(word.replace("CANARY", str(canary)) for word in words))


# A preset in a folder of options, chosen by `experiment=evil` or by `-m experiment=evil,other`.
PRESETS = {
    "system": f"{GLOBAL}gradient:\n  {SYSTEM}",
    "popen in a setting": f"{GLOBAL}optimizer:\n  betas:\n    {POPEN.replace('  ', '    ')}",
    "write_text": f"{GLOBAL}dataset:\n  {WRITE}",
    "allow": f"{GLOBAL}allow: [evil]\ngradient:\n  _target_: evil.Evil\n",
    "allow in params": GLOBAL
    + "hydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      allow: evil\n",
    "callbacks": f"{GLOBAL}hydra:\n  callbacks:\n    x:\n      {SYSTEM.replace('  ', '      ')}",
    "callback of theirs": f"{GLOBAL}hydra:\n  callbacks:\n    x:\n      _target_: evil.Evil\n",
    "launcher": f"{GLOBAL}hydra:\n  launcher:\n    {SYSTEM.replace('  ', '    ')}",
    "program": f"{GLOBAL}hydra:\n  launcher:\n    setup: [touch CANARY]\n",
    "python": f"{GLOBAL}hydra:\n  launcher:\n    python: touch CANARY\n",
    "logging": GLOBAL
    + "hydra:\n  job_logging:\n    handlers:\n      file:\n        filename: CANARY\n",
    "logging call": GLOBAL
    + "hydra:\n  hydra_logging:\n    formatters:\n      x:\n        (): os.system\n",
    "logging import": f"{GLOBAL}hydra:\n  job_logging:\n    filters:\n      x:\n        a: ext://evil.x\n",
    "environment": f"{GLOBAL}hydra:\n  job:\n    env_set:\n      LD_PRELOAD: /tmp/evil.so\n",
    "run folder": f"{GLOBAL}hydra:\n  run:\n    dir: /tmp/bptt_lab_hostile\n",
    "run folder up": f"{GLOBAL}hydra:\n  run:\n    dir: outputs/../../out\n",
    "sweep folder": f"{GLOBAL}hydra:\n  sweep:\n    dir: /tmp/bptt_lab_hostile\n",
    "subdir": f"{GLOBAL}hydra:\n  sweep:\n    subdir: ../../out/${{hydra.job.num}}\n",
    "output_subdir": f"{GLOBAL}hydra:\n  output_subdir: /tmp/bptt_lab_hostile\n",
    "job name": f"{GLOBAL}hydra:\n  job:\n    name: ../../out\n",
    "overrides": GLOBAL
    + "hydra:\n  overrides:\n    hydra: [hydra.run.dir=/tmp/bptt_lab_hostile]\n",
    "task overrides": f"{GLOBAL}hydra:\n  overrides:\n    task: [allow=evil]\n",
    "searchpath": f"{GLOBAL}hydra:\n  searchpath: [pkg://evil]\n",
    "python tag": f"{GLOBAL}seed: !!python/object/apply:os.system ['touch CANARY']\n",
    "python name": f"{GLOBAL}seed: !!python/name:os.system\n",
    "python module": f"{GLOBAL}seed: !!python/module:evil\n",
    "python new": f"{GLOBAL}seed: !!python/object/new:subprocess.Popen [[touch, CANARY]]\n",
    "null byte": f'{GLOBAL}hydra:\n  run:\n    dir: "outputs/\\0"\n',
    "escape": f'{GLOBAL}"\\e[2J": 3\n',
    "not YAML": "a: [1\nb: }\n",
    "binary": "\x00\x01\x02",
    "nested": f"{GLOBAL}seed: {'[' * 5000}{']' * 5000}\n",
    "laughs": GLOBAL
    + "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
    "circle": f"{GLOBAL}seed: &a [*a]\n",
    "interpolations in a circle": f"{GLOBAL}seed: ${{num_threads}}\nnum_threads: ${{seed}}\n",
    "huge": f"{GLOBAL}model:\n  init: {'x' * 10_000_000}\n",
    "long": f"{GLOBAL}model:\n  init: {'x' * 50_000}\n",
    "huge number": f"{GLOBAL}seed: {'9' * 5000}\n",
    "option of theirs": "defaults:\n  - /gradient: ../../../../evil\n",
}


def options(tmp_path, text):
    folder = tmp_path / "options"
    (folder / "experiment").mkdir(parents=True)
    text = text.replace("CANARY", str(tmp_path / "canary"))
    (folder / "experiment" / "evil.yaml").write_text(text)
    (folder / "experiment" / "good.yaml").write_text(f"{GLOBAL}num_threads: 2\n")
    Path("evil.py").write_text(EVIL_MODULE.format(canary=str(tmp_path / "canary")))
    return f"--config-dir={folder}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset", sorted(set(PRESETS) - {"allow in params"})
)  # of a job nobody reads it
def test_a_hostile_preset_is_refused_in_a_sweep_of_presets(preset, refuses, tmp_path):
    refuses(options(tmp_path, PRESETS[preset]), "-m", "experiment=good,evil")


@pytest.mark.parametrize("preset", every(2, PRESETS))
def test_a_hostile_preset_is_refused(preset, refuses, tmp_path):
    where = options(tmp_path, PRESETS[preset])
    if preset == "callbacks":
        refuses(where, "-m", "experiment=good,evil")
    if preset in ("sweep folder", "subdir", "program", "python"):
        refuses(where, "-m", "experiment=evil", "seed=1,2")
        refuses(where, "-m", "experiment=good,evil")
    else:
        refuses(where, "experiment=evil")


def run_folder(name, manifest, **papers):
    folder = Path("outputs", name)
    folder.mkdir(parents=True)
    for paper, content in {"manifest": manifest, **papers}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{paper}.json").write_text(text)
    return folder


def overrides(*lines):
    return {"overrides": lines, "config": {}}


MANIFESTS = {
    "system": overrides("gradient._target_=os.system"),
    "allow": overrides("allow=[evil]", EVIL),
    "allow in a new key": overrides("+allow.0=evil", EVIL),
    "allow by a blank": overrides(" allow=[evil]", EVIL),
    "folder": overrides("hydra.run.dir=/tmp/bptt_lab_hostile"),
    "folder by a blank": overrides(" hydra.run.dir=/tmp/bptt_lab_hostile"),
    "callbacks": overrides("+hydra.callbacks.x._target_=evil.Evil"),
    "searchpath": overrides("hydra.searchpath=[pkg://evil]"),
    "resume": overrides("resume=/tmp"),
    "option": overrides("gradient=../../evil"),
    "a flag": overrides("--experimental-rerun=bomb.pickle"),
    "another flag": overrides("--config-dir=/tmp"),
    "a third": overrides("-m"),
    "not a list": {"overrides": 5},
    "a text": {"overrides": "gradient=full"},
    "not texts": {"overrides": [1, None, {}]},
    "escapes": overrides("se\x1b[2Jed=1"),
    "a null byte": overrides("seed='\0'"),
    "config": {"overrides": [], "config": 5},
    "not an object": [1],
    "nothing": {},
    "not JSON": "{",
    "nested": "[" * 100_000,
}


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_hostile_run_folder_is_not_continued(manifest, refuses, tmp_path):
    options(tmp_path, "")
    Path("evil.yaml").write_text("_target_: os.system\n")
    folder = run_folder("run", MANIFESTS[manifest], status={"status": "interrupted"})
    refuses(f"resume={folder}")


SWEEPS = {
    "no texts": {"jobs": [{"folder": "000", "overrides": 5}]},
    "no folder": {"jobs": [{"folder": 5, "overrides": []}]},
    "no jobs": {"jobs": 5},
    "another": {"jobs": [{"folder": "../../out", "overrides": ["seed=3"]}]},
    "one too many": {"jobs": [{"folder": "000", "overrides": ["seed=1"]}, {}]},
}


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_hostile_sweep_folder_is_not_continued(sweep, refuses):
    folder = run_folder("sweep", {}, sweep=SWEEPS[sweep])
    refuses("-m", f"resume={folder}", "seed=1")


class Bomb:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("inside", [False, True], ids=["all", "inside"])
@pytest.mark.parametrize("form", ["pickle", "torch", "legacy"])
@pytest.mark.parametrize("how", ["system", "eval", "write", "run"])
def test_a_hostile_checkpoint_is_not_unpickled(how, form, inside, tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "inner.py").write_text(f"open({str(canary)!r}, 'w')")
    content = {
        "system": Bomb(os.system, (f"touch {canary}",)),
        "eval": Bomb(eval, (f"open({str(canary)!r}, 'w')",)),
        "write": Bomb(Path.write_text, (canary, "x")),
        "run": Bomb(runpy.run_path, (str(tmp_path / "inner.py"),)),
    }[how]
    content = {"state_dict": {"weight": torch.zeros(2), "more": [content]}} if inside else content
    path = tmp_path / "checkpoints" / "last.ckpt"
    path.parent.mkdir()
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    # Who writes the file can write its checksum too.
    checkpoint_io._remember(path.parent, hashlib.sha256(path.read_bytes()).hexdigest(), {})
    with pytest.raises(CheckpointError, match="is no checkpoint of plain tensors"):
        checkpoint_io.read(path)
    assert checkpoint_io.to_continue(tmp_path) == []
    assert not canary.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("gradient._target_=os.system", "+gradient.command=touch canary"),
        ("+hydra.callbacks.x={_target_:subprocess.Popen,args:[touch,canary]}",),
        ("--config-dir=../options", "experiment=evil"),
        ("--config-dir=../options", "-m", "experiment=good,evil"),
        ("--experimental-rerun=bomb.pickle",),
    ],
)
def test_the_command_itself_refuses(arguments, tmp_path):
    options(tmp_path, PRESETS["callbacks"])
    Path("bomb.pickle").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    before = listing(tmp_path)
    command = [sys.executable, "-m", "bptt_lab.commands.train.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("bptt-train: ") and done.stderr.count("\n") == 1
    assert listing(tmp_path) == before


def test_a_hostile_primary_file_is_refused(refuses, tmp_path):
    where = options(tmp_path, "")
    primary = tmp_path / "options" / "mine.yaml"
    for text, part in (
        ("hydra:\n  searchpath: [pkg://evil]\n", "would import that package"),
        ("hydra:\n  run:\n    dir: /tmp/bptt_lab_hostile\n", "must be in outputs/"),
        ("allow: [evil]\n", "only the command line may allow packages"),
    ):
        primary.write_text(f"defaults:\n  - config\n  - _self_\n{text}")
        refuses(where, "--config-name=mine", part=part)


def test_a_link_in_outputs_leads_nowhere(refuses, tmp_path, started):
    (tmp_path / "elsewhere").mkdir()
    Path("outputs").mkdir()
    Path("outputs/link").symlink_to(tmp_path / "elsewhere")
    refuses("hydra.run.dir=outputs/link/run", part="must be in outputs/")


def test_outputs_may_itself_be_a_link(tmp_path, started):
    (tmp_path / "scratch").mkdir()
    Path("outputs").symlink_to(tmp_path / "scratch")
    assert bptt_train("hydra.run.dir=outputs/mine", "hydra/job_logging=disabled") == 0
    assert started == [str(tmp_path / "here" / "outputs" / "mine")]
    assert (tmp_path / "scratch" / "mine").is_dir()


def test_what_is_typed_as_an_absolute_path_is_meant(tmp_path, started):
    assert bptt_train(f"hydra.run.dir={tmp_path}/mine", "hydra/job_logging=disabled") == 0
    assert started == [f"{tmp_path}/mine"]


def test_a_preset_may_do_what_presets_are_for(tmp_path, started):
    text = f"{GLOBAL}seed: 3\nhydra:\n  run:\n    dir: outputs/mine\n  output_subdir: null\n"
    assert bptt_train(options(tmp_path, text), "experiment=evil", "hydra/job_logging=disabled") == 0
    assert started == [str(tmp_path / "here" / "outputs" / "mine")]


@pytest.mark.parametrize(
    ("text", "fits"),
    [("a: &a 1\nb: *a\n", True), ("a: &a [*a]\n", False), (f"a: '{'x' * 65536}'\n", False)],
)
def test_files_are_measured(text, fits, tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    if fits:
        security.check_file(str(path))
    else:
        with pytest.raises(ConfigError, match=r"file\.yaml: "):
            security.check_file(str(path))
