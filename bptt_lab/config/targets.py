"""The classes a configuration may name; nothing else is imported or called for a `_target_`.

A `_target_` is text from a file or a command line, and Hydra would import and call whatever it
names, `os.system` too. Here it must be a class, it must stand in a package of `OURS` or in one
that the command line allows (`allow=[mypkg]`), and it must be of the kind that its place asks for.
`bptt_lab.config.classes` reads all of that from source text: a refusal has imported nothing.
"""

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping

from bptt_lab.config import classes
from bptt_lab.config.schema import MISSING, allowed, refuse
from bptt_lab.core.validation import ConfigError

OURS = ("bptt_lab", "torch.optim", "torch.nn", "lightning.pytorch.callbacks")
# What a class must descend from, by its place in the configuration ...
KINDS: Mapping[str, tuple[str, ...]] = {
    "gradient": ("bptt_lab.gradients.base.GradientStrategy",),
    "dataset": ("bptt_lab.tasks.base.SequenceDataModule",),
    "optimizer": ("torch.optim.optimizer.Optimizer",),
    "schedule": ("bptt_lab.training.schedules.Schedule",),
    "callbacks": ("lightning.pytorch.callbacks.callback.Callback",),
}
# ... and anywhere inside of a plug-in's settings: what computes, not what writes files.
PARTS = (
    *(kind for kinds in KINDS.values() for kind in kinds),
    "torch.nn.modules.module.Module",
)
# Whoever allows one of these allows torch.load, os.system and the like; as is each module of the
# standard library.
NEVER = {"__main__", "torch", "lightning", "hydra", "omegaconf", "numpy", "yaml"}
# Of hydra.utils.instantiate: they change what a call gets, past the settings that are checked.
_KEYWORDS = ("_args_", "_partial_", "_convert_", "_recursive_")


def packages(allow: str | Iterable[str]) -> tuple[str, ...]:
    """Return the packages that a value of `allow` names; each stands for what is below it too.

    Raises:
        ConfigError: for what is no dotted name, is not there, or reaches far more than a plug-in.
    """
    names = allowed(allow)
    for name in names:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            refuse("allow", [name], "must name packages, as allow=[mypkg]")
        head = name.partition(".")[0]
        if head in NEVER or head in sys.stdlib_module_names:
            problem = f"would let a configuration do all that '{head}' can"
            refuse("allow", [name], f"{problem}; allow the package of your own class")
        if importlib.util.find_spec(head) is None:
            refuse("allow", [name], "there is no such package here; install it, or leave it out")
    return names


def covers(prefixes: Iterable[str], dotted: str) -> bool:
    """Tell whether a dotted name is one of some packages, or stands below one.

    >>> covers(["mypkg"], "mypkg.tasks.Mine"), covers(["mypkg"], "mypkgevil.Mine")
    (True, False)
    """
    return any(dotted == prefix or dotted.startswith(f"{prefix}.") for prefix in prefixes)


def refuse_foreign(config: Mapping[str, object], allow: str | Iterable[str] = ()) -> None:
    """Refuse a configuration that names, anywhere in it, what may not be instantiated.

    It is in plain containers, without Hydra's section; `allow` is as on the command line.
    """
    trusted = packages(allow)
    for key, target in targets(config):
        section, _, name = key.removesuffix("._target_").partition(".")
        whole = "." not in name if section == "callbacks" else not name
        check_target(key, target, KINDS.get(section, PARTS) if whole else PARTS, trusted)


def targets(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Yield the dotted key and the value of every `_target_` in plain containers.

    Raises:
        ConfigError: for another keyword of `hydra.utils.instantiate`.
    """
    for inner, item in walk(value, key):
        name = inner.rpartition(".")[2]
        if name in _KEYWORDS:
            refuse(inner, item, "there is no such setting; leave it out")
        if name == "_target_":
            yield inner, item


def walk(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Yield each item of nested containers, and then those in it, by their dotted keys."""
    items: Iterable[tuple[object, object]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for name, item in items:
        inner = f"{key}.{name}" if key else str(name)
        yield inner, item
        yield from walk(item, inner)


def check_target(
    key: str,
    target: object,
    kinds: tuple[str, ...],
    trusted: tuple[str, ...],
    ours: tuple[str, ...] = OURS,
) -> None:
    """Refuse a target that is no class of one of the kinds in a permitted package.

    That is one of `ours`, or one that the user trusts. What a class of the latter descends from may
    be beyond reading; only then it is taken at its word.
    """
    if not isinstance(target, str) or target == MISSING:
        refuse(key, target, "must name a class, as package.module.Class")
    if not covers((*ours, *trusted), target):
        refuse(key, target, f"is not in {_listed(ours)}; {_way_out(target)}")
    try:
        home = classes.find(target).module
    except ConfigError as error:
        raise ConfigError(f"{key}={target}: {error}") from error
    if not covers((*ours, *trusted), home):
        problem = f"is defined in {home}, which is not in {_listed(ours)}"
        refuse(key, target, f"{problem}; {_way_out(home)}")
    descends = [classes.descends(target, kind) for kind in kinds]
    if any(descends) or (None in descends and covers(trusted, home)):
        if missing := ", ".join(classes.unimplemented(target)):
            refuse(key, target, f"is an interface, without {missing}; name a class that is whole")
        return
    wanted = [kind.rpartition(".")[2] for kind in kinds]
    refuse(key, target, f"must be a {_listed(wanted)}; name another class")


def _way_out(dotted: str) -> str:
    head = dotted.partition(".")[0]
    if head in NEVER or head in sys.stdlib_module_names or not head.isidentifier():
        return "name a class of these packages"
    return f"if you trust that package, add allow=[{head}] to the command line"


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
