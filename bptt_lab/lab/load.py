"""From a run folder to the network that it trained."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from bptt_lab import runs
from bptt_lab.config import schema
from bptt_lab.config.components import renamed
from bptt_lab.config.parse import parse
from bptt_lab.core.validation import ConfigError, check
from bptt_lab.lab.net import Net
from bptt_lab.runs import files
from bptt_lab.runs.outcome import CheckpointError
from bptt_lab.training import checkpoint_io, manifest, network
from bptt_lab.training.build import build
from bptt_lab.training.checkpoint_io import BEST, LAST, PREVIOUS
from bptt_lab.training.network import Network

Which = Literal["last", "best"]


def load(
    run: str | PathLike[str], *, checkpoint: Which = "last", allow: str | Iterable[str] = ()
) -> Net:
    """Load a trained network.

    Neither the training data nor any other file of the run is needed, but for runs of versions
    that did not describe the network in its checkpoint: these need their manifest and data. Of a
    run that is still at work, or was interrupted, it is what its latest checkpoint holds.

    Args:
        run: the run, its folder, or the path of a checkpoint.
        checkpoint: "last", with which training ended and whose sha256 is the summary's, or "best",
            that of the least validation loss.
        allow: packages beside this one whose classes the checkpoint may name, such as that of a
            gradient strategy of your own; what a run was started or opened with is allowed.

    Returns:
        The network, in evaluation mode, its parameters on the CPU and in the type of training.

    Raises:
        ConfigError: on one line, for a folder that holds no run, a checkpoint that is damaged or
            not what a run of ours writes, and for a class that may not be named.

    Examples:
        net = lab.load("outputs/run")
        net.predict(inputs)
    """
    check("checkpoint", checkpoint, Which, {})
    allow = (*getattr(run, "allow", ()), *schema.allowed(allow))  # a path has none
    path = Path(run)
    found = path if path.is_file() else _checkpoint(path, checkpoint)
    try:
        saved = checkpoint_io.read(found, "cpu")
    except CheckpointError as error:
        raise ConfigError(f"{error}; {_other(found)}") from error
    if found != path and checkpoint == "last":
        _refuse_other_sum(path, found, saved.get("state_dict"))
    try:
        if network.KEY not in saved:
            saved[network.KEY] = _by_manifest(found.parent.parent, allow)
        return Net(network.restored(saved, allow))
    except ConfigError as error:
        raise ConfigError(f"{found}: {error}") from error


def _checkpoint(folder: Path, which: Which) -> Path:
    """Return the path of a run's checkpoint."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder; give one out of outputs/")
    if (folder / runs.SWEEP).is_file():
        jobs = [run.folder.name for run in runs.read_sweep(folder)]
        some = ", ".join(jobs[:5]) + (", ..." if len(jobs) > 5 else "")
        raise ConfigError(f"{folder}: is a sweep; give the folder of one of its runs: {some}")
    inside = folder / "checkpoints"
    if problem := files.no_folder(inside):
        raise ConfigError(f"{inside}: {problem}; move it away")
    # A run that saves just now has the one before for a moment.
    names = (LAST, PREVIOUS) if which == "last" else (BEST,)
    for path in (inside / name for name in names):
        if path.exists() or path.is_symlink():
            return path
    run = runs.read_run(folder)
    if not run.manifest and not inside.is_dir():
        raise ConfigError(f"{folder}: holds no run; give a run's folder out of outputs/")
    problem = f"has no checkpoint {inside.name}/{names[0]} ({run.status})"
    way_out = "use checkpoint='last'" if (inside / LAST).exists() else "continue it with resume="
    raise ConfigError(f"{folder}: {problem}; {way_out}")


def _other(path: Path) -> str:
    """Name another checkpoint of the run, if there is one."""
    names = [name for name in (LAST, PREVIOUS, BEST) if name != path.name]
    there = [name for name in names if (path.parent / name).is_file()]
    return f"there is {path.parent / there[0]}" if there else "there is no other one"


def _refuse_other_sum(folder: Path, path: Path, state: Any) -> None:
    """Refuse the last checkpoint of a completed run whose parameters are not the summary's."""
    run = runs.read_run(folder)
    known = run.parameters_sha256 if run.is_done and path.name == LAST else None
    if known and known != manifest.parameter_hash(state):
        problem = f"its parameters are not those of {runs.SUMMARY}"
        raise ConfigError(f"{path}: {problem}; continue the run with resume={folder}")


def _by_manifest(folder: Path, allow: str | Iterable[str]) -> dict[str, Any]:
    """Describe the network of a checkpoint that does not, by its run's manifest and data."""
    try:
        run = runs.read_manifest(folder)
        if "config" not in run:
            raise ConfigError(f"{folder / runs.MANIFEST} has no config; train it again")
        control = {"allow": list(schema.allowed(allow))}
        task, module = build(parse({**renamed(run["config"]), **control}, here=False))
        if run.get("data_sha256") != manifest.fingerprint(task):
            raise ConfigError("the data is not that of training; put that back")
    except ConfigError as error:
        problem = "is of a version that did not say what its network is like"
        raise ConfigError(f"{problem}, and of its run: {error}") from error
    parts = Network(module.rnn, module.readout, module.embedding, task.codec())
    return network.described(parts)
