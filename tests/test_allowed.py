"""Only classes of the right kind, in packages that may be named, pass; nothing is imported."""

import sys

import pytest

from bptt_lab.config import targets
from bptt_lab.core.validation import ConfigError

FULL = "bptt_lab.gradients.full.Full"


@pytest.mark.parametrize(
    ("prefixes", "dotted", "covered"),
    [
        (["mypkg"], "mypkg", True),
        (["mypkg"], "mypkg.tasks.Mine", True),
        (["mypkg"], "mypkgevil.Mine", False),
        (["mypkg.tasks"], "mypkg.Mine", False),
        (["mypkg"], "Mypkg.Mine", False),
        (["mypkg"], "\uff4dypkg.Mine", False),
        ([], "mypkg", False),
    ],
)
def test_a_prefix_means_a_package(prefixes, dotted, covered):
    assert targets.covers(prefixes, dotted) is covered


@pytest.mark.parametrize("allow", ["pytest", ["pytest"], ["pytest.sub", "jinja2"], []])
def test_packages_may_be_allowed(allow):
    assert targets.packages(allow) == ((allow,) if isinstance(allow, str) else tuple(allow))


@pytest.mark.parametrize(
    "name",
    [
        *("os", "sys", "subprocess", "builtins", "importlib", "pickle", "os.path", "__main__"),
        *("torch", "torch.optim", "hydra", "hydra.utils", "omegaconf", "numpy", "lightning"),
        *("yaml", "", "a..b", "*", "a b", ".a", "a.", "nopkg", "nopkg.sub", 3, None),
    ],
)
def test_what_reaches_everything_may_not(name):
    with pytest.raises(ConfigError, match=r"^allow=\["):
        targets.packages([name])


@pytest.mark.parametrize(
    "config",
    [
        {"gradient": {"_target_": FULL}},
        {"optimizer": {"_target_": "torch.optim.Adam"}, "dataset": {"seed": [1, {"a": 2}]}},
        {"dataset": {"_target_": "bptt_lab.tasks.text.Text"}},
        {"dataset": {"readout": {"_target_": "torch.nn.Linear", "in_features": 3}}},
        {"dataset": {"list": [{"_target_": "lightning.pytorch.callbacks.EarlyStopping"}]}},
        {"gradient": {"inner": {"_target_": FULL}}},
    ],
)
def test_ours_and_torchs_pass(config):
    targets.refuse_foreign(config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"gradient": {"_target_": "os.system"}},
            "gradient._target_=os.system: is not in bptt_lab",
        ),
        ({"gradient": {"_target_": "torch.load"}}, "gradient._target_=torch.load: is not in bptt_"),
        (
            {"gradient": {"_target_": "torch.optimevil.X"}},
            "gradient._target_=torch.optimevil.X: is",
        ),
        (
            {"gradient": {"_target_": "torch.optim.os.system"}},
            "gradient._target_=torch.optim.os.sy",
        ),
        (
            {"gradient": {"_target_": "torch.optim.Adam"}},
            "gradient._target_=torch.optim.Adam: must",
        ),
        ({"dataset": {"_target_": FULL}}, f"dataset._target_={FULL}: must be a SequenceDataModule"),
        ({"dataset": {"_target_": "bptt_lab.tasks.text.Path"}}, "dataset._target_=bptt_lab.tasks."),
        (
            {"optimizer": {"_target_": "torch.nn.Linear"}},
            "optimizer._target_=torch.nn.Linear: must",
        ),
        (
            {"dataset": {"x": {"_target_": "bptt_lab.training.metrics_log.MetricsLog"}}},
            "dataset.x._target_=",
        ),
        ({"optimizer": {"betas": [0.9, {"_target_": "os.system"}]}}, "optimizer.betas.1._target_="),
        ({"_target_": "os.system"}, "_target_=os.system: is not in"),
        ({"gradient": {"_target_": None}}, "gradient._target_=null: must name a class"),
        ({"gradient": {"_target_": [FULL]}}, "gradient._target_=[bptt_lab.gradients.full.Full]: m"),
        ({"gradient": {"_target_": "???"}}, "gradient._target_=???: must name a class"),
        (
            {"gradient": {"_target_": "bptt_lab.gradients.full.Full()"}},
            "gradient._target_=bptt_lab",
        ),
        ({"gradient": {"_target_": FULL, "_args_": [1]}}, "gradient._args_=[1]: there is no such"),
        ({"dataset": {"a": {"_partial_": True}}}, "dataset.a._partial_=true: there is no such"),
        (
            {"gradient": {"_target_": "bptt_lab.gradients.base.GradientStrategy"}},
            "gradient._target_=bptt_lab.gradients.base.GradientStrategy: is an interface, without "
            "states; name a class that is whole",
        ),
    ],
)
def test_anything_else_is_refused(config, message):
    with pytest.raises(ConfigError) as refusal:
        targets.refuse_foreign(config)
    assert str(refusal.value).startswith(message)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Two packages of the user's, which no test may import."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"mine_{tmp_path.name}"
    for package, text in {
        name: f"""
raise ImportError("must not be imported")
import torch
from bptt_lab.gradients.full import Full
from {name}_too import Other
from nowhere_to_be_found import Base, Unknown
class Good(Full): ...
class Dotted(torch.optim.Adam): ...
class Wrong(torch.nn.Module): ...
class Guess(Base): ...
""",
        f"{name}_too": "from bptt_lab.gradients.full import Full\nclass Other(Full): ...\n",
    }.items():
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(text)
    return name


@pytest.mark.parametrize(
    ("section", "name", "message"),
    [
        ("gradient", "Good", None),
        ("optimizer", "Dotted", None),
        ("gradient", "Guess", None),  # who knows: its user says so
        ("gradient", "Dotted", "must be a GradientStrategy"),
        ("gradient", "Wrong", "must be a GradientStrategy"),
        ("gradient", "Other", r"is defined in mine_\w+_too, which is not in .* add allow=\[mine_"),
        ("gradient", "Unknown", "has no class 'Unknown'"),
    ],
)
def test_a_package_of_the_users(section, name, message, mine):
    config = {section: {"_target_": f"{mine}.{name}"}}
    with pytest.raises(ConfigError, match=rf"is not in .* add allow=\[{mine}\] to the command"):
        targets.refuse_foreign(config)
    if message is None:
        targets.refuse_foreign(config, [mine])
        targets.refuse_foreign(config, mine)
    else:
        with pytest.raises(ConfigError, match=message):
            targets.refuse_foreign(config, [mine])
    assert mine not in sys.modules
