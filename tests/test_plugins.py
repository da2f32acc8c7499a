"""Plug-ins are read from their source exactly as Python would see them."""

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from constructors import parameters
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from bptt_lab.config import classes, signatures, targets
from bptt_lab.config.signatures import UNKNOWN, Setting
from bptt_lab.config.source_text import FromSetting
from bptt_lab.core.validation import ConfigError, Ge, Le

CONF = Path(__file__).parent.parent / "conf"
OPTIONS = sorted([*CONF.glob("gradient/*.yaml"), *CONF.glob("dataset/*.yaml")])


def name_of(path):
    return f"{path.parent.name}={path.stem}"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write modules into a package of the user's, which no test imports."""
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / f"mine_{tmp_path.name}"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('this package must not be imported')")

    def write(name, text):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        importlib.invalidate_caches()
        return folder.name

    return write


@pytest.mark.parametrize("option", OPTIONS, ids=name_of)
def test_reading_agrees_with_importing(option):
    target = OmegaConf.load(option)["_target_"]
    plugin, kind = signatures.read(target), get_class(target)
    expected = {
        # What a modifier wraps: its limits are read, and its class is not.
        name: Setting(Annotated[Any, *parameter.annotation.__metadata__], required=True)
        if parameter.default is parameter.empty
        else Setting(parameter.annotation, parameter.default)
        for name, parameter in parameters(kind).items()
    }
    assert plugin.settings == expected
    assert not plugin.takes_any
    for claim, value in plugin.claims.items():
        made_by_a_property = isinstance(getattr(kind, claim), property)
        assert made_by_a_property or getattr(kind, claim) == value


@pytest.mark.parametrize("option", OPTIONS, ids=name_of)
def test_a_file_gives_every_setting_of_its_plugin(option):
    values = OmegaConf.to_container(OmegaConf.load(option), resolve=False)
    assert set(values) - {"_target_"} == set(signatures.read(values["_target_"]).settings)


@pytest.mark.parametrize("option", sorted(CONF.glob("gradient/*.yaml")), ids=name_of)
def test_a_strategy_makes_every_claim(option):
    claims = signatures.read(OmegaConf.load(option)["_target_"]).claims
    assert {"exact_within_chunk", "exact_across_chunks", "unbiased", "cost", "space"} <= set(claims)


def test_a_claim_may_be_a_property_that_follows_a_setting(package):
    name = package(
        "rule.py",
        """
class Rule:
    def __init__(self, *, carry: bool = True, k: int = 3) -> None: ...
    @property
    def unbiased(self) -> bool:
        'Always.'
        return True
    @property
    def exact_across_chunks(self) -> bool:
        return self.carry
    @property
    def computed(self) -> bool:
        return self.k > 2
    @property
    def other(self) -> bool:
        return self.something
    def method(self) -> bool:
        return True
""",
    )
    plugin = signatures.read(f"{name}.rule.Rule")
    assert plugin.claims == {"unbiased": True, "exact_across_chunks": FromSetting("carry")}
    assert plugin.claim("exact_across_chunks", {}) is True
    assert plugin.claim("exact_across_chunks", {"carry": False}) is False
    assert plugin.claim("unbiased", {"carry": False}) is True
    assert plugin.claim("linear", {}) is None


@pytest.mark.parametrize("option", sorted(CONF.glob("gradient/*.yaml")), ids=name_of)
def test_what_is_read_of_a_strategy_is_true_of_the_instance(option):
    config = OmegaConf.create({"seed": 0, "gradient": OmegaConf.load(option)})
    section = OmegaConf.to_container(config, resolve=True)["gradient"]
    plugin = signatures.read(section["_target_"])
    given = {"carry_influence": False} if "carry_influence" in plugin.settings else {}
    for settings in ({}, given):
        strategy = instantiate({**section, **settings})
        for claim in ("exact_within_chunk", "exact_across_chunks", "unbiased"):
            assert plugin.claim(claim, settings) is getattr(strategy, claim)


def test_a_claim_counts_as_an_implementation(package):
    package(
        "base.py",
        "from abc import *\nclass Base(ABC):\n @property\n @abstractmethod\n"
        " def exact(self): ...\n @abstractmethod\n def run(self): ...\n",
    )
    name = package("leaf.py", "from .base import Base\nclass Leaf(Base):\n exact = True\n")
    assert classes.unimplemented(f"{name}.leaf.Leaf") == ["run"]


def test_old_names_of_classes_are_read_and_made():
    for old, new in {"rtrl.Rtrl": "RTRL", "snap1.Snap1": "SnAp1", "rflo.Rflo": "RFLO"}.items():
        target = f"bptt_lab.gradients.{old}"
        plugin = signatures.read(target)
        current = signatures.read(f"{target.rpartition('.')[0]}.{new}")
        assert (plugin.settings, plugin.claims) == (current.settings, current.claims)
        targets.check_target("gradient._target_", target, targets.KINDS["gradient"], ())
        assert type(instantiate({"_target_": target})).__name__ == new


def test_a_target_may_be_a_packages_public_name():
    assert classes.find("bptt_lab.gradients.Truncated").module == "bptt_lab.gradients.truncated"
    assert instantiate({"_target_": "bptt_lab.gradients.Truncated", "k": 3}).k == 3


def test_a_plugin_of_the_users(package):
    name = package(
        "deep/strategy.py",
        """
from __future__ import annotations
import nowhere_to_be_found
from typing import Annotated, ClassVar, Literal
from bptt_lab.core.validation import AtLeast, AtMost, checked
LONGEST = 9
class Mine(nowhere_to_be_found.Base):
    unbiased: ClassVar[bool] = True
    cost = "O(1)"
    computed = 1 + LONGEST
    undecided: int
    @checked
    def __init__(self, *, k: Annotated[int, AtLeast(1), AtMost(LONGEST)],
                 mode: "Literal['a']" = "a", other: nowhere_to_be_found.Thing = None,
                 plain=3, made: list[float] = [1.0], late: float = float("nan"),
                 **rest) -> None: ...
""",
    )
    plugin = signatures.read(f"{name}.deep.strategy.Mine")
    assert plugin.claims == {"unbiased": True, "cost": "O(1)"}
    assert plugin.takes_any
    assert plugin.settings == {
        "k": Setting(Annotated[int, Ge(1), Le(9)], UNKNOWN, required=True),
        "mode": Setting(Literal["a"], "a"),
        "other": Setting(Any, None),
        "plain": Setting(Any, 3),
        "made": Setting(list[float], [1.0]),
        "late": Setting(float, UNKNOWN),
    }
    assert name not in sys.modules


def test_settings_are_inherited_and_names_imported(package):
    package("base.py", "class Base:\n    def __init__(self, k: int = 1): ...\n")
    package("leaf.py", "from .base import Base as B\nclass Leaf(B): ...\nclass Bare: ...\n")
    package("sub/__init__.py", "from ..leaf import Leaf as Renamed\n")
    name = package("shut.py", "from .leaf import Leaf\nclass Shut(Leaf):\n def __init__(self): ...")
    assert signatures.read(f"{name}.leaf.Leaf").settings == {"k": Setting(int, 1)}
    assert signatures.read(f"{name}.sub.Renamed").settings == {"k": Setting(int, 1)}
    assert signatures.read(f"{name}.leaf.Bare").settings == {}
    assert signatures.read(f"{name}.shut.Shut").settings == {}


FAMILY = """
from abc import ABC
from nowhere_to_be_found import Unknown
SIZE = 4
class Root(ABC):
    def __init__(self, *, seed: int = 0, size: int = SIZE, loss: str = "a"): ...
class Left(Root):
    def __init__(self, *, left: int = 1, **rest):
        super().__init__(loss="b", **rest)
class Right(Root):
    def __init__(self, *, right: int = 2, **rest):
        super().__init__(**rest)
class Both(Left, Right):
    def __init__(self, *, own: int = 3, size: int = 5, **rest):
        super().__init__(size=size, **rest)
class Swallows(Root):
    def __init__(self, **rest):
        super().__init__()
class Beyond(Unknown, Root):
    def __init__(self, *, own: int = 3, **rest):
        super().__init__(**rest)
"""


def test_settings_handed_on_are_those_of_the_next_constructor(package):
    name = package("family.py", FAMILY)
    both = signatures.read(f"{name}.family.Both")
    assert both.settings == {
        "own": Setting(int, 3),
        "size": Setting(int, 5),
        "left": Setting(int, 1),
        "right": Setting(int, 2),
        "seed": Setting(int, 0),
    }
    assert list(both.settings) == ["own", "size", "left", "right", "seed"]
    assert not both.takes_any
    for shut, settings in {"Swallows": {}, "Beyond": {"own": Setting(int, 3)}}.items():
        plugin = signatures.read(f"{name}.family.{shut}")
        assert (plugin.settings, plugin.takes_any) == (settings, True)


def test_an_annotation_is_evaluated_only_where_it_is_one(package, tmp_path):
    canary = tmp_path / "canary"
    name = package(
        "hostile.py",
        f"""
CLASSES = [3]
class Hostile:
    def __init__(self, *,
        a: ().__class__.__base__.__subclasses__() = 1,
        b: [c for c in ().__class__.__mro__[1].__subclasses__()
            if c.__name__ == 'Quitter'][0].__init__.__globals__['open']({str(canary)!r}, 'w') = 1,
        c: 9 ** 9 ** 9 ** 9 = 1,
        d: (lambda: int)() = 1,
        e: "CLASSES[0] | int" = 1,
        f: list[int] | None = None): ...
""",
    )
    settings = signatures.read(f"{name}.hostile.Hostile").settings
    assert [settings[key].hint for key in "abcdef"] == [Any] * 5 + [list[int] | None]
    assert not canary.exists()


def test_a_class_is_known_by_where_it_stands_and_what_it_descends_from(package):
    package(
        "base.py", "import abc\nclass Base(abc.ABC):\n @abc.abstractmethod\n def a(self): ...\n"
    )
    package(
        "deep/__init__.py",
        """
from abc import abstractmethod
from typing import Generic
import nowhere_to_be_found
from .. import base as there
class Leaf(there.Base, Generic[int]):
    def b(self): ...
    @abstractmethod
    def c(self): ...
class Twig(Leaf):
    def c(self): ...
class Odd(nowhere_to_be_found.Thing): ...
class Made(type("X", (), {})): ...
""",
    )
    name = package("front.py", "from .deep import *\nfrom .deep import Twig as Bough\n")
    for target in (f"{name}.front.Twig", f"{name}.front.Bough"):
        assert classes.find(target).module == f"{name}.deep"
    assert classes.descends(f"{name}.front.Bough", f"{name}.base.Base") is True
    assert classes.descends(f"{name}.front.Bough", f"{name}.base.Other") is False
    assert classes.descends(f"{name}.deep.Odd", f"{name}.base.Base") is None
    assert classes.descends(f"{name}.deep.Made", f"{name}.base.Base") is None
    assert classes.unimplemented(f"{name}.deep.Leaf") == ["c", "a"]
    assert classes.unimplemented(f"{name}.deep.Twig") == ["a"]


@pytest.mark.parametrize("target", ["torch.optim.SGD", "torch.nn.LSTM", "bptt_lab.tasks.text.Text"])
def test_what_is_read_of_a_lineage_is_what_python_says(target):
    kind = get_class(target)
    assert classes.find(target).module == kind.__module__
    for ancestor in kind.__mro__[:-1]:
        dotted = f"{ancestor.__module__}.{ancestor.__qualname__}"
        if ancestor.__module__.partition(".")[0] not in sys.stdlib_module_names:
            assert classes.descends(target, dotted) is True, dotted


def test_imports_in_a_circle_end(package):
    package("one.py", "from .two import Thing\n")
    name = package("two.py", "from .one import Thing\n")
    with pytest.raises(ConfigError, match="has no class 'Thing'"):
        signatures.read(f"{name}.one.Thing")


def test_torch_is_read_like_any_other():
    plugin = signatures.read("torch.optim.SGD")
    assert plugin.settings["params"].required
    assert plugin.settings["nesterov"] == Setting(bool, False)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere_at_all.Strategy", "there is no module 'nowhere_at_all'.*PYTHONPATH"),
        ("bptt_lab.gradients.nope.Full", "there is no module 'bptt_lab.gradients.nope'"),
        ("bptt_lab.gradients.full.Ful", "has no class 'Ful'; it has Full"),
        ("torch.optim.Adm", "it has .*Adam"),
        ("sys.path", "there is no module 'sys'"),
        ("Full", "must name a class, as package.module.Class"),
        ("", "must name a class"),
        ("a..b", "must name a class"),
        ("a.b; import os", "must name a class"),
    ],
)
def test_what_is_not_there(target, message):
    with pytest.raises(ConfigError, match=message):
        signatures.read(target)


def test_a_file_that_does_not_parse(package):
    name = package("broken.py", "x = 1\nclass Broken(:\n")
    with pytest.raises(ConfigError, match=r"broken\.py, line 2 is not Python"):
        signatures.read(f"{name}.broken.Broken")
