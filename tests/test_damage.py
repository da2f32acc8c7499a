"""A run folder damaged in any way: the run ends as if nothing had happened, or is refused.

Whichever it is, it says so on lines, without a traceback, and nothing of the run is lost.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import QUICK, config, job, resumed
from test_resume import StopAfter, outcome

from bptt_lab import runs
from bptt_lab.training import job as jobs
from bptt_lab.training.train import perform

SETTINGS = (*QUICK, "dataset.layout=rows", "dataset.batch_size=130", "trainer.max_epochs=3",
            "checkpoint_seconds=0", "trainer.log_every_n_steps=2")  # fmt: skip
Damage = Callable[[Path], object]


def last(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"


def previous(folder: Path) -> Path:
    return folder / "checkpoints" / "previous.ckpt"


def paper(name: str, text: str | bytes | None) -> Damage:
    """Another content of a file, or none."""

    def damage(folder: Path) -> None:
        path = folder / name
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return damage


def entry(name: str, *keys: str, to: object) -> Damage:
    """Another value of an entry in a JSON file."""

    def damage(folder: Path) -> None:
        whole = found = json.loads((folder / name).read_text())
        for key in keys[:-1]:
            found = found[key]
        found[keys[-1]] = to
        (folder / name).write_text(json.dumps(whole))

    return damage


def nan(tensor: torch.Tensor) -> torch.Tensor:
    return torch.full_like(tensor, torch.nan)


def rewritten(*keys: object, to: object = None, both: bool = False) -> Damage:
    """Another value in a checkpoint, or none, and the sum that goes with it."""
    return changed(*keys, by=lambda _: to, both=both)


def changed(*keys: object, by: Callable = nan, both: bool = False) -> Damage:
    """What a function makes of a value in a checkpoint, and the sum that goes with it."""

    def damage(folder: Path) -> None:
        for path in (last(folder), previous(folder))[: 1 + both]:
            saved = found = torch.load(path, weights_only=True)
            for key in keys[:-1]:
                found = found[key]
            value = by(found.get(keys[-1]) if isinstance(found, dict) else found[keys[-1]])
            if value is None:
                del found[keys[-1]]
            else:
                found[keys[-1]] = value
            torch.save(saved, path)
            sums = path.with_name("checksums.json")
            known = json.loads(sums.read_text())
            known[hashlib.sha256(path.read_bytes()).hexdigest()] = {"name": "last.ckpt"}
            sums.write_text(json.dumps(known))

    return damage


def bit(name: str, seed: int) -> Damage:
    """One bit of a file is another."""

    def damage(folder: Path) -> None:
        content, dice = bytearray((folder / name).read_bytes()), random.Random(seed)
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        (folder / name).write_bytes(content)

    return damage


def cut(name: str, part: float) -> Damage:
    """A file is shorter than it was."""

    def damage(folder: Path) -> None:
        os.truncate(folder / name, int((folder / name).stat().st_size * part))

    return damage


def add(folder: Path) -> None:
    """A line that is none, at the end of the log."""
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("{x\n")


def all_of(*damages: Damage) -> Damage:
    def damage(folder: Path) -> None:
        for each in damages:
            each(folder)

    return damage


CKPT, PREV, SUMS = (
    "checkpoints/last.ckpt",
    "checkpoints/previous.ckpt",
    "checkpoints/checksums.json",
)
NO_SUMS = paper(SUMS, None)
DAMAGES: dict[str, Damage] = {
    # papers
    "status.json lost": paper("status.json", None),
    "status.json empty": paper("status.json", ""),
    "status.json a list": paper("status.json", "[1]"),
    "status.json of zeros": paper("status.json", bytes(300)),
    "status.json says waiting": paper("status.json", '{"status": "waiting"}'),
    "status.json says running": paper("status.json", '{"status": "running", "pid": 1}'),
    "manifest.json without id": entry("manifest.json", "id", to=None),
    "manifest.json with another id": entry("manifest.json", "id", to="f" * 64),
    "manifest.json with a list for its id": entry("manifest.json", "id", to=[1]),
    "manifest.json of another seed": entry("manifest.json", "config", "seed", to=7),
    "manifest.json of other data": entry("manifest.json", "data_sha256", to="0" * 64),
    "manifest.json of other threads": entry("manifest.json", "threads", to=9),
    "summary.json of another run": paper("summary.json", '{"metrics": {"test/loss": 0}}'),
    "summary.json no JSON": paper("summary.json", "{"),
    "a stale .part": paper("checkpoints/.last.ckpt.part", b"half"),
    "a stale .part of the status": paper(".status.json.part", "{"),
    "a lock of a dead process": paper(".lock", "99999999 on nowhere"),
    "a lock that is no text": paper(".lock", b"\xff\x00" * 99),
    # metrics.jsonl
    "metrics.jsonl of zeros": paper("metrics.jsonl", bytes(10**5)),
    "metrics.jsonl with a bit flipped": bit("metrics.jsonl", 1),
    "metrics.jsonl with its first bit flipped": bit("metrics.jsonl", 5),
    "metrics.jsonl cut to a half": cut("metrics.jsonl", 0.5),
    "metrics.jsonl short by a little": cut("metrics.jsonl", 0.99),
    "metrics.jsonl with more at its end": add,
    "metrics.jsonl lost with the sums": all_of(paper("metrics.jsonl", None), NO_SUMS),
    # checkpoints
    "last.ckpt cut": cut(CKPT, 0.7),
    "last.ckpt short by a byte": lambda f: os.truncate(last(f), last(f).stat().st_size - 1),
    "last.ckpt a text": paper(CKPT, "hello"),
    "last.ckpt cut, no sums": all_of(cut(CKPT, 0.7), NO_SUMS),
    "last.ckpt with a bit flipped, no sums": all_of(bit(CKPT, 3), NO_SUMS),
    "both with a bit flipped": all_of(bit(CKPT, 1), bit(PREV, 2)),
    "both cut, no sums": all_of(cut(CKPT, 0.5), cut(PREV, 0.5), NO_SUMS),
    "one cut, one lost": all_of(cut(CKPT, 0.5), paper(PREV, None)),
    "last.ckpt lost": paper(CKPT, None),
    "both lost": all_of(paper(CKPT, None), paper(PREV, None)),
    "checkpoints/ empty": lambda f: [shutil.rmtree(last(f).parent), last(f).parent.mkdir()],
    "the two in each other's place": lambda f: [
        last(f).rename(f / "x"), previous(f).rename(last(f)), (f / "x").rename(previous(f))
    ],
    "last.ckpt is best.ckpt": lambda f: shutil.copy(last(f).with_name("best.ckpt"), last(f)),
    "last.ckpt is the one before": lambda f: shutil.copy(previous(f), last(f)),
    "last.ckpt may not be read as one": lambda f: [last(f).unlink(), last(f).mkdir()],
    "checkpoints a file": lambda f: [shutil.rmtree(last(f).parent), last(f).parent.touch()],
    # sums
    "sums with null": paper(SUMS, "null"),
    "sums with numbers": paper(SUMS, '{"a": 1, "b": [], "c": null}'),
    "sums of other files": paper(SUMS, json.dumps({"0" * 64: {"name": "best.ckpt"}})),
    "sums with names that are none": paper(SUMS, json.dumps({"0" * 64: {"name": [1]}})),
    "sums with a bit flipped": bit(SUMS, 11),
    "sums cut": cut(SUMS, 0.5),
    # content
    "without loops": rewritten("loops"),
    "without a loop": rewritten("loops", "fit_loop"),
    "without the progress of batches": rewritten("loops", "fit_loop", "epoch_loop.batch_progress"),
    "with other loops": rewritten("loops", to={"fit_loop": 5}),
    "without optimizers": rewritten("optimizer_states", 0),
    "with an optimizer of nothing": rewritten("optimizer_states", 0, to={}),
    "with an optimizer's average of another shape": rewritten(
        "optimizer_states", 0, "state", 0, "exp_avg", to=torch.zeros(3)
    ),
    "with an optimizer's average of NaN": changed("optimizer_states", 0, "state", 0, "exp_avg"),
    "with no loops in loops": rewritten("loops", to={}),
    "with a count in words": rewritten(
        "loops", "fit_loop", "epoch_loop.batch_progress", "total", "ready", to="many"
    ),
    "with an average of another shape": rewritten(
        "state_dict", "rnn.weight_ih_l0", to=torch.zeros(3)
    ),
    "with an average of another type": changed(
        "state_dict", "rnn.weight_ih_l0", by=torch.Tensor.double
    ),
    "with a parameter of another type": changed(
        "trained_state_dict", "rnn.weight_ih_l0", by=torch.Tensor.double
    ),
    "with an average of NaN": changed("state_dict", "rnn.weight_ih_l0"),
    "with a parameter of NaN": changed("trained_state_dict", "rnn.weight_ih_l0"),
    "with a carry of another shape": rewritten("processes", 0, "carry", 0, to=torch.zeros(3)),
    "with a carry of NaN": changed("processes", 0, "carry", 0),
    "without processes": rewritten("processes", 0),
    "without a carry": rewritten("processes", 0, "carry"),
    "without random states": rewritten("processes", 0, "random"),
    "without the random state of torch": rewritten("processes", 0, "random", "torch"),
    "with a random state of another type": rewritten("processes", 0, "random", "python", to=[1]),
    "without what watches": rewritten("processes", 0, "watching"),
    "with windows of another form": rewritten("processes", 0, "watching", "TrainingLoss", to=5),
    "without a parameter": rewritten("state_dict", "rnn.weight_hh_l0"),
    "with a parameter of another shape": rewritten(
        "state_dict", "rnn.weight_hh_l0", to=torch.zeros(2, 2)
    ),
    "with a parameter more": rewritten("state_dict", "rnn.weight_hh_l1", to=torch.zeros(2, 2)),
    "with seconds in words": rewritten("run", "seconds", to="long"),
    "with a length below zero": rewritten("run", "metrics_bytes", to=-5),
    "with a length beyond all": rewritten("run", "metrics_bytes", to=10**12),
    "of another run": rewritten("run", "id", to="0" * 64),
    "of a run that has no text for its id": rewritten("run", "id", to=5),
    "with another sum of the log": rewritten("run", "metrics_sha256", to=5),
    "with a step in words": rewritten("global_step", to="many"),
    "with an epoch in words": rewritten("epoch", to="many"),
    "without Lightning's version": rewritten("pytorch-lightning_version"),
    "both without a carry": rewritten("processes", 0, "carry", both=True),
    "both without loops": rewritten("loops", both=True),
    "both with an average of NaN": changed("state_dict", "rnn.weight_ih_l0", both=True),
    "both of another run": rewritten("run", "id", to="0" * 64, both=True),
}  # fmt: skip


# Those that leave no checkpoint to go on from, and nothing that speaks against a new start.
ANEW = {
    "both with a bit flipped",
    "both cut, no sums",
    "one cut, one lost",
    "both lost",
    "checkpoints/ empty",
    "both without loops",
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A run that was stopped, and beside it what it would have ended with."""
    folder = tmp_path_factory.mktemp("begun")
    settings = config(*SETTINGS)
    perform(settings, folder / "whole", job(*SETTINGS))
    with pytest.raises(BaseException, match="interrupted"):
        perform(settings, folder / "run", job(*SETTINGS), StopAfter(17))
    runs.write_status(folder / "run", "interrupted", "interrupted by SIGTERM")
    return folder


def kept(folder: Path) -> set[str]:
    """The contents of all checkpoints, by their sums."""
    files = [path for path in folder.rglob("*.ckpt*") if path.is_file()]
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


FAST = (
    "status.json lost",
    "metrics.jsonl lost with the sums",
    "both with a bit flipped",
    "sums with numbers",
    "without optimizers",
    "with an optimizer's average of another shape",
    "with no loops in loops",
    "with an average of another shape",
    "with a parameter of another type",
    "with an average of NaN",
    "both with an average of NaN",
    "with a carry of another shape",
    "both without a carry",
    "of another run",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in DAMAGES]
)
def test_a_damaged_folder_is_mended_or_refused(name, begun, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("bptt_lab.runs.outcome.program", "bptt-train")  # in-process commands set it
    folder = tmp_path / "run"
    shutil.copytree(begun / "run", folder)
    DAMAGES[name](folder)
    before = kept(folder) if name != "last.ckpt is best.ckpt" else set()
    code = jobs.attempt(resumed(config(*SETTINGS), folder), folder, job(*SETTINGS))
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert all(line.startswith("bptt-train: ") for line in err.splitlines())
    if code == 0:
        assert outcome(folder) == outcome(begun / "whole")
        assert (name in ANEW) == ("starts anew" in err) == (folder / "set_aside_1").exists()
        assert name not in ANEW or before <= kept(folder)
    else:
        assert code in (1, 2) and "; " in err
        assert not name.startswith("with")  # the one before is taken
        assert before <= kept(folder)
        again = jobs.attempt(resumed(config(*SETTINGS), folder), folder, job(*SETTINGS))
        assert again == code  # and it stays refused, until somebody does something


def test_a_run_in_double_precision_goes_on_with_every_bit(tmp_path):
    double = (*SETTINGS, "trainer.max_epochs=1", "trainer.precision=64-true")
    perform(config(*double), tmp_path / "whole", job())
    with pytest.raises(BaseException, match="interrupted"):
        perform(config(*double), tmp_path / "run", job(), StopAfter(3))
    perform(resumed(config(*double), tmp_path / "run"), tmp_path / "run", job())
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("text", [None, "", "[]", '{"metrics": {}}'])
def test_a_run_that_lost_its_results_has_them_again(text, begun, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(begun / "whole", folder)
    runs.write_status(folder, "completed")
    paper("summary.json", text)(folder)
    assert jobs.attempt(resumed(config(*SETTINGS), folder), folder, job(*SETTINGS)) == 0
    assert outcome(folder) == outcome(begun / "whole")


def test_they_are_many():
    assert len(DAMAGES) >= 60
