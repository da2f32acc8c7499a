"""The command line: what cannot work is one line and exit code 2; what can work, works."""

import json
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig

from bptt_lab.commands.train import cli
from bptt_lab.commands.train.plan import make_plan
from bptt_lab.config import arguments, output_paths
from bptt_lab.runs import sweep
from bptt_lab.training import job as jobs

# In this process, where `started` sees the jobs.
GRADIENTS = list((Path(__file__).parents[1] / "conf" / "gradient").glob("*.yaml"))
HERE = "hydra/launcher=basic"
QUIET = ("hydra/job_logging=disabled", "hydra/hydra_logging=disabled", "hydra.output_subdir=null")
TRUNCATED = "gradient=truncated"
STRATEGY = "bptt_lab.gradients"
LIGHTNING = "lightning.pytorch.callbacks"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Start every command in an empty folder, and forget what it put on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.fixture
def started(monkeypatch):
    """The (config, folder) of each job, none of which trains."""
    seen = []

    def record(cfg):
        seen.append((cfg, Path(HydraConfig.get().runtime.output_dir)))
        return 0

    monkeypatch.setattr(jobs, "run", record)
    return seen


def bptt_train(*arguments):
    """Run the command in this process and return its exit code."""
    return cli.main(arguments)


def refusal(error):
    """The one line that a refusal prints."""
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error.removeprefix("bptt-train: ").rstrip()


# The command line, and how its refusal reads: key, value and limit; then the way out.
BAD = [
    # options and groups
    ("gradient=nope", "gradient=nope: there is no such option; choose from adaptive, artbp"),
    ("gradient=ful", "gradient=ful: there is no such option; did you mean full?"),
    ("gradient=full@model", "gradient=full@model: there is no such option; "),
    ("dataset=nope", "dataset=nope: there is no such option; choose from adding"),
    ("experiment=nope", "experiment=nope: there is no such option; "),
    ("model=1", "model=1: must name an option; choose from elman, irnn, orthogonal"),
    ("gradient=null", "gradient=null: must name an option; choose from adaptive, artbp"),
    ("~gradient", "gradient: the section is missing; choose one with gradient="),
    ("~gradient=truncated", "~gradient=truncated: there is nothing of that name to delete; "),
    ("gradient=full gradient=truncated", "gradient=truncated: comes after gradient=full; give gra"),
    ("+gradient=full", "+gradient=full: gradient is there already; write gradient=full"),
    ("optimiser=adam", "optimiser=adam: there is no such setting; did you mean optimizer?"),
    # keys
    ("foo=bar", "foo=bar: there is no such setting; choose from seed, num_threads, segment_length"),
    (
        "foo.bar=1",
        "foo.bar=1: there is no such setting; choose from seed, num_threads, segment_length",
    ),
    ("+foo=1", "foo=1: there is no such setting; choose from seed, num_threads, segment_length"),
    ("lr=3", "lr=3: there is no such setting; did you mean optimizer.lr?"),
    ("gradient.foo=1", "gradient.foo=1: there is no such setting; gradient=full takes none; leave"),
    ("model.bidirectional=true", "model.bidirectional=true: there is no such setting; states run "),
    ("+model.bidirectional=true", "model.bidirectional=true: there is no such setting; states run"),
    (f"{TRUNCATED} +gradient.w=3", "gradient.w=3: there is no such setting; choose from k, mode"),
    ("+gradient._partial_=true", "gradient._partial_=true: there is no such setting; "),
    ("~seed", "dataset.seed: Interpolation key 'seed' not found; give a value instead"),
    ("~foo", "~foo: there is nothing of that name to delete; leave it out"),
    ("+seed=1", "+seed=1: seed is there already; write seed=1"),
    ("seed=1 seed=2", "seed=2: comes after seed=1; give seed once"),
    ("seed.x=3", "seed.x=3: there is no such setting; did you mean seed?"),
    # keys of torch's and Lightning's, and settings of another option
    ("trainer.truncated_bptt_steps=5", "trainer.truncated_bptt_steps=5: there is no such setting;"),
    ("model.embedding_size=1000000000000", "model.embedding_size=1000000000000: needs at least "),
    ("gradient={k:2}", "gradient={k:2}: there is no such setting; gradient=full does not take it;"),
    ("gradient.k=2", "gradient.k=2: there is no such setting; gradient=full does not take it; cho"),
    ("optimizer.momentum=0.9", "optimizer.momentum=0.9: there is no such setting; optimizer=adamw"),
    ("trainer.gpus=1", "trainer.gpus=1: there is no such setting; did you mean device=gpu, or"),
    ("trainer.accelerator=gpu", "trainer.accelerator=gpu: there is no such setting; did you mean "),
    ("optimizer.learning_rate=1", "optimizer.learning_rate=1: there is no such setting; did you m"),
    ("epochs=3", "epochs=3: there is no such setting; did you mean trainer.max_epochs?"),
    ("+batch_size=3", "batch_size=3: there is no such setting; did you mean dataset.batch_size?"),
    ("model.hidden_dim=3", "model.hidden_dim=3: there is no such setting; did you mean model.hidd"),
    ("+model.hidden_dim=3", "model.hidden_dim=3: there is no such setting; did you mean model.hid"),
    ("model.nonlinearity=ReLU", "model.nonlinearity=ReLU: must be one of tanh, relu, identity, si"),
    ("--info config gradient.k=3", "gradient.k=3: there is no such setting; gradient=full does no"),
    # what only the first step refused, or the constructor
    ("gradient=rtrl model.num_layers=2", "model.num_layers=2: must be 1, since RTRL unrolls no mo"),
    ("callbacks.shadow=[uoro] model.num_layers=2", "model.num_layers=2: must be 1, since UORO"),
    ("gradient=rtrl model.hidden_size=512", "model.hidden_size=512: needs an influence of at leas"),
    ("gradient=rtrl gradient.block=2 gradient.store=true", "gradient.store=true: only means somet"),
    (
        f"gradient=credit_clip gradient.of._target_={STRATEGY}.rtrl.RTRL",
        f"gradient.of._target_={STRATEGY}.rtrl.RTRL: must be a future-facing strategy of one",
    ),
    ("gradient=credit_clip gradient.of=3", "gradient.of=3: must be a future-facing strategy of on"),
    (
        f"gradient=credit_clip gradient.of={{_target_:{STRATEGY}.adaptive.Adaptive}}",
        f"gradient.of._target_={STRATEGY}.adaptive.Adaptive: must be a future-facing strategy of",
    ),
    (
        f"gradient=credit_clip gradient.of._target_={STRATEGY}.truncated.Truncated"
        " +gradient.of.mode=lag",
        f"gradient.of._target_={STRATEGY}.truncated.Truncated: must be a future-facing",
    ),
    ("gradient=feedback_alignment +gradient.of.q=3", "gradient.of.q=3: there is no such setting"),
    (
        f"gradient=feedback_alignment gradient.of._target_={STRATEGY}.truncated.Truncated"
        " +gradient.of.k=0",
        "gradient.of.k=0: must be at least 1",
    ),
    ("optimizer=adam optimizer._target_=torch.optim.SparseAdam", "optimizer._target_=torch.optim."),
    ("+optimizer.capturable=true", "optimizer.capturable=true: is for CUDA graphs"),
    (
        "+callbacks.x={_target_:torch.nn.Linear,in_features:1,out_features:1}",
        "callbacks.x._target_=torch.nn.Linear: must be a Callback",
    ),
    (
        f"+callbacks.x={{_target_:{LIGHTNING}.EarlyStopping,monitor:val_loss}}",
        "callbacks.x.monitor=val_loss: must be a metric of validation; use val/loss",
    ),
    (
        f"+callbacks.x={{_target_:{LIGHTNING}.ModelCheckpoint,dirpath:/tmp}}",
        "callbacks.x.dirpath=/tmp: a run writes in its own folder",
    ),
    (
        f"+callbacks.x={{_target_:{LIGHTNING}.ModelCheckpoint,filename:../x}}",
        "callbacks.x.filename=../x: a run writes in its own folder",
    ),
    (f"+callbacks.x={{_target_:{LIGHTNING}.LearningRateFinder}}", "callbacks.x._target_="),
    (
        f"+callbacks.x={{_target_:{LIGHTNING}.EMAWeightAveraging}}",
        f"callbacks.x._target_={LIGHTNING}.EMAWeightAveraging: would average beside the run's own",
    ),
    ("+ema=0.9", "ema=0.9: there is no such setting; did you mean trainer.ema_decay?"),
    # data
    ("dataset=mnist", "dataset.path='': must name a folder; give the path of one"),
    ("dataset=mnist dataset.path=/nope", "dataset.path=/nope: must be an existing folder or file"),
    ("dataset=mnist dataset.path=/dev/null", "dataset.path=/dev/null: must be an ordinary file"),
    ("dataset=tagging", "dataset.path='': must name a folder; give the path of one"),
    ("dataset=tagging dataset.path=/dev/null", "dataset.path=/dev/null: must be an ordinary file"),
    ("dataset=series dataset.path=/", "dataset.path=/: must be a file, but it is a folder"),
    ("dataset=text dataset.path=", "dataset.path='': must name a file; give the path of one"),
    # what to continue
    ("resume=", "resume='': must name a folder; give one out of outputs/, or leave it out"),
    ("resume=''", "resume='': must name a folder"),
    ("++resume=", "resume='': must name a folder"),
    ("-m resume=", "resume='': must name a folder"),
    ("++resume=/nope", "resume=/nope: is not a folder"),
    # grammar
    ("seed", "seed: cannot be read (it has no =); write key=value, and a text"),
    ("=3", "=3: has no key; write key=value"),
    ("seed==", "seed==: cannot be read (a bracket or a quote has no pair, or"),
    ("seed=[1", "seed=[1: cannot be read (a bracket or a quote has no pair, or"),
    ('seed="abc', 'seed="abc: cannot be read (a bracket or a quote has no pair, or'),
    ("seed=int(x)", "seed=int(x): cannot be read (invalid literal for int() with base 10: 'x'); "),
    ("seed=nope(3)", "seed=nope(3): cannot be read (Unknown function 'nope'); write key=value"),
    ("seed=3^", "seed=3^: cannot be read (a bracket or a quote has no pair, or"),
    ("seed=a;b", "seed=a;b: cannot be read (a bracket or a quote has no pair, or"),
    ("seed=é", r"seed=é: cannot be read (a bracket or a quote has no pair, or"),
    ("seed=1,", "seed=1,: cannot be read (a bracket or a quote has no pair, or"),
    ("seed=1,2", "seed=1,2: is a sweep; add -m for one job a value, or write [...] for a list"),
    ("seed=range(1,3)", "seed=range(1,3): is a sweep; add -m"),
    # types and ranges
    ('seed="5"', "seed='5': must be an integer; leave it out for 0"),
    ("seed=", "seed='': must be an integer; leave it out for 0"),
    ("seed=abc", "seed=abc: must be an integer; leave it out for 0"),
    ("seed=1.5", "seed=1.5: must be an integer; leave it out for 0"),
    ("seed=-1", "seed=-1: must be at least 0; leave it out for 0"),
    ("model.hidden_size=0", "model.hidden_size=0: must be at least 1; leave it out for 128"),
    ("model.hidden_size=???", "model.hidden_size: is missing; give it as model.hidden_size=..."),
    ("model.dropout=2", "model.dropout=2: must be at most 1; leave it out for 0.0"),
    ("model.nonlinearity=swish", "model.nonlinearity=swish: must be one of tanh, relu, identity"),
    ("optimizer.lr=nan", "optimizer.lr=nan: must be a finite number; leave it out for 0.001"),
    ("optimizer.betas.0=2", "optimizer.betas=[2,0.999]: must be less than 1; leave it out for [0"),
    ("optimizer.betas.7=2", "optimizer.betas.7=2: list index out of range; correct it or leave"),
    ("optimizer=sgd optimizer.nesterov=true", "optimizer.nesterov=true: needs optimizer.momentum"),
    ("trainer=3", "trainer=3: must be a section; set its keys, as trainer.key=value"),
    ("trainer.max_epochs=0", "trainer.max_epochs=0: must be at least 1; leave it out for 60"),
    (f"{TRUNCATED} gradient.k=0", "gradient.k=0: must be at least 1; leave it out for 16"),
    (
        f"{TRUNCATED} gradient.mode=window gradient.k=4 gradient.k1=8",
        "gradient.k1=8: must be at most k=4; leave it out for null",
    ),
    (f"{TRUNCATED} gradient.k1=8", "gradient.k1=8: only means something with mode=window; leave"),
    ("dataset.batch_size=1 device=ddp_cpu", "dataset.batch_size=1: must be at least device.dev"),
    # Hydra's own
    ("-m seed=1,2 hydra.sweeper=null", "hydra.sweeper=null: cannot be used"),
    (
        "-m optimizer.lr=1,2 seed=${hydra.job.num}",
        r"seed=$\{hydra.job.num\}: Interpolation key 'hydra",
    ),
    ("hydra.overrides.task=[a]", "hydra.overrides.task=[a]: is for Hydra to fill in; "),
    ("hydra.runtime.choices.model=a", "hydra.runtime.choices.model=a: there is no such setting"),
    # how to go about it
    ("divergence=foo", "divergence=foo: must be one of stop, record; leave it out for stop"),
    ("checkpoint_seconds=-1", "checkpoint_seconds=-1: must be at least 0; leave it out for 10"),
    ("checkpoint_seconds=inf", "checkpoint_seconds=inf: must be a finite number; leave it out"),
    ("resume=/nonexistent", "resume=/nonexistent: is not a folder; give a folder out of outputs/"),
    ("resume=.", "resume=.: holds no run and no sweep; give a folder out of outputs/"),
    ("force_resume=1", "force_resume=1: must be true or false; leave it out for false"),
    ("dry_run=maybe", "dry_run=maybe: must be true or false; leave it out for false"),
    ("fail_fast=3", "fail_fast=3: must be true or false; leave it out for false"),
    ("allow=[os]", "allow=[os]: would let a configuration do all that 'os' can; allow the pack"),
    ("allow=3", "allow=[3]: must name packages, as allow=[mypkg]"),
    ("allow=[a-b]", "allow=[a-b]: must name packages, as allow=[mypkg]"),
    ("-m allow=a,b", "allow=a,b: holds for all jobs; write a list, as allow=[mypkg]"),
    # sizes
    ("model.hidden_size=1000000000000", "model.hidden_size=1000000000000: needs at least 7.45e+1"),
    ("model.num_layers=1000000000000", "model.num_layers=1000000000000: needs at least 1.22e+08 "),
    ("dataset=adding dataset.num_steps=1000000000000", "dataset.num_steps=1000000000000: needs at"),
    ("dataset=echo dataset.stream_length=100000000000000", "dataset.stream_length=10000000000000"),
    # what is not there
    ("device=gpu", "device.accelerator=gpu: no CUDA GPU is visible here; use device=cpu"),
    ("dataset=text dataset.path=none.txt", "dataset.path=none.txt: must be an existing file"),
    ("dataset=text dataset.path=empty.txt", "dataset.path=empty.txt: must hold some data"),
    ("gradient._target_=mine.Mine", "gradient._target_=mine.Mine: is not in bptt_lab, torch.opti"),
    ("gradient._target_=mine.Mine allow=mine", "allow=[mine]: there is no such package here; in"),
    ("dataset=text dataset.path=", "dataset.path='': must name a file; give the path of one"),
    ("optimizer._target_=torch.optim.Adm", "optimizer._target_=torch.optim.Adm: module 'torch.op"),
    ("dataset.seed=${nope}", "dataset.seed=${nope}: Interpolation key 'nope' not found; "),
    ("seed=${oc.env:NOPE}", "seed=${oc.env:NOPE}: KeyError raised while resolving interpolation"),
    # flags
    ("--nope", "unrecognized arguments: --nope; bptt-train --help lists what there is"),
    ("--cfg nope", "argument --cfg/-c: invalid choice: 'nope' (choose from"),
    ("--cfg job -m", "--multirun --cfg: exclude each other; keep one"),
    ("--cfg job -p nope", "--package=nope: there is no such section; leave it out for all"),
    ("--resolve", "--resolve: needs --cfg job, which it resolves; add that or leave it out"),
    ("--config-dir nope", "--config-dir=nope: is not a folder; give one that exists"),
    ("--config-name nope", "--config-name=nope: there is no such file; leave it out, or add --con"),
    ("--config-path /nope", "--config-path: Primary config directory not found."),
    # Hydra's own settings
    ("hydra.foo=1", "hydra.foo=1: there is no such setting; "),
    ("hydra=1", "hydra=1: must name an option; "),
    ("hydra/launcher=nope", "hydra/launcher=nope: there is no such option; choose from basic"),
    ("hydra.launcher=x", "hydra.launcher=x: must be a section; choose with hydra/launcher="),
    ("hydra.mode=FOO", "hydra.mode=FOO: Invalid value 'FOO', expected one of [RUN, MULTIRUN]; co"),
    ("hydra.job.chdir=maybe", "hydra.job.chdir=maybe: Value 'maybe' is not a valid bool"),
    ("hydra.searchpath=[/nope]", "hydra.searchpath=/nope: is not a folder; give one that exists"),
    ("hydra.run.dir=", "hydra.run.dir='': must name a folder; leave it out for a new one"),
    ("hydra.run.dir=/dev/null/x", "hydra.run.dir=/dev/null/x: cannot be made, since /dev/null is"),
    ("hydra.run.dir=mine", "hydra.run.dir=mine: must be in outputs/; use outputs/mine, or give an"),
    ("hydra.run.dir=outputs", "hydra.run.dir=outputs: must be in outputs/; "),
    ("hydra.verbose={}", "hydra.verbose={}: must be true, false or a list of loggers"),
    # sweeps: all jobs are checked before the first one starts
    (
        "-m gradient=full,nope",
        "gradient=nope: there is no such option; choose from adaptive, artbp",
    ),
    ("-m hydra.sweep.subdir=${seed}", "hydra.sweep.subdir=${seed}: a setting could lead out of"),
    (f"-m {TRUNCATED} gradient.k=2,0", "gradient.k=0: must be at least 1; leave it out for 16 (jo"),
    ("-m seed=1,2 model.dropout=0.1,2", "model.dropout=2: must be at most 1; leave it out for 0"),
    ("-m gradient=full,autograd gradient.k=3", "gradient.k=3: there is no such setting; gradient"),
    ("-m gradient=truncated gradient.k=range(1,1000000000)", "gradient.k=range(1,1000000000): mak"),
    ("-m seed=shuffle(range(1,1000000000))", "seed=shuffle(range(1,1000000000)): makes a sweep of"),
    (
        "-m seed=range(0,200) model.leak=range(0.01,1,0.01) gradient=glob(*)",
        f"seed=range(0,200): makes a sweep of {200 * 99 * len(GRADIENTS):,} jobs",
    ),
    ("-m hydra.sweeper.params={seed:'range(0,10001)'}", "seed=range(0,10001): makes a sweep of 10"),
    ("-m seed=range(0,1e300,1e-300)", "seed=range(0,1e300,1e-300): makes a sweep of some 10^600 j"),
    ("-m seed=range(1,inf)", "seed=range(1,inf): must be a range of finite numbers"),
    ("-m seed=range(1,5,0)", "seed=range(1,5,0): must be a range of finite numbers"),
    ("-m seed=range(5,5)", "seed=range(5,5): holds no value, so no job; give some"),
    ("-m gradient=glob(nope*)", "gradient=glob(nope*): holds no value, so no job; give some"),
    ("-m seed=interval(0,1)", "seed=interval(0,1): cannot be used (BasicSweeper does not support"),
    ("-m hydra/sweeper=basic seed=1,1", "seed=1: the sweep holds this job 2 times; keep one"),
    ("-m seed=1,2 hydra.sweep.subdir=x", "hydra.sweep.subdir=x: 2 jobs would share it; add ${hyd"),
    ("-m hydra.sweeper.max_batch_size=0", "hydra.sweeper.max_batch_size=0: must be at least 1, o"),
    ("-m hydra.run.dir=a,b", "hydra.run.dir=a,b: cannot be used (Sweeping over Hydra's config"),
]


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_a_bad_command_line_is_refused(line, message, started, capfd, folder, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (folder / "empty.txt").touch()
    assert bptt_train(*line.split()) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert refusal(err).startswith(message)
    assert not started
    assert [path.name for path in folder.iterdir()] == ["empty.txt"]


# In one process of their own: another test may have imported torch into this one.
COMMANDS = """
import json, sys
from bptt_lab.commands.train.cli import main
for line in json.load(sys.stdin):
    assert main(line.split()) == {code}, line
    heavy = {{"torch", "lightning", "numpy", "sklearn", "tensorboard"}} & set(sys.modules)
    assert not heavy, (line, heavy)
"""


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_no_refusal_waits_for_torch(step, folder, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (folder / "empty.txt").touch()
    lines = [line for line, _ in BAD[::step]]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS.format(code=2)],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.count("\n") == len(lines)
    assert [path.name for path in folder.iterdir()] == ["empty.txt"]


def test_a_dry_run_counts_steps_without_torch(folder):
    lines = ["dry_run=true dataset=echo -m seed=0,1", "dry_run=true"]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS.format(code=0)],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 jobs, 9600 steps to do" in done.stdout and "1 job, 2460 steps" in done.stdout
    assert not [*folder.iterdir()]


def test_the_installed_command_and_the_script_are_the_same(folder):
    script = Path(__file__).parent.parent / "scripts" / "train.py"
    for command in (
        [Path(sys.executable).with_name("bptt-train")],
        [sys.executable, script],
        [sys.executable, "-m", "bptt_lab.commands.train.cli"],
    ):
        done = subprocess.run([*command, "lr=3"], capture_output=True, text=True, timeout=600)
        assert (done.returncode, done.stdout) == (2, "")
        assert refusal(done.stderr).endswith("did you mean optimizer.lr?")
    assert not [*folder.iterdir()]


def test_help_lists_options_claims_and_limits(capfd):
    assert bptt_train("-h", "foo=bar") == 0
    out = capfd.readouterr().out
    for line in (
        r"  \* full +Exact: one adjoint sweep over the chunk",
        r"  truncated +no +no +no +O\(L N H",
        r"  gradient=full takes no settings",
        r"    gradient\.k1=null +integer or null, at least 1, at most k, only with mode=window",
        r"    gradient\.mode=chunk +chunk \| lag \| window \| tail",
        r"  model\.hidden_size=128 +integer, at least 1",
        r"    optimizer\.betas=\[0\.9,0\.999\] +list of \(number, at least 0, less than 1\), len",
        r"  tensorboard --logdir outputs",
    ):
        assert re.search(f"^{line}", out, re.MULTILINE), line


def test_hydras_flags_still_work(capfd, monkeypatch):
    # Handlers of earlier tests write to a stream that pytest has closed.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    # hydra_logging=disabled in an earlier test has disabled these for good.
    for logger in logging.Logger.manager.loggerDict.values():
        if isinstance(logger, logging.Logger) and logger.name.startswith("hydra"):
            monkeypatch.setattr(logger, "disabled", False)
    for words, part in (
        (("--cfg", "job", TRUNCATED), "_target_: bptt_lab.gradients.truncated.Truncated"),
        (("--cfg", "job", "--resolve", "seed=3", "-p", "dataset"), "seed: 3"),
        (("--cfg", "hydra"), "${bptt_stamp:}"),
        (("--info", "searchpath"), "pkg://bptt_lab.conf"),
        (("--hydra-help",), "== Flags =="),
        (("--version",), "Hydra 1.3"),
        (("--shell-completion", "install=bash"), ""),
    ):
        assert bptt_train(*words) == 0, words
        out, err = capfd.readouterr()
        assert part in out
        assert err == ""


def test_a_run_gets_a_config_and_a_folder(started, folder):
    assert bptt_train(TRUNCATED, "gradient.k=3", *QUIET) == 0
    ((cfg, made),) = started
    assert cfg.gradient.k == 3 and "hydra" not in cfg
    assert made.is_dir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_[0-9a-f]{8}_digits_truncated", made.name)
    assert made.parent == folder / "outputs"


def test_flags_may_stand_among_the_overrides(started, monkeypatch):
    monkeypatch.setattr(sweep, "print_table", lambda path: 0)
    assert bptt_train("seed=1", "-m", f"{TRUNCATED},full", HERE, *QUIET) == 0
    assert [cfg.seed for cfg, _ in started] == [1, 1]


def test_two_runs_in_one_second_keep_apart(started, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda pattern: "2026-11-24_07-10-33")
    assert bptt_train(*QUIET) == bptt_train(*QUIET) == 0
    assert len({made.name for _, made in started}) == 2


def test_jobs_of_a_sweep_share_a_folder(started, monkeypatch):
    tables = []
    monkeypatch.setattr(sweep, "print_table", lambda path: tables.append(path) or 0)
    assert bptt_train("-m", HERE, "gradient=glob(*)", *QUIET) == 0
    assert bptt_train("-m", HERE, "model=elman,irnn", "seed=range(0,2)", *QUIET) == 0
    assert len({made.parent for _, made in started}) == 2
    assert [made.parent for _, made in started][-4:] == [tables[-1]] * 4
    assert [made.name for _, made in started][-4:] == [
        "000_model=elman,seed=0",
        "001_model=elman,seed=1",
        "002_model=irnn,seed=0",
        "003_model=irnn,seed=1",
    ]
    assert tables[-1].name.endswith("_sweep")


def test_a_setting_of_the_swept_options_need_not_fit_the_default(started, monkeypatch):
    monkeypatch.setattr(sweep, "print_table", lambda path: 0)
    assert bptt_train("-m", HERE, "optimizer=sgd,rmsprop", "optimizer.momentum=0.5", *QUIET) == 0
    assert [cfg.optimizer.momentum for cfg, _ in started] == [0.5, 0.5]


def test_a_failed_job_does_not_stop_a_sweep(monkeypatch, capfd):
    seeds = []

    def fail(cfg):
        seeds.append(cfg.seed)
        return cfg.seed

    monkeypatch.setattr(jobs, "run", fail)
    monkeypatch.setattr(sweep, "print_table", lambda path: print("the table") or 2)
    assert bptt_train("-m", HERE, "seed=0,1,2,3", *QUIET) == 1
    assert seeds == [0, 1, 2, 3]
    assert "the table\n" in capfd.readouterr().out


@pytest.mark.parametrize("code", [0, 1, 2, 3, 130, 143])
def test_a_job_s_exit_code_is_the_run_s(code, monkeypatch):
    monkeypatch.setattr(jobs, "run", lambda cfg: code)
    assert bptt_train(*QUIET) == code


def test_an_interrupted_sweep_still_has_its_table(monkeypatch, capfd):
    def interrupt(cfg):
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "run", interrupt)
    monkeypatch.setattr(sweep, "print_table", lambda path: print("the table") or 1)
    assert bptt_train("-m", HERE, "seed=0,1", *QUIET) == 130
    assert "the table\n" in capfd.readouterr().out


STRATEGY = '''
import torch
from typing import Annotated, ClassVar
from bptt_lab.gradients.full import Full
from bptt_lab.core.validation import AtLeast, Below, checked

class Mine(Full):
    """Mine."""

    cost: ClassVar[str] = "O(mine)"

    @checked
    def __init__(self, *, pace: Annotated[float, AtLeast(0.5), Below(1)] = 0.5) -> None: ...
'''


@pytest.mark.parametrize("how", ["--config-dir", "hydra.searchpath"])
def test_a_strategy_of_the_users(how, folder, started, capfd):
    module = f"mine_{folder.name}_{how.strip('-').replace('-', '_').replace('.', '_')}"
    (folder / f"{module}.py").write_text(STRATEGY)
    (folder / "options" / "gradient").mkdir(parents=True)
    text = f"# Mine, all mine.\n_target_: {module}.Mine\npace: 0.7\n"
    (folder / "options" / "gradient" / "mine.yaml").write_text(text)
    there = ["--config-dir", "options"] if how == "--config-dir" else []
    there += [] if there else [f"hydra.searchpath=[{folder / 'options'}]"]
    assert bptt_train("gradient=mine", *there, *QUIET) == 2
    error = refusal(capfd.readouterr().err)
    assert error.endswith(f"if you trust that package, add allow=[{module}] to the command line")
    there.append(f"allow=[{module}]")
    assert bptt_train("gradient=mine", *there, *QUIET) == 0
    assert started[0][0].gradient.pace == 0.7
    capfd.readouterr()
    assert bptt_train("gradient=mine", "gradient.pace=1", *there) == 2
    error = refusal(capfd.readouterr().err)
    assert error == "gradient.pace=1: must be less than 1; leave it out for 0.7"
    assert bptt_train("--help", *there) == 0
    out = capfd.readouterr().out
    assert re.search(r"^    mine +Mine, all mine\.", out, re.MULTILINE)
    assert re.search(r"^  mine +yes +no +yes +O\(mine\)", out, re.MULTILINE)
    assert re.search(
        r"^    gradient\.pace=0\.7 +number, at least 0\.5, less than 1", out, re.MULTILINE
    )
    assert module not in sys.modules


@pytest.mark.parametrize(
    ("number", "overrides", "name"),
    [
        (3, "gradient=truncated,gradient.k=8,seed=1", "003_gradient=truncated,gradient.k=8,seed=1"),
        (0, "", "000"),
        (123, "a=1", "123_a=1"),
        (1, "dataset.path=../../etc/passwd", "001_dataset.path=..-..-etc-passwd"),
        (1, "x='a b';rm -rf $HOME\n", "001_x=-a-b-rm--rf-HOME-"),
        (1, "x=" + "y" * 300, "001_x=" + "y" * 174),
    ],
)
def test_job_names_are_safe(number, overrides, name):
    assert output_paths.job_name(number, overrides) == name
    assert len(name) <= 180 and os.sep not in name


@pytest.mark.slow
def test_a_hundred_jobs_are_verified_one_by_one():
    output_paths.register()
    args = arguments.parse_arguments(["-m", TRUNCATED, "seed=range(0,50)", "gradient.k=4,8"])
    assert len(make_plan(args).jobs) == 100
