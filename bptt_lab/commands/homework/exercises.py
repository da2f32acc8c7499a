"""The exercises in their order, and the folder that holds them."""

from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from bptt_lab.commands.homework import adjoint, forward, rtrl, truncation, weights
from bptt_lab.commands.homework.exercise import Exercise
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import outcome
from bptt_lab.runs.files import no_folder

ALL: tuple[Exercise, ...] = (
    forward.EXERCISE,
    adjoint.EXERCISE,
    weights.EXERCISE,
    truncation.CHUNK,
    truncation.LAG,
    rtrl.EXERCISE,
)
NAMES = ", ".join(exercise.file for exercise in ALL)


def write(folder: Path) -> list[Path]:
    """Write the exercises and their README into a new or empty folder.

    Raises:
        ConfigError: where there is something, which is never overwritten.
    """
    if problem := no_folder(folder):
        raise ConfigError(f"{folder}: {problem}; give the name of a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: holds files already; give the name of a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for template in templates():
        path = folder / template.name
        with path.open("xb") as file:
            file.write(template.read_bytes())
        written.append(path)
    return written


def templates() -> list[Traversable]:
    """The files that `write` writes."""
    folder = files(__package__).joinpath("templates")
    found = [t for t in folder.iterdir() if t.name.endswith((".py", ".md"))]
    return sorted(found, key=lambda template: template.name)


def find(path: Path) -> list[tuple[Path, Exercise]]:
    """The exercises of a folder, or the one that a file is.

    Raises:
        ConfigError: where there is none.
    """
    if path.is_dir():
        found = [(path / exercise.file, exercise) for exercise in ALL]
        if not any(file.exists() for file, _ in found):
            problem = f"holds none of {NAMES}; bptt-homework new DIR writes them"
            raise ConfigError(f"{path}: {problem}")
        return found
    if not path.exists():
        folder = path.parent if path.suffix == ".py" else path
        raise ConfigError(
            f"{path}: does not exist; bptt-homework new {folder} writes the exercises"
        )
    named = [exercise for exercise in ALL if exercise.file == path.name]
    if not named:
        raise ConfigError(f"{path}: is none of the exercises; they are called {NAMES}")
    return [(path, named[0])]


def find_all(paths: Iterable[Path]) -> dict[Path, list[tuple[Path, Exercise]]]:
    """The exercises of each path. Among several, one without any does not stop the others.

    A folder without exercises is a student's who has handed in nothing, and has all of them
    missing; another file, such as a list of names, is left out. A line on stderr says so.

    Raises:
        ConfigError: where nothing is left, or a path does not exist.
    """
    paths = list(paths)
    work = {}
    for path in paths:
        try:
            work[path] = find(path)
        except ConfigError as error:
            if len(paths) == 1 or not path.exists():
                raise
            nothing = path.is_dir()
            if nothing:
                work[path] = [(path / exercise.file, exercise) for exercise in ALL]
            problem = "counts as not done" if nothing else "is left out"
            outcome.tell(f"{error}; {problem}")
    if not any(file.exists() for files in work.values() for file, _ in files):
        raise ConfigError(f"{paths[0]}: holds none of {NAMES}, nor do the others")
    return work
