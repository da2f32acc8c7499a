"""Hydra's and OmegaConf's errors, each on one line with its way out.

Their messages span lines, point at syntax that helps nobody ("to append to your config use +k=0")
or at pages elsewhere; here each becomes `key=value: what is wrong; what to do`.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import yaml  # type: ignore[import-untyped]  # its stubs are another package
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bptt_lab.config import signatures, targets
from bptt_lab.config.compose import CommandLine
from bptt_lab.config.hints import hint
from bptt_lab.config.schema import key_of, suggest
from bptt_lab.core.messages import printable
from bptt_lab.core.validation import ConfigError

HELP = "bptt-train --help lists what there is"
# What Hydra and OmegaConf raise for what users write.
MISTAKES = (
    HydraException,
    OmegaConfBaseException,
    yaml.YAMLError,
    *(ValueError, TypeError, KeyError, AttributeError, ImportError, OSError, RecursionError),
)
QUOTING = """write key=value, and a text with special characters as 'key="a text"'"""


@contextmanager
def on_one_line(command: CommandLine | None, lines: list[str]) -> Iterator[None]:
    """Turn whatever Hydra raises for overrides into a ConfigError that a terminal can show.

    The command composes what suggestions are made from.
    """
    try:
        yield
    except ConfigError as error:
        raise ConfigError(printable(str(error))) from error
    except MISTAKES as error:
        if is_of_output(error):
            raise
        raise ConfigError(printable(explain(error, command, lines))) from error


def is_of_output(error: Exception) -> bool:
    """Whether an answer could not be printed: such an error names no file."""
    return isinstance(error, OSError) and error.errno is not None and error.filename is None


def explain(error: Exception, command: CommandLine | None, lines: list[str]) -> str:
    """Say what an error means for the overrides that caused it, and what to do."""
    message, cause = str(error), error.__cause__
    if isinstance(error, MissingConfigException):
        return _missing(error, lines)
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read ({_unreadable(error)}); {QUOTING}"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        place = f"{error.problem_mark.name}, line {error.problem_mark.line + 1}"
        return f"{place}: cannot be read as YAML ({error.problem}); correct it"
    if isinstance(error, RecursionError):
        return f"{' '.join(lines)}: is nested too deeply; give fewer levels"
    if key := _named(r"^Could not override '([^']*)'", message):
        return _unknown(key, command, lines)
    sweep = r"^(?:Ambiguous value for argument|Sweep parameters) '(.*?)'(?:\n| requires)"
    if line := _named(sweep, message):
        return f"{line}: is a sweep; add -m for one job a value, or write [...] for a list"
    twice = r"^(?:Could not append.*item is already at '([^']*)'|([^ ]*) appears more than once in)"
    if key := _named(twice, message):
        line = _line(key, lines)
        return f"{line}: {key} is there already; write {line.lstrip('+')}"
    if key := _named(r"^Could not delete(?: from config\.)? '([^']*)'", message):
        return f"~{key}: there is nothing of that name to delete; leave it out"
    if message.startswith("Config group override must be"):
        return _choice(command, lines)
    if isinstance(cause, OmegaConfBaseException):
        subject = message.partition("Error merging override ")[2] or cause.full_key or message
        return f"{subject}: {_first(cause)}; correct it or leave it out"
    if isinstance(error, OmegaConfBaseException):
        subject = _line(error.full_key or "configuration", lines)
        return f"{subject}: {_first(error)}; give a value instead"
    kind = "" if isinstance(error, HydraException) and message else f"{type(error).__name__}: "
    hydra = [line for line in lines if line.lstrip("+~").startswith("hydra")]
    return f"{' '.join(hydra or lines)}: cannot be used ({kind}{message}); {HELP}"


def compose_choices(command: CommandLine, lines: list[str]) -> DictConfig:
    """Compose the options that the overrides choose, with no value set."""
    try:
        return command.outline([*command.searchpath, *lines], RunMode.RUN)
    except (HydraException, OmegaConfBaseException, ConfigError):  # the complaint is about one
        return command.outline([], RunMode.RUN)


def _unreadable(error: OverrideParseException) -> str:
    """Say in words what Hydra's parser says in terms of its grammar."""
    if evaluated := re.search(r" while evaluating '.*?': (.*)", str(error)):
        return evaluated[1]
    unpaired = "a bracket or a quote has no pair, or a character needs quotes"
    return unpaired if "=" in error.override else "it has no ="


def _missing(error: MissingConfigException, lines: list[str]) -> str:
    message, wanted = str(error), error.missing_cfg_file or ""
    group, _, option = wanted.removesuffix(".yaml").rpartition("/")
    if error.missing_cfg_file is None:
        return f"--config-path: {' '.join(message.split())}; give one that exists, or leave it out"
    if not group:
        return f"--config-name={option}: there is no such file; leave it out, or add --config-dir"
    options = list(error.options or [])
    close = suggest(option, options)
    every = f" There are {', '.join(options)}" if close.startswith("did you mean") else ""
    return f"{group}={option}: there is no such option; {close}{every}"


def _named(pattern: str, message: str) -> str:
    """Return what a pattern finds in a message by its first group that does; empty for nothing."""
    match = re.search(pattern, message, re.DOTALL)
    return next(filter(None, match.groups()), "").strip() if match else ""


def _unknown(key: str, command: CommandLine | None, lines: list[str]) -> str:
    line = _line(key, lines)
    if command is None:
        return f"{line}: there is no such setting; {HELP}"
    for override in command.parse(lines):  # gradient={k:2} is about gradient.k
        if override.key_or_group == key and isinstance(value := override.value(), dict):
            key = f"{key}.{next(iter(value), '')}"
    config = compose_choices(command, lines)
    choices = config.hydra.runtime.choices
    names = [str(name) for name in config if name != "hydra" or key.startswith("hydra")]
    plain = OmegaConf.to_container(OmegaConf.masked_copy(config, names), resolve=False)
    known = [name for name, _ in targets.walk(plain) if not name.endswith("_target_")]
    parent, _, leaf = key.rpartition(".")
    same_leaf = [name for name in known if name.rpartition(".")[2] == leaf]
    siblings = [name for name in known if name.rpartition(".")[0] == parent]
    takers = command.takers(parent, leaf) if parent in choices else ""
    target = OmegaConf.select(config, f"{parent}._target_", default=None)
    if target and leaf in signatures.read(target).settings:
        way_out = f"{parent} has it, but no value for it; write +{line.lstrip('+')}"
    elif takers:
        way_out = f"{parent}={choices[parent]} does not take it; choose {takers}"
    elif same_leaf and parent != same_leaf[0]:
        way_out = f"did you mean {same_leaf[0]}?"
    elif foreign := hint(key):
        way_out = foreign
    elif parent in choices and not siblings:
        way_out = f"{parent}={choices[parent]} takes none; leave it out, or choose another {parent}"
    else:
        way_out = suggest(key, siblings or [name for name in known if "." not in name])
    return f"{line}: there is no such setting; {way_out}"


def _choice(command: CommandLine | None, lines: list[str]) -> str:
    for override in command.parse(lines) if command else []:
        if override.is_sweep_override() or override.is_delete():
            continue
        if command and command.is_group(override) and not isinstance(override.value(), str | list):
            options = suggest("", command.options(override.key_or_group))
            return f"{override.input_line}: must name an option; {options}"
    return f"{' '.join(lines)}: a group must name one of its options; {HELP}"


def _first(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _line(key: str, lines: list[str]) -> str:
    """The override that sets a key; the key itself where none does."""
    sets = [line for line in lines if key_of(line) == key]
    return sets[-1] if sets else key
