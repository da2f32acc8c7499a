"""From what Hydra composed to a typed `Experiment`: everything is refused here, before torch."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bptt_lab.config import (
    components,
    gpus,
    loggers,
    memory_limit,
    metrics,
    schema,
    signatures,
    strategies,
    targets,
)
from bptt_lab.config.components import refuse_unknown, validate
from bptt_lab.config.schema import Component, Experiment, fields, refuse
from bptt_lab.config.signatures import Setting
from bptt_lab.config.strategies import Options
from bptt_lab.core.validation import ConfigError, too_many

Composed = Mapping[str, Any]  # plain containers, interpolations resolved


def parse(composed: Composed, *, options: Options | None = None, here: bool = True) -> Experiment:
    """Validate a composed configuration, without Hydra's section, and return it typed.

    Args:
        composed: settings of `Control` may be left out.
        options: the strategies there are, for `callbacks.shadow`; the package's own by default.
        here: whether it will run on this machine, so that its GPUs and memory may be asked for.

    Raises:
        ConfigError: naming the dotted key, the value, the limit and the way out, on one line.
    """
    composed = {**schema.UNSAID, **composed}
    _refuse_keys(composed)
    given = _only(composed, schema.CONTROL)
    control = _section("", schema.Control, {**vars(schema.Control()), **given})
    general = _only(composed, fields(schema.General))
    validate("", general, fields(schema.General))
    loggers.read(general.get("loggers"))
    targets.refuse_foreign(composed, control.allow)
    seed = general["seed"]
    sections: dict[str, Any] = {
        **{name: components.component(name, composed[name]) for name in schema.PLUGIN_SECTIONS},
        **{name: _section(name, kind, composed[name]) for name, kind in schema.SECTIONS.items()},
    }
    general["metrics"] = metrics.read(general.get("metrics"), sections["dataset"])
    if sections["trainer"].fast_dev_run:  # as Lightning has it
        sections["trainer"] = replace(sections["trainer"], max_epochs=1, val_check_interval=None)
    sections["dataset"] = Component.of(placed(sections["dataset"].section()))
    experiment = Experiment(
        **general,
        **sections,
        callbacks=_callbacks(composed["callbacks"], control.allow, seed, options),
        control=control,
    )
    _refuse_rules(experiment)
    _refuse_optimizer(experiment)
    _refuse_endless(experiment)
    _refuse_segments(experiment)
    _refuse_device(experiment, here)
    memory_limit.refuse_influence(experiment)
    if here:
        memory_limit.refuse_above(experiment, memory_limit.installed())
    return experiment


def placed(dataset: Composed, folder: str = "") -> dict[str, Any]:
    """Return a section with its data's `path` absolute, as meant in this or another folder."""
    path = dataset.get("path")
    if not isinstance(path, str) or not path:
        return dict(dataset)
    return {**dataset, "path": os.path.abspath(os.path.join(folder, os.path.expanduser(path)))}


def _only(values: Composed, names: Iterable[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _refuse_keys(composed: Composed) -> None:
    """Refuse a key that there is not, and a section that is missing."""
    sections = (*schema.SECTIONS, *schema.PLUGIN_SECTIONS, "callbacks")
    known = [*fields(schema.General), *schema.CONTROL, *sections]
    if "experiment" in composed:
        problem = "a preset's file must begin with '# @package _global_'"
        refuse("experiment", composed["experiment"], problem)
    refuse_unknown("", composed, known)
    for name in sections:
        if name not in composed:
            raise ConfigError(f"{name}: the section is missing; choose one with {name}=...")
        if not isinstance(composed[name], Mapping):
            refuse(name, composed[name], f"must be a section; set its keys, as {name}.key=value")


def _section(name: str, kind: Any, values: Composed) -> Any:
    """Validate a fixed section and return it as its dataclass."""
    refuse_unknown(name, values, fields(kind))
    validate(name, values, fields(kind))
    return kind(**values)


def _callbacks(
    values: Composed, allow: str | Sequence[str], seed: int, options: Options | None
) -> schema.Callbacks:
    own = {**fields(schema.Callbacks), "shadow": Setting(list[object], required=True)}
    del own["instruments"]
    instruments = {}
    validate("callbacks", values, own)
    for name, value in values.items():
        if isinstance(value, Mapping):
            instruments[name] = components.component(f"callbacks.{name}", value)
        elif value is not None:
            refuse_unknown("callbacks", {name: value}, own)
    options = options or strategies.packaged()
    shadows = strategies.shadows(values["shadow"], seed, options, allow)
    return schema.Callbacks(values["every_n_steps"], values["probe_size"], shadows, instruments)


def _refuse_optimizer(experiment: Experiment) -> None:
    """Hold torch's rules, which torch itself only states once it builds or uses the optimizer."""
    optimizer, given = experiment.optimizer, experiment.optimizer.settings
    if optimizer.target == "torch.optim.SGD" and given.get("nesterov"):
        if not given.get("momentum"):
            refuse("optimizer.nesterov", True, "needs optimizer.momentum greater than 0, as 0.9")
        if given.get("dampening"):
            refuse("optimizer.nesterov", True, "needs optimizer.dampening=0")
    if given.get("capturable") and experiment.device.accelerator == "cpu":
        refuse("optimizer.capturable", True, "is for CUDA graphs; use it with device=gpu")


def _refuse_endless(experiment: Experiment) -> None:
    """Refuse a run that has no end, or none that its schedule could know beforehand."""
    trainer, schedule = experiment.trainer, experiment.schedule
    if trainer.max_epochs is not None or trainer.max_steps is not None:
        return
    if trainer.max_time is None:
        problem = "needs trainer.max_steps or trainer.max_time instead; give one of the three"
        refuse("trainer.max_epochs", None, problem)
    if signatures.read(schedule.target).claim("needs_end", schedule.settings):
        problem = "depends on the number of steps; give trainer.max_epochs or trainer.max_steps"
        refuse("schedule._target_", schedule.target, problem)


def _refuse_rules(experiment: Experiment) -> None:
    """Refuse layers, and an embedding, that a strategy cannot train, be it one that watches."""
    layers, whole = experiment.model.num_layers, experiment.segment_length is None
    watching = experiment.callbacks.shadow.values() if whole else ()
    for component in (experiment.gradient, *watching):
        rule = component.target.rpartition(".")[2]
        most = signatures.read(component.target).claims.get("max_layers")
        if problem := too_many(layers, rule, most):
            refuse("model.num_layers", layers, problem)
    for name, instrument in experiment.callbacks.instruments.items():
        most = signatures.read(instrument.target).claims.get("max_layers")
        if most is not None and layers > most:
            problem = f"must be at most {most}, since callbacks.{name} follows no more layers"
            refuse("model.num_layers", layers, f"{problem}; use callbacks.{name}=null")
    size, target = experiment.model.embedding_size, experiment.gradient.target
    if size is not None and signatures.read(target).claims.get("input_gradient") is False:
        problem = f"must be null, since {target.rpartition('.')[2]} has a gradient for parameters"
        way_out = "only; use gradient=full, checkpointed or truncated"
        refuse("model.embedding_size", size, f"{problem} {way_out}")


def _refuse_segments(experiment: Experiment) -> None:
    """A loss in segments has full BPTT's gradient, whichever exact strategy was chosen."""
    length, model = experiment.segment_length, experiment.model
    if length is None:
        return
    plugin, settings = signatures.read(experiment.gradient.target), experiment.gradient.settings
    if plugin.claim("exact_across_chunks", settings):
        problem = "carries no influence, as this strategy does; use gradient=checkpointed"
        refuse("segment_length", length, problem)
    if not plugin.claim("exact_within_chunk", settings):
        refuse("segment_length", length, "needs an exact strategy; use gradient=checkpointed")
    if model.dropout > 0 and model.num_layers > 1:
        refuse("segment_length", length, "cannot drop units; use model.dropout=0")
    if model.embedding_size is not None:
        refuse("segment_length", length, "cannot train an embedding; use model.embedding_size=null")


def _refuse_device(experiment: Experiment, here: bool) -> None:
    batch_size = experiment.dataset.settings.get("batch_size")
    accelerator, devices = experiment.device.accelerator, experiment.device.devices
    if isinstance(batch_size, int) and batch_size < devices:
        problem = f"must be at least device.devices={devices}, one sequence for each process"
        refuse("dataset.batch_size", batch_size, problem)
    if not here or accelerator == "cpu" or (accelerator == "auto" and devices == 1):
        return
    found = gpus.count()
    if accelerator == "gpu" and found == 0:
        refuse("device.accelerator", "gpu", "no CUDA GPU is visible here; use device=cpu")
    if 0 < found < devices:
        problem = f"must be at most {found}, the GPUs visible here; use device.devices={found}"
        refuse("device.devices", devices, problem)
