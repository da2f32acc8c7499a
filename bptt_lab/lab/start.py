"""Runs and sweeps from Python: the words of a command line, from what Python has."""

import hashlib
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser

from bptt_lab import runs
from bptt_lab.config import schema
from bptt_lab.core.validation import ConfigError
from bptt_lab.lab import process
from bptt_lab.lab.run import Run
from bptt_lab.lab.sweeps import Sweep
from bptt_lab.runs import outcome, signals
from bptt_lab.runs.outcome import Diverged, Interrupted
from bptt_lab.runs.resume import continuing

Overrides = str | Mapping[str, Any]  # "gradient.k=8", or {"gradient.k": 8}
DATA = Path("outputs", "data")  # where data from Python are kept
Place = str | os.PathLike[str]  # a run is the place of its folder


class Failed(RuntimeError):
    """A run failed, by an error of its own or of the machine; the message says which."""


def train(
    *overrides: Overrides,
    data: Any = None,
    folder: Place | None = None,
    resume: Place | None = None,
) -> Run:
    """Train a network, as `bptt-train` does with the same overrides, and wait for it.

    Args:
        overrides: such as "gradient=truncated", "gradient.k=8", or {"gradient.k": 8}.
        data: your own, instead of a dataset: (inputs, targets) and more; see docs/tasks.md.
        folder: where the run writes; None for a new folder in outputs/.
        resume: a run to continue, or its folder; what the run was started or opened with is
            allowed.

    Returns:
        The run, with its results, metrics, pictures and network.

    Raises:
        ConfigError: for settings or data that are refused, with the command's own line.
        Failed: where the run failed.
        Diverged: where loss or gradient were inf or NaN.
        KeyboardInterrupt: after Ctrl-C, or a notebook's interrupt, once the run has saved.
        Interrupted: after another signal.
    """
    known = getattr(resume, "allow", ())  # a path has none
    allowed = [f"allow={_text(list(known))}"] if known else []
    given = _words([*allowed, *overrides], _text)
    words = [*given, *_data(data), *_place("run", folder, resume)]
    if flags := {"-m", "--multirun"}.intersection(words):
        raise ConfigError(f"{flags.pop()}: is of a sweep; use lab.sweep")
    ended = process.run(words)
    found = resume if ended.folder is None else ended.folder
    if ended.code or found is None:
        _raise(ended, "train")
    return Run(Path(found), _allowed(words))


def sweep(
    *space: Overrides,
    launcher: str | None = None,
    data: Any = None,
    folder: Place | None = None,
    resume: Place | None = None,
) -> Sweep:
    """Train a network for each combination of values, as `bptt-train -m` does, and wait for all.

    A job that fails does not end the others; it is in the table, with a warning.

    Args:
        space: {"gradient": ["full", "truncated"], "seed": range(10)}: a list, a tuple, a range, a
            set or an array of one dimension are the values of a key, anything else is its only
            value. Or overrides, as "seed=0,1".
        launcher: how the jobs run: "process" or "fleet", and others in conf/hydra/launcher.
        data: as for `train`.
        folder: where the sweep writes; None for a new folder in outputs/.
        resume: a sweep's folder to continue, with the space that it began with, or none.

    Raises:
        ConfigError: as `train` does.
        KeyboardInterrupt: as `train` does.
        Interrupted: as `train` does.
    """
    words = [*_words(space, _values), *_data(data), *_place("sweep", folder, resume)]
    if resume is not None and not words[:-1]:
        words = continuing(runs.read_sweep_file(Path(resume)), os.fspath(resume))[1:]
    words += [] if launcher is None else [f"hydra/launcher={launcher}"]
    ended = process.run(["-m", *(word for word in words if word != "-m")])
    found = resume if ended.folder is None else ended.folder
    if found is None or ended.code not in (outcome.COMPLETED, outcome.FAILED):
        _raise(ended, "sweep")
    made = Sweep(Path(found), _allowed(words))
    if failed := [run for run in made.runs if run.status != "completed"]:
        first = f"{failed[0].folder.name} ({failed[0].status}: {failed[0].reason})"
        problem = f"{len(failed)} of {len(made.runs)} jobs did not complete, {first} the first"
        warnings.warn(f"{made.folder}: {problem}", stacklevel=2)
    return made


def open(folder: Place, allow: str | Iterable[str] = ()) -> Run | Sweep:
    """Open a run or a sweep that there is, at work or ended.

    Args:
        folder: of the run or the sweep.
        allow: packages beside this one whose classes its network may name.

    Raises:
        ConfigError: for a folder that holds neither.
    """
    path = Path(folder)
    if (path / runs.SWEEP).is_file():
        return Sweep(path, allow)
    if not any((path / name).is_file() for name in (runs.MANIFEST, runs.STATUS)):
        there = "holds no run and no sweep" if path.is_dir() else "is not a folder"
        raise ConfigError(f"{folder}: {there}; give a folder out of outputs/")
    return Run(path, allow)


def _raise(ended: process.Ended, name: str) -> NoReturn:
    """Raise what says of a command how it ended."""
    message = ended.message
    if ended.code == outcome.REFUSED:
        raise ConfigError(message)
    if ended.folder is not None:
        message = f"{message} (see {runs.shown(ended.folder)})"
    if ended.code == outcome.DIVERGED:
        raise Diverged(message)
    if ended.code == outcome.INTERRUPTED:
        saved = "" if ended.folder is None else f"; lab.{name}(resume={str(ended.folder)!r})"
        raise KeyboardInterrupt(f"{ended.message}{saved and f'{saved} goes on'}")
    if ended.code - 128 in signals.ASKING:
        raise Interrupted(ended.code - 128)
    if ended.code == outcome.COMPLETED:
        problem = "dry_run=true, --help and --cfg train nothing; leave them out"
        raise ConfigError(f"there is no {'run' if name == 'train' else name}: {problem}")
    raise Failed(message)


def _words(overrides: Iterable[Overrides], text: Callable[[Any], str]) -> list[str]:
    """Write overrides as a command line does; `text` writes the value of a key.

    Of two of a key the later one counts, so that shared settings can be changed for one run.
    """
    words = []
    for each in overrides:
        if isinstance(each, str):
            words.append(each)
        elif isinstance(each, Mapping):
            words += [f"{key}={text(value)}" for key, value in each.items()]
        else:
            problem = "must be a text, as 'seed=1', or a mapping; your own data go in data="
            raise ConfigError(f"an override of type {type(each).__name__}: {problem}")
    return [*{schema.key_of(word): word for word in words}.values()]


def _values(value: Any) -> str:
    """Write the values of a sweep, or one value, as Hydra reads them."""
    if getattr(value, "ndim", 0) == 1:  # an array or a tensor of numpy's, torch's or pandas'
        value = value.tolist()
    if not isinstance(value, list | tuple | range | set | frozenset):
        return _text(value)
    return ",".join(map(_text, value))


def _text(value: Any) -> str:
    if hasattr(value, "tolist"):  # numpy's and torch's
        value = value.tolist()
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str):
        return schema.word(value)
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    return schema.show(value)


def _allowed(words: Sequence[str]) -> list[str]:
    """Return the packages that a command line allows."""
    parser = OverridesParser.create()
    own = [word for word in words if schema.key_of(word) == "allow"]
    given: list[Any] = [parser.parse_override(word).value() for word in own]
    return [name for each in given for name in (each if isinstance(each, list) else [each])]


def _data(data: Any) -> list[str]:
    """Write a user's data to a file, and return the words that name it.

    It is called after its content, so the same data are the same file, and a command line can
    train on it as well.
    """
    if data is None:
        return []
    from bptt_lab.tasks import npz
    from bptt_lab.tasks.own_data import described, to_arrays

    arrays = to_arrays(data)
    print(f"data: {described(arrays)}", flush=True)
    part = DATA / f".{os.getpid()}.{threading.get_ident()}.part"
    try:
        DATA.mkdir(parents=True, exist_ok=True)
        try:
            npz.save(part, arrays)
            with part.open("rb") as file:
                name = hashlib.file_digest(file, "sha256").hexdigest()[:16]
            path = part.replace(DATA / f"{name}.npz")
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        problem = f"cannot be written to {DATA} ({error.strerror or error})"
        raise ConfigError(f"data: {problem}; make room, or go to another folder") from error
    return ["dataset=arrays", f"dataset.path={_text(str(path))}"]


def _place(kind: str, folder: Place | None, resume: Place | None) -> list[str]:
    if folder is not None and resume is not None:
        raise ConfigError(f"folder={folder}: the folder is that of resume=; leave it out")
    if resume is not None:
        return [f"resume={_text(os.fspath(resume))}"]
    return [] if folder is None else [f"hydra.{kind}.dir={_text(str(Path(folder).absolute()))}"]
