"""Validation of one section: its settings are there, of the right type, in their limits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from bptt_lab.config import schema, signatures
from bptt_lab.config.hints import hint
from bptt_lab.config.schema import Component, refuse, suggest
from bptt_lab.config.signatures import UNKNOWN, Described, Plugin, Setting
from bptt_lab.core.renamed import current
from bptt_lab.core.validation import ConfigError, missing, unmet


@dataclass(frozen=True)
class Length:
    """The list has so many items."""

    number: int

    def unmet(self, value: Any, siblings: Mapping[str, Any]) -> str | None:
        """Say the number where the list has another."""
        return None if len(value) == self.number else f"must be a list of {self.number}"


# torch annotates its optimizers loosely, and checks them late.
TORCH_OPTIM: Mapping[str, object] = {
    "lr": schema.Positive,
    "momentum": schema.Fraction,
    "betas": Annotated[list[schema.Fraction], Length(2)],
    "eps": schema.Positive,
    "weight_decay": schema.NotNegative,
    "alpha": schema.Fraction,
    "lr_decay": schema.NotNegative,
    "momentum_decay": schema.NotNegative,
    "decoupled_weight_decay": bool,
    "nesterov": bool,
    "differentiable": Literal[False],
}
# Of these classes of torch and Lightning it is known beforehand that they end in an error, or in
# numbers that no continued run would give.
_GOES_WRONG = "forgets some of its state, so that a continued run would end otherwise; leave it out"
_MEASURES = "changes a setting behind the manifest's back; use bptt-search"
_AVERAGES = "would average beside the run's own moving average; use trainer.ema_decay"
_FREEZES = "does not know what to freeze here; name a class of your own that derives from it"
UNFIT: Mapping[str, str] = {
    "SparseAdam": "needs sparse gradients, and all of these are dense; use optimizer=adam",
    "Muon": "takes matrices only, and there are biases; use optimizer=adam",
    "BackboneFinetuning": _FREEZES,
    "BaseFinetuning": _FREEZES,
    "BasePredictionWriter": "writes predictions, of which a run makes none; leave it out",
    "BatchSizeFinder": _MEASURES,
    "LearningRateFinder": _MEASURES,
    "GradientAccumulationScheduler": f"{_GOES_WRONG}, or use trainer.accumulate_grad_batches",
    "LambdaCallback": "needs functions; name a class of your own",
    "ModelPruning": _GOES_WRONG,
    "StochasticWeightAveraging": _AVERAGES,
    "WeightAveraging": _AVERAGES,
    "EMAWeightAveraging": _AVERAGES,
    "SpikeDetection": _GOES_WRONG,
    "OnExceptionCheckpoint": "is not needed, as a run saves its own checkpoints; leave it out",
    "ThroughputMonitor": "needs a function; name a class of your own that derives from it",
}
PACKAGES = {"DeviceStatsMonitor": "psutil", "RichModelSummary": "rich", "RichProgressBar": "rich"}
_ELSEWHERE = ("dirpath", "output_dir")  # settings of Lightning's that say where to write


def component(key: str, section: Mapping[str, object]) -> Component:
    """Validate a plug-in's section, interpolations resolved, at a key."""
    if "_target_" not in section:
        refuse(f"{key}._target_", None, "must name a class, as package.module.Class")
    found = Component.of(renamed(section))
    plugin = signatures.read(found.target)
    if found.target.startswith(("torch.optim.", "lightning.")):
        _refuse_unfit(key, found)
    for package, (install, instead) in (plugin.claims.get("needs") or {}).items():
        problem = missing(package, install)
        if problem and instead and found.settings.get(instead) is None:
            refuse(f"{key}.{instead}", None, f"{problem}, or give {key}.{instead}=...")
        if problem and not instead:
            refuse(f"{key}._target_", found.target, problem)
    for name, value in found.settings.items():
        if _is_plugin(value):
            component(f"{key}.{name}", value)
    settings = plugin_settings(plugin)
    if not plugin.takes_any:
        refuse_unknown(key, found.settings, settings)
    validate(key, found.settings, settings)
    return found


def _is_plugin(value: Any) -> bool:
    """Whether a setting is a section that names a class."""
    return isinstance(value, Mapping) and "_target_" in value


def _refuse_unfit(key: str, found: Component) -> None:
    """Refuse what a class of torch's or Lightning's could not do in a run."""
    name, given = found.target.rpartition(".")[2], found.settings
    if name in UNFIT:
        refuse(f"{key}._target_", found.target, UNFIT[name])
    if (package := PACKAGES.get(name)) and (problem := missing(package, package)):
        refuse(f"{key}._target_", found.target, problem)
    monitor = given.get("monitor")
    if isinstance(monitor, str) and not monitor.startswith("val/"):
        refuse(f"{key}.monitor", monitor, "must be a metric of validation; use val/loss")
    for where in (*_ELSEWHERE, "filename"):
        if (where in _ELSEWHERE and where in given) or "/" in str(given.get(where)):
            refuse(f"{key}.{where}", given[where], "a run writes in its own folder; leave it out")


def renamed(value: Any) -> Any:
    """Return plain containers with the present name of every class that has moved."""
    if isinstance(value, Mapping):
        return {
            key: current(item) if key == "_target_" else renamed(item)
            for key, item in value.items()
        }
    return [renamed(item) for item in value] if isinstance(value, list) else value


def plugin_settings(plugin: Plugin) -> Mapping[str, Setting]:
    """What a plug-in's section may hold beside `_target_`."""
    limits = TORCH_OPTIM if plugin.target.startswith("torch.optim.") else {}
    return {
        name: setting._replace(hint=limits.get(name, setting.hint))
        for name, setting in plugin.settings.items()
        if name != "params"
    }


def validate(section: str, values: Mapping[str, object], settings: Mapping[str, Setting]) -> None:
    """Refuse a value that is missing, of another type or outside its limits."""
    prefix = f"{section}." if section else ""
    defaults = {n: s.default for n, s in settings.items() if s.default is not UNKNOWN}
    seen = {n: Described(v) if _is_plugin(v) else v for n, v in values.items()}
    for name, setting in settings.items():
        if values.get(name) == schema.MISSING or (setting.required and name not in values):
            raise ConfigError(f"{prefix}{name}: is missing; give it as {prefix}{name}=...")
        value: Any = values.get(name)
        if name in values and (problem := unmet(seen[name], setting.hint, {**defaults, **seen})):
            if _is_plugin(value):
                refuse(f"{prefix}{name}._target_", value["_target_"], problem)
            refuse(f"{prefix}{name}", value, problem)


def refuse_unknown(section: str, values: Mapping[str, object], known: Iterable[str]) -> None:
    """Refuse a setting that the section does not have."""
    for name in values:
        if name not in known:
            key = f"{section}.{name}" if section else str(name)
            way_out = hint(key) or suggest(name, known)
            refuse(key, values[name], f"there is no such setting; {way_out}")
