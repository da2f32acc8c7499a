"""A gradient strategy by the name of its option, conf/gradient/NAME.yaml."""

from __future__ import annotations

from importlib import resources
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from bptt_lab.config import signatures, targets
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients.base import GradientStrategy

# Of `truncated`, where the command line says nothing: its file's k would cut nothing here.
SMALL = {"k": 2, "mode": "lag"}


def names() -> list[str]:
    """Return the options of the group `gradient`, in order."""
    folder = resources.files("bptt_lab.conf") / "gradient"
    return sorted(file.name[:-5] for file in folder.iterdir() if file.name.endswith(".yaml"))


def build(name: str, given: dict[str, Any]) -> GradientStrategy:
    """Make the strategy that an option describes.

    Args:
        name: of the option.
        given: settings to replace the file's.

    Raises:
        ConfigError: for an option that does not exist, a class that is not bptt_lab's, or a
            setting that it lacks or refuses.
    """
    if name not in names():
        raise ConfigError(f"--gradient {name}: must be one of {', '.join(names())}")
    file = resources.files("bptt_lab.conf") / "gradient" / f"{name}.yaml"
    option = OmegaConf.create(file.read_text(encoding="utf-8"))
    # What an option takes from the experiment around it is its seed.
    around: Any = OmegaConf.to_container(
        OmegaConf.create({"seed": 0, "gradient": option}), resolve=True
    )
    config = around["gradient"]
    for key, target in targets.targets(config, "gradient"):
        kinds = targets.KINDS["gradient"]
        targets.check_target(key, target, kinds, (), ours=("bptt_lab",))
    accepted = signatures.read(config["_target_"]).settings
    for key, value in given.items():
        if key not in accepted:
            has = f"it has {', '.join(accepted)}" if accepted else "it has no settings"
            raise ConfigError(f"--{key} {value}: --gradient {name} has no {key} ({has}); drop it")
    small = SMALL if name == "truncated" else {}
    try:
        strategy = instantiate({**config, **small, **given}, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            key, _, problem = str(error.__cause__).partition("=")
            raise ConfigError(f"--{key} {problem}") from error
        raise
    assert isinstance(strategy, GradientStrategy)
    return strategy
