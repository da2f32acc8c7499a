"""What a user may hold, as arrays, lists, tensors and frames, and what a task makes of it.

Every case is written twice: as its user has it, and as plain lists of Python's. From these lists
mean and deviation, what is padding, what counts and what trivial predictors reach are worked out
again, number by number.
"""

import math
import zipfile
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from bptt_lab.tasks import npz
from bptt_lab.tasks.arrays import Arrays
from bptt_lab.tasks.own_data import to_arrays
from tasks.own import (
    CONSTANT,
    COUNTS,
    FLAT,
    FLAT_LABELS,
    LABELS,
    LAST,
    LENGTHS,
    LONG,
    MASK,
    NAMED,
    NAN,
    PIECES,
    PREFIX,
    RAGGED,
    SPLIT,
    SPLITS,
    STEPS,
    WORDS,
    K,
    M,
    X,
    each,
    frame,
    masked,
    rows,
    strided,
)


class Case(NamedTuple):
    """Data as its user has it, and as lists."""

    data: Any
    inputs: Any  # M sequences of rows
    targets: Any  # of each sequence one, or one for each row; None where none counts
    at_end: bool = False
    split: Any = None
    classes: tuple = ()
    settings: dict = {}  # noqa: RUF012


CASES = {
    "arrays": Case((X, K), X, K, **LAST),
    "one feature": Case((X[..., 0], K), X[..., :1], K, **LAST),
    "single precision, a number": Case((X.astype("f4"), STEPS.sum(1)), X.astype("f4"),
                                       STEPS.sum(1), **LAST),
    "half precision": Case((X.astype("f2"), K), X.astype("f2"), K, **LAST),
    "long doubles": Case((X.astype("longdouble"), K), X, K, **LAST),
    "big-endian": Case((X.astype(">f8"), K.astype(">i4")), X, K, **LAST),
    "in columns": Case((np.asfortranarray(X), K), X, K, **LAST),
    "strides": Case((strided(X), strided(K)), X, K, **LAST),
    "bytes": Case((X.astype("u1"), K), X.astype("u1"), K, **LAST),
    "yes and no": Case((X > 0, K > 0), X > 0, K > 0, **LAST),
    "large integers": Case(((X * 1e15).astype(int), K), X * 1e15, K, **LAST),
    "tensors": Case((torch.tensor(X, requires_grad=True), torch.tensor(K)), X, K, **LAST),
    "bfloat16": Case((torch.tensor(X > 0).bfloat16(), torch.tensor(K)), X > 0, K, **LAST),
    "lists of lists": Case((X.tolist(), K.tolist()), X, K, **LAST),
    "a list of tensors": Case(([torch.tensor(x) for x in X], [*torch.tensor(K)]), X, K, **LAST),
    "classes in a column": Case((X, K[:, None]), X, K, **LAST),
    "text": Case((X, WORDS[K].tolist()), X, WORDS[K], classes=tuple(WORDS), **LAST),
    "bytes of text": Case((X, WORDS[K].astype("S")), X, WORDS[K], classes=tuple(WORDS), **LAST),
    "objects of text": Case((X, WORDS[K].astype(object)), X, WORDS[K], classes=tuple(WORDS),
                            **LAST),
    "named classes": Case({"inputs": X, "targets": K, "classes": [*"uvwx"]}, X,
                          ["uvw"[k] for k in K], classes=tuple("uvwx"), **LAST),
    "text in an order": Case({"inputs": X, "targets": WORDS[K], "classes": [*WORDS[::-1]]},
                             X, WORDS[K], classes=tuple(WORDS[::-1]), **LAST),
    "labels of any number": Case((X, 10 - 5 * K), X, 10 - 5 * K, classes=(0, 5, 10), **LAST),
    "labels beyond int64": Case((X, K.astype("u8") + 2**63), X, [int(k) + 2**63 for k in K],
                                classes=tuple(2**63 + k for k in range(3)), **LAST),
    "numbers at the end": Case((X, X.sum(1)), X, X.sum(1), **LAST),
    "numbers of each step": Case((X, STEPS), X, STEPS),
    "several of each step": Case((X, X[..., ::-1].cumsum(1)), X, X[..., ::-1].cumsum(1)),
    "classes of each step": Case((X, LABELS), X, LABELS),
    "and in a column": Case((X, LABELS[..., None]), X, LABELS),
    "as many as steps": Case((X, STEPS), X, STEPS, settings={"per_step": False}, **LAST),
    "a mask": Case((X, STEPS, MASK), X, masked(STEPS, MASK)),
    "a mask of floats": Case((X, LABELS, MASK * 1.0), X, masked(LABELS, MASK)),
    "no target where masked": Case((X, np.where(MASK, STEPS, np.nan), MASK), X,
                                   masked(STEPS, MASK)),
    "a mask of what is there": Case((X, K, PREFIX), RAGGED, K, **LAST),
    "lengths": Case({"inputs": X, "targets": STEPS, "lengths": LENGTHS}, RAGGED,
                    rows(RAGGED, STEPS, LENGTHS)),
    "no number after the end": Case({"inputs": NAN, "targets": K, "lengths": LENGTHS}, RAGGED, K,
                                    **LAST),
    "unequal arrays": Case((RAGGED, K), RAGGED, K, **LAST),
    "unequal tensors": Case(([torch.tensor(x) for x in RAGGED], rows(RAGGED, STEPS, LENGTHS)),
                            RAGGED, rows(RAGGED, STEPS, LENGTHS)),
    "unequal lists": Case(([x[:, 0].tolist() for x in RAGGED], K), [x[:, :1] for x in RAGGED], K,
                          **LAST),
    "unequal in an array": Case((np.array([*RAGGED, None], object)[:-1], K), RAGGED, K, **LAST),
    "unequal text": Case((RAGGED, rows(RAGGED, WORDS[LABELS], LENGTHS)), RAGGED,
                         rows(RAGGED, WORDS[LABELS], LENGTHS), classes=tuple(WORDS)),
    "unequal masks": Case((RAGGED, rows(RAGGED, STEPS, LENGTHS), rows(RAGGED, MASK, LENGTHS)),
                          RAGGED, masked(rows(RAGGED, STEPS, LENGTHS), MASK)),
    "given splits": Case({"inputs": X, "targets": K, "split": SPLIT}, X, K, split=SPLIT, **LAST),
    "splits by number": Case({"inputs": X, "targets": K, "split": [*map(SPLITS.index, SPLIT)]},
                             X, K, split=SPLIT, **LAST),
    "shares": Case((X, K), X, K, settings={"splits": [0.5, 0.25, 0.25]}, **LAST),
    "numbers of sequences": Case((X, K), X, K, settings={"splits": [9, 5, 4]}, **LAST),
    "as they are": Case((X, X.sum(1)), X, X.sum(1), settings={"normalise": False}, **LAST),
    "a constant feature": Case((CONSTANT, K), CONSTANT, K, **LAST),
    "one long sequence": Case((LONG, STEPS.reshape(1, -1)),
                              [LONG[0, :96], LONG[0, 96:108], LONG[0, 108:]],
                              [STEPS.ravel()[:96], STEPS.ravel()[96:108], STEPS.ravel()[108:]],
                              split=SPLITS),
    "the next inputs": Case((X[:, :-1], X[:, 1:]), X[:, :-1], X[:, 1:]),
    "one of the next inputs": Case((X[:, :-1], X[:, 1:, 1]), X[:, :-1], X[:, 1:, 1]),
    "a frame": Case(frame(target=each(WORDS[K])), RAGGED, WORDS[K], classes=tuple(WORDS), **LAST),
    "a frame of steps": Case(frame(target=FLAT), RAGGED, np.split(FLAT, PIECES)),
    "a frame with gaps": Case(frame(target=np.where(COUNTS, FLAT, np.nan)), RAGGED,
                              masked(np.split(FLAT, PIECES), np.split(COUNTS, PIECES))),
    "a frame with gaps in classes": Case(
        frame(target=pd.Series(FLAT_LABELS).astype("Int64").where(COUNTS)), RAGGED,
        masked(np.split(FLAT_LABELS, PIECES), np.split(COUNTS, PIECES))),
    "a frame of other names": Case(
        (frame(x=FLAT, y=-FLAT**2, more="z").rename(columns={"sequence": "patient", "time": "day"}),
         NAMED), [x[:, ::-1] for x in RAGGED], np.split(np.stack((FLAT, -FLAT**2), 1), PIECES)),
    "a frame of dates and categories": Case(
        frame(target=pd.Categorical(each(WORDS[K])), split=each(SPLIT)).assign(
            time=lambda f: pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(f.time, "D")),
        RAGGED, WORDS[K], classes=tuple(WORDS), split=SPLIT, **LAST),
    "a frame in wide form": Case((pd.DataFrame(X[..., 0]), pd.Series(K)), X[..., :1], K, **LAST),
}  # fmt: skip


def reach(targets, at_end, length):
    """The number of steps up to the last one that counts."""
    if at_end:
        return length
    return max((n + 1 for n, target in enumerate(targets) if target is not None), default=0)


def outputs(target):
    return [float(t) for t in np.atleast_1d(target)]


@pytest.mark.parametrize("name", CASES)
def test_right(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    npz.save(tmp_path / "own.npz", to_arrays(case.data))
    task = Arrays(path=str(tmp_path / "own.npz"), **case.settings)
    codec = task.codec()
    normal = case.settings.get("normalise", True)
    classes = task.loss == "cross_entropy"
    sequences = [[[float(v) for v in row] for row in x] for x in case.inputs]
    targets = [t if case.at_end else list(t) for t in case.targets]
    assert codec.at_end == case.at_end
    assert codec.classes == case.classes
    assert task.input_size == len(sequences[0][0])

    ends = [reach(targets[m], case.at_end, len(x)) for m, x in enumerate(sequences)]
    means, stds = np.zeros(task.input_size), np.ones(task.input_size)
    if normal:
        means, stds = np.array(codec.input_mean), np.array(codec.input_std)
    parts = {split: recognise(task.sequences(split, 0).input.numpy() * stds + means, case, ends)
             for split in SPLITS}  # fmt: skip
    found = [m for part in parts.values() for m in part]
    assert len(set(found)) == len(found)
    if case.split is not None:
        assert parts == {s: [m for m, own in enumerate(case.split) if own == s] for s in SPLITS}
    else:
        sizes = case.settings.get("splits", [0.8, 0.1, 0.1])
        wanted = [round(size if sizes[0] > 1 else size * M) for size in sizes]
        assert [len(part) for part in parts.values()] == wanted

    training = [row for m in parts["train"] for row in sequences[m][: ends[m]]]
    means, stds = slow_scale(training, normal)
    assert codec.input_mean == pytest.approx(means, rel=1e-9, abs=1e-9)
    assert codec.input_std == pytest.approx(stds, rel=1e-9)
    due = [outputs(t) for m in parts["train"] for t in counted(targets[m], case.at_end)] if (
        not classes) else []  # fmt: skip
    if not classes:
        target_means, target_stds = slow_scale(due, normal)
        assert codec.output_mean == pytest.approx(target_means, rel=1e-9, abs=1e-9)
        assert codec.output_std == pytest.approx(target_stds, rel=1e-9)

    for split, part in parts.items():
        input, target, mask = task.sequences(split, 0)
        assert input.dtype == torch.float32
        for place, m in enumerate(part):
            scaled = [[(v - a) / s for v, a, s in zip(row, means, stds, strict=True)]
                      for row in sequences[m][: ends[m]]]  # fmt: skip
            np.testing.assert_allclose(input[: ends[m], place], scaled, rtol=2e-5, atol=2e-5)
            assert not input[ends[m] :, place].any()
            steps = [ends[m] - 1] if case.at_end else [
                n for n, t in enumerate(targets[m]) if t is not None]  # fmt: skip
            assert mask[:, place].nonzero()[:, 0].tolist() == steps
            for step, wanted in zip(steps, counted(targets[m], case.at_end), strict=True):
                answer = target[step, place]
                if classes:
                    assert (case.classes or range(3))[int(answer)] == wanted
                else:
                    three = zip(outputs(wanted), target_means, target_stds, strict=True)
                    scaled = [(v - a) / s for v, a, s in three]
                    np.testing.assert_allclose(answer, scaled, rtol=2e-5, atol=2e-5)

    check_references(task, case, parts, due, targets)
    for split in SPLITS:
        loader = getattr(task, f"{split}_dataloader")()
        assert sum(int(batch.mask.sum()) for batch in loader) == task.sequences(split, 0).mask.sum()


def recognise(inputs, case, ends):
    """Which sequences these are, (T, n, I) in their own units."""
    found = []
    for own in inputs.swapaxes(0, 1):
        distances = [
            float(np.abs(own[:end] - np.array(x, float)[:end]).mean())
            for x, end in zip(case.inputs, ends, strict=True)
        ]
        found.append(int(np.argmin(distances)))
    return found


def counted(target, at_end):
    return [target] if at_end else [t for t in target if t is not None]


def slow_scale(rows, normal):
    columns = list(zip(*rows, strict=True))
    if not normal:
        return [0.0] * len(columns), [1.0] * len(columns)
    return [fmean(c) for c in columns], [pstdev(c) if len(set(c)) > 1 else 1.0 for c in columns]


def check_references(task, case, parts, due, targets):
    references = task.references()
    asked = [t for m in parts["test"] for t in counted(targets[m], case.at_end)]
    if task.loss == "cross_entropy":
        seen = [t for m in parts["train"] for t in counted(targets[m], case.at_end)]
        names = case.classes or range(task.output_size)
        counts = [seen.count(name) for name in names]
        chances = {
            n: (c + 1) / (sum(counts) + len(counts)) for n, c in zip(names, counts, strict=True)
        }
        common = names[int(np.argmax(counts))]
        wanted = {"loss": fmean(-math.log(chances[t]) for t in asked),
                  "accuracy": fmean(float(t == common) for t in asked)}  # fmt: skip
        assert references == {"majority": pytest.approx(wanted)}
        return
    means, _ = slow_scale(due, True)
    wanted = fmean(fmean(abs(v - a) for v, a in zip(outputs(t), means, strict=True)) for t in asked)
    assert references["mean"]["absolute_error"] == pytest.approx(wanted, rel=1e-5)
    assert list(references) == sorted(references, key=lambda n: references[n]["loss"])
    of_next = {"the next inputs": [0, 1], "one of the next inputs": [1]}
    columns = next((of_next[n] for n, c in CASES.items() if c is case and n in of_next), None)
    assert ("persistence" in references) == (columns is not None)
    if columns is not None:
        errors = [abs(v - x[c]) for m in parts["test"] for x, t in
                  zip(case.inputs[m], targets[m], strict=True)
                  for v, c in zip(outputs(t), columns, strict=True)]  # fmt: skip
        assert references["persistence"]["absolute_error"] == pytest.approx(fmean(errors), rel=1e-5)


def test_a_file_depends_on_the_content_alone(tmp_path: Path) -> None:
    held = [(X, K), (np.asfortranarray(X), K.astype(">i8")), (torch.tensor(X), [*K]),
            (X[::-1][::-1], K), {"targets": K, "inputs": X}]  # fmt: skip
    for number, data in enumerate(held):
        npz.save(tmp_path / str(number), to_arrays(data))
    contents = {(tmp_path / str(number)).read_bytes() for number in range(len(held))}
    assert len(contents) == 1
    npz.save(tmp_path / "0", {"targets": K, "inputs": np.asfortranarray(X)})
    assert (tmp_path / "0").read_bytes() in contents
    with zipfile.ZipFile(tmp_path / "0") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    npz.save(tmp_path / "other", to_arrays((X + 1e-9, K)))
    assert (tmp_path / "other").read_bytes() not in contents
    assert len(list(tmp_path.iterdir())) == len(held) + 1  # nothing half written


def test_what_numpy_writes_is_read_alike(tmp_path: Path) -> None:
    npz.save(tmp_path / "ours.npz", to_arrays((X, STEPS, MASK)))
    np.savez(tmp_path / "plain.npz", inputs=X, targets=STEPS, mask=MASK)
    np.savez_compressed(tmp_path / "packed.npz", inputs=X, targets=STEPS, mask=MASK)
    (tmp_path / "link.npz").symlink_to(tmp_path / "packed.npz")
    tasks = [Arrays(path=str(file)) for file in sorted(tmp_path.iterdir())]
    assert len(tasks) == 4
    for task in tasks[1:]:
        for split in SPLITS:
            assert all(map(torch.equal, task.sequences(split, 0), tasks[0].sequences(split, 0)))


def test_other_seeds_are_other_splits(tmp_path: Path) -> None:
    npz.save(tmp_path / "own.npz", to_arrays((X, K)))
    inputs = [Arrays(path=str(tmp_path / "own.npz"), seed=seed).sequences("test", 0).input
              for seed in (0, 0, 1)]  # fmt: skip
    assert torch.equal(inputs[0], inputs[1])
    assert not torch.equal(inputs[0], inputs[2])


def test_a_sequence_in_which_nothing_counts_weighs_nothing(tmp_path: Path) -> None:
    mask, inputs = MASK.copy(), X.copy()
    mask[3], inputs[3] = False, np.nan
    npz.save(tmp_path / "own.npz", to_arrays((inputs, STEPS, mask)))
    task = Arrays(path=str(tmp_path / "own.npz"))
    assert all(task.sequences(split, 0).input.isfinite().all() for split in SPLITS)
    counts = [batch.mask.sum(0) for s in SPLITS for batch in getattr(task, f"{s}_dataloader")()]
    assert int(torch.cat(counts).sum()) == mask.sum()


def test_the_error_is_in_the_units_of_the_targets(tmp_path: Path) -> None:
    npz.save(tmp_path / "own.npz", to_arrays((X, X[:, 0] * 100)))
    task = Arrays(path=str(tmp_path / "own.npz"))
    _, target, _ = task.sequences("val", 0)
    off = task.score(target + 1, target)["absolute_error"]
    torch.testing.assert_close(off, torch.full_like(off, float(task.std.mean())))
