"""Every limit is held, and every message says key, value, limit and way out on one line."""

import copy
import itertools
from pathlib import Path

import pytest

from bptt_lab.commands.train.plan import make_plan
from bptt_lab.config import arguments, gpus, memory_limit, output_paths, schema, signatures
from bptt_lab.config.components import plugin_settings
from bptt_lab.config.parse import parse
from bptt_lab.core.validation import ConfigError

CONF = Path(__file__).parent.parent / "conf"
GOOD = {
    "seed": 0,
    "num_threads": 2,
    "segment_length": None,
    "divergence": "stop",
    "checkpoint_seconds": 10,
    "resume": None,
    "force_resume": False,
    "dry_run": False,
    "fail_fast": False,
    "allow": [],
    "callbacks": {"every_n_steps": 1000, "probe_size": 8, "shadow": []},
    "model": {
        "hidden_size": 8,
        "num_layers": 1,
        "nonlinearity": "tanh",
        "bias": True,
        "dropout": 0.0,
        "leak": 1,
        "init": "uniform",
        "gain": 1.0,
        "spectral_radius": None,
    },
    "trainer": {
        "max_epochs": 1,
        "accumulate_grad_batches": 1,
        "gradient_clip_val": None,
        "gradient_clip_algorithm": "norm",
        "precision": "32-true",
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
    },
    "device": {"accelerator": "cpu", "devices": 1},
    "gradient": {"_target_": "bptt_lab.gradients.truncated.Truncated", "k": 4},
    "dataset": {"_target_": "bptt_lab.tasks.digits.Digits", "batch_size": 4},
    "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.1, "betas": [0.9, 0.99]},
}
ADDING = {"_target_": "bptt_lab.tasks.adding.Adding"}
ECHO = {"_target_": "bptt_lab.tasks.echo.Echo"}
SGD = {"_target_": "torch.optim.SGD", "lr": 0.1}


def changed(changes):
    config = copy.deepcopy(GOOD)
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        (config[section] if section else config)[name] = value
    return config


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        ([True, "a", 1], "[true,a,1]"),
        ("", "''"),
        ("5", "'5'"),
        ("null", "'null'"),
        ("5 or so", "5 or so"),
        ("x" * 99, "x" * 77 + "..."),
    ],
)
def test_values_are_shown_as_typed(value, shown):
    assert schema.show(value) == shown


def test_a_good_config_passes():
    parse(GOOD)


@pytest.mark.parametrize(
    "changes",
    [
        {"model.spectral_radius": 0.9, "trainer.gradient_clip_val": 1},
        {"model.dropout": 1, "trainer.precision": "bf16-mixed"},
        {"gradient.mode": "window", "gradient.k1": 4},
        {"optimizer": SGD},
        {"optimizer": {**SGD, "momentum": 0.9, "nesterov": True}},
        {"optimizer": {"_target_": "torch.optim.RAdam", "decoupled_weight_decay": True}},
    ],
)
def test_other_good_configs_pass(changes):
    parse(changed(changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed=-1: must be at least 0"),
        ({"seed": True}, "seed=true: must be an integer"),
        ({"seed": "???"}, "seed: is missing; give it as seed=..."),
        ({"num_threads": 0}, "num_threads=0: must be at least 1"),
        ({"model.hidden_size": 0}, "model.hidden_size=0: must be at least 1"),
        ({"model.num_layers": 1.0}, "model.num_layers=1.0: must be an integer"),
        ({"model.nonlinearity": "swish"}, "model.nonlinearity=swish: must be one of tanh, relu"),
        ({"model.bias": 1}, "model.bias=1: must be true or false"),
        ({"model.dropout": 1.1}, "model.dropout=1.1: must be at most 1"),
        ({"model.leak": 0}, "model.leak=0: must be greater than 0"),
        ({"model.init": "zeros"}, "model.init=zeros: must be one of uniform, orthogonal"),
        ({"model.gain": float("nan")}, "model.gain=nan: must be a finite number"),
        ({"model.spectral_radius": 0}, "model.spectral_radius=0: must be greater than 0"),
        ({"model.hiden_size": 3}, "model.hiden_size=3: there is no such setting; did you mean hid"),
        ({"model": 3}, "model=3: must be a section; set its keys, as model.key=value"),
        ({"trainer.max_epochs": 0}, "trainer.max_epochs=0: must be at least 1"),
        ({"trainer.gradient_clip_val": 0}, "trainer.gradient_clip_val=0: must be greater than 0"),
        ({"trainer.precision": "16"}, "trainer.precision='16': must be one of 32-true"),
        ({"trainer.enable_progress_bar": "no"}, "trainer.enable_progress_bar=no: must be true or"),
        ({"device.accelerator": "tpu"}, "device.accelerator=tpu: must be one of cpu, gpu, auto"),
        ({"device.devices": 0}, "device.devices=0: must be at least 1"),
        ({"device.devices": 5}, "dataset.batch_size=4: must be at least device.devices=5"),
        ({"gradient.k": 0}, "gradient.k=0: must be at least 1"),
        ({"gradient.k1": 2}, "gradient.k1=2: only means something with mode=window"),
        ({"gradient.k1": 9, "gradient.mode": "window"}, "gradient.k1=9: must be at most k=4"),
        ({"gradient.q": 9}, "gradient.q=9: there is no such setting; choose from k, mode, k1"),
        ({"gradient._partial_": True}, "gradient._partial_=true: there is no such setting"),
        ({"gradient._target_": "os.system"}, "gradient._target_=os.system: is not in bptt_lab"),
        ({"gradient._target_": None}, "gradient._target_=null: must name a class"),
        ({"gradient": {}}, "gradient._target_=null: must name a class"),
        ({"dataset.batch_size": 0}, "dataset.batch_size=0: must be at least 1"),
        ({"optimizer.lr": 0}, "optimizer.lr=0: must be greater than 0"),
        ({"optimizer.lr": float("inf")}, "optimizer.lr=inf: must be a finite number"),
        ({"optimizer.betas": [0.9]}, "optimizer.betas=[0.9]: must be a list of 2"),
        ({"optimizer.betas": [0.9, 1]}, "optimizer.betas=[0.9,1]: must be less than 1"),
        ({"optimizer.momentum": 0.9}, "optimizer.momentum=0.9: there is no such setting"),
        ({"optimizer.params": []}, "optimizer.params=[]: there is no such setting"),
        ({"optimizer": {**SGD, "momentum": 1}}, "optimizer.momentum=1: must be less than 1"),
        ({"optimizer": {**SGD, "nesterov": True}}, "optimizer.nesterov=true: needs optimizer.mom"),
        (
            {"optimizer": {**SGD, "nesterov": True, "momentum": 0.9, "dampening": 0.1}},
            "optimizer.nesterov=true: needs optimizer.dampening=0",
        ),
        (
            {"epochs": 3},
            "epochs=3: there is no such setting; did you mean trainer.max_epochs?",
        ),
        ({"optimiser": {}}, "optimiser={}: there is no such setting; did you mean optimizer?"),
        (
            {"experiment": {}},
            "experiment={}: a preset's file must begin with '# @package _global_'",
        ),
    ],
)
def test_a_bad_config_is_refused(changes, message):
    with pytest.raises(ConfigError) as refusal:
        parse(changed(changes))
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.hidden_size": 4000}, "model.hidden_size=4000: needs at least 0.119 GiB"),
        ({"model.num_layers": 500_000}, "model.num_layers=500000: needs at least 0.238 GiB"),
        ({"trainer.precision": "64-true", "model.hidden_size": 3000}, "model.hidden_size=3000: n"),
        (
            {"dataset": {**ADDING, "num_steps": 3000, "test_size": 9000}},
            "dataset.test_size=9000: needs",
        ),
        (
            {"dataset": {**ECHO, "stream_length": 9000, "batch_size": 3000}},
            "dataset.stream_length=9000: ",
        ),
    ],
)
def test_what_does_not_fit_the_memory_is_refused(changes, message):
    with pytest.raises(ConfigError) as refusal:
        memory_limit.refuse_above(parse(changed(changes)), 100_000_000)
    assert str(refusal.value).startswith(message)
    memory_limit.refuse_above(parse(changed(changes)), 1_000_000_000)


@pytest.mark.parametrize("section", ["model", "trainer", "device", "gradient", "dataset"])
def test_a_missing_section_is_refused(section):
    config = {key: value for key, value in GOOD.items() if key != section}
    with pytest.raises(ConfigError, match=f"{section}: the section is missing"):
        parse(config)


def test_a_missing_setting_of_a_fixed_section_is_refused():
    model = {key: value for key, value in GOOD["model"].items() if key != "leak"}
    with pytest.raises(ConfigError, match=r"model\.leak: is missing"):
        parse({**GOOD, "model": model})


@pytest.mark.parametrize(
    ("found", "device", "message"),
    [
        (0, {"accelerator": "gpu", "devices": 1}, "no CUDA GPU is visible here; use device=cpu"),
        (1, {"accelerator": "gpu", "devices": 1}, None),
        (1, {"accelerator": "gpu", "devices": 2}, "device.devices=2: must be at most 1"),
        (1, {"accelerator": "auto", "devices": 2}, "device.devices=2: must be at most 1"),
        (0, {"accelerator": "auto", "devices": 2}, None),
        (0, {"accelerator": "cpu", "devices": 2}, None),
    ],
)
def test_devices_must_be_there(monkeypatch, found, device, message):
    monkeypatch.setattr(gpus, "count", lambda: found)
    parse({**GOOD, "device": device}, here=False)
    if message is None:
        parse({**GOOD, "device": device})
    else:
        with pytest.raises(ConfigError) as refusal:
            parse({**GOOD, "device": device})
        assert message in str(refusal.value)


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_do_not_count(monkeypatch, hidden):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert gpus.count() == 0


def test_gpus_are_counted_as_torch_counts_them(monkeypatch):
    import torch

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus.count() == torch.cuda.device_count()


def choices() -> list[tuple[str, ...]]:
    """Command lines that choose every option: one of each group at a time, presets alone."""
    groups = [
        [f"{folder.name}={path.stem}" for path in sorted(folder.glob("*.yaml"))]
        for folder in sorted(CONF.iterdir())
        if folder.is_dir() and folder.name not in ("experiment", "hydra")
    ]
    mixed = [tuple(filter(None, line)) for line in itertools.zip_longest(*groups)]
    presets = sorted((CONF / "experiment").glob("*.yaml"))
    return mixed + [(f"experiment={path.stem}",) for path in presets]


@pytest.mark.parametrize("line", choices(), ids=",".join)
def test_every_option_composes_and_passes(line):
    output_paths.register()
    files = (CONF / "dataset").glob("*.yaml")
    reads = {path.stem for path in files if '\npath: ""' in path.read_text()}
    names = {choice.partition("=")[2] for choice in line}
    must_be_given = [f"dataset.path={__file__}" for _ in names & reads]
    make_plan(arguments.parse_arguments(["--cfg", "job", *line, *must_be_given]))


def test_torch_ranges_name_real_settings():
    for name in ("Adam", "SGD", "RMSprop", "Adagrad"):
        settings = plugin_settings(signatures.read(f"torch.optim.{name}"))
        assert "lr" in settings and "params" not in settings
