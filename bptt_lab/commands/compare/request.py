"""What is compared on what: one validated configuration, and a section for every strategy.

It comes from a command line like bptt-train's, or from a run's manifest. Nothing here imports
torch, so that a mistake is refused at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from bptt_lab import runs
from bptt_lab.commands.train.plan import make_plan
from bptt_lab.config import arguments, output_paths, schema, signatures, strategies, targets
from bptt_lab.config.compose import CommandLine
from bptt_lab.config.errors import on_one_line
from bptt_lab.config.parse import parse
from bptt_lab.config.schema import Component, Experiment
from bptt_lab.config.security import open_command_line
from bptt_lab.core.validation import ConfigError

CHECKPOINTS = ("last.ckpt", "best.ckpt")
TRUNCATED = "truncated"
CPU = {"accelerator": "cpu", "devices": 1}


class Option(NamedTuple):
    """A gradient strategy as its file, or the configuration, describes it."""

    name: str  # of the option
    component: Component

    @property
    def k(self) -> int | None:
        """The truncation lag, of a strategy that has one."""
        return self.component.settings.get("k")

    @property
    def mode(self) -> str:
        """Of truncation; empty without one."""
        return str(self.component.settings["mode"]) if self.name == TRUNCATED else ""

    @property
    def label(self) -> str:
        """How to call it in one word or two."""
        return f"{self.name} {self.mode}".rstrip()


@dataclass(frozen=True)
class Request:
    """One batch's configuration, validated, and the strategies to compare on it."""

    experiment: Experiment  # the whole, bptt-train's
    title: str  # "adding, orthogonal"
    options: Sequence[Option]  # of the group `gradient`, truncated ones left out
    truncated: Option | None  # as the configuration has it, or else its file
    refused: Mapping[str, str]  # options that this configuration rules out, and why
    checkpoint: Path | None = None


def read(
    overrides: Sequence[str], checkpoint: Path | None, wanted: Sequence[str] | None
) -> Request:
    """Validate a command line and collect its strategies.

    Args:
        overrides: Hydra's, with its --config-dir and the like among them.
        checkpoint: a run's folder, or a checkpoint in it, to take the trained parameters of.
        wanted: the options to compare; None for all there are.

    Raises:
        ConfigError: naming key, value, limit and way out, on one line.
    """
    output_paths.register()
    args = arguments.parse_arguments([*overrides])
    if args.multirun or args.cfg or args.info or args.shell_completion or args.hydra_help:
        raise ConfigError("-m, --cfg, --info: one setting is compared here; leave them out")
    with on_one_line(None, args.overrides):
        command, _ = open_command_line(args)
        if checkpoint is None:
            experiment, choices, file = _composed(command)
        else:
            experiment, choices, file = _trained(command, checkpoint)
        known = command.strategies.names()
        for name in wanted or ():
            if name not in known:
                raise ConfigError(f"--strategies={name}: must be one of {', '.join(known)}")
        names = [name for name in known if name in (wanted or command.strategies.trusted())]
    options, refused = {}, {}
    plain = {**experiment.plain(), "allow": experiment.control.allow}
    for name in names:
        try:
            with on_one_line(None, args.overrides):
                chosen = name == choices.get("gradient")
                section = (
                    experiment.gradient.section() if chosen else command.strategies.section(name)
                )
                plain["gradient"] = strategies.resolved(section, experiment.seed)
                options[name] = Option(name, parse(plain).gradient)
        except ConfigError as error:
            refused[name] = str(error)
    title = ", ".join(choices[group] for group in ("dataset", "model") if group in choices)
    truncated = options.pop(TRUNCATED, None)
    return Request(experiment, title, list(options.values()), truncated, refused, file)


def truncations(request: Request, ks: Sequence[int]) -> list[Option]:
    """Every mode of truncation at every k, and the configuration's own setting."""
    base = request.truncated
    if base is None:
        return []
    setting = signatures.read(base.component.target).settings.get("mode")
    modes = setting.choices if setting else ()
    settings = [(mode, k) for mode in modes for k in ks]
    if base.component == request.experiment.gradient:
        settings.append((base.mode, cast(int, base.k)))
    found = {}
    for mode, k in dict.fromkeys(settings):
        changed = {**base.component.settings, "mode": mode, "k": k}
        if (mode, k) != (base.mode, base.k):
            changed["k1"] = None
        found[mode, k] = Option(TRUNCATED, Component(base.component.target, changed))
    return sorted(found.values(), key=lambda o: (modes.index(o.mode), cast(int, o.k)))


def _composed(command: CommandLine) -> tuple[Experiment, Mapping[str, str], None]:
    """The configuration of a command line, refused as bptt-train would."""
    for override in command.parse(command.lines):
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line}: is a sweep; compare one of its values")
    plan = make_plan(command.args)
    if plan.sweep_dir is not None:
        line = " ".join(command.lines)
        raise ConfigError(f"{line}: is a sweep; give the settings of one of its jobs")
    experiment = plan.experiments[0]
    if folder := experiment.control.resume:
        raise ConfigError(f"resume={folder}: give --checkpoint {folder}")
    if vars(experiment.device) != CPU:
        shown = schema.show(experiment.device.accelerator)
        raise ConfigError(f"device.accelerator={shown}: strategies are compared on device=cpu")
    return experiment, dict(command.compose(command.lines).hydra.runtime.choices), None


def _trained(command: CommandLine, path: Path) -> tuple[Experiment, Mapping[str, str], Path]:
    """A run's configuration, which its folder may have from anyone, and its checkpoint."""
    file = path if path.suffix == ".ckpt" else None
    folder = path if file is None else path.parent.parent
    shown = f"--checkpoint {path}"
    if file is None:
        places = [folder / "checkpoints" / name for name in CHECKPOINTS]
        file = next((place for place in places if place.is_file()), None)
    if file is None or not file.is_file():
        raise ConfigError(f"{shown}: holds no checkpoint; give a run's folder out of outputs/")
    manifest = runs.read_manifest(folder)
    settings, choices = manifest.get("config"), manifest.get("choices", {})
    if settings is None:
        raise ConfigError(f"{shown}: has no configuration in manifest.json; give a run's folder")
    given: dict[str, Any] = {o.key_or_group: o.value() for o in command.parse(command.lines)}
    if set(given) - {"allow"}:
        line = " ".join(command.lines)
        raise ConfigError(f"{line}: a run's own settings hold with --checkpoint; leave it out")
    allow = list(targets.packages(given.get("allow", [])))
    experiment = parse({**settings, "allow": allow, "device": CPU})
    return experiment, choices, file
