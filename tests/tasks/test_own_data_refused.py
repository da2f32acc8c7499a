"""Data that do not fit: one line that says which array, what it must be, and the way out."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bptt_lab.core.validation import ConfigError
from bptt_lab.tasks import files, npz, own_data
from bptt_lab.tasks.arrays import Arrays
from bptt_lab.tasks.own_data import to_arrays
from tasks.damage import refused
from tasks.own import COUNTS, FLAT, LABELS, LENGTHS, MASK, RAGGED, STEPS, WORDS, K, M, T, X, rows
from tasks.own import frame as long_frame

FRAME = long_frame(target=FLAT)
LOOP: list = []
LOOP.append(LOOP)
NONE = np.where(np.arange(M)[:, None, None] == 3, np.nan, X)
FEW = K == 2


def given(**arrays):
    return {"inputs": X, "targets": K, **arrays}


def having(**columns):
    return FRAME.assign(**columns)


DATA = {
    "NaN": ((NONE, K), "inputs[3, 0, 0] must be a finite number, but is nan; fill it in"),
    "infinite": ((np.where(np.isnan(NONE), -np.inf, X), K), "inputs[3, 0, 0] must be a finite"),
    "a target of NaN": ((X, np.where(STEPS > 50, np.nan, STEPS)), "targets["),
    "an answer of NaN": ((X, np.where(FEW, np.nan, 1.0)), "must be a finite number, but is nan"),
    "complex": ((X * 1j, K), "holds complex128; give real and imaginary parts as two features"),
    "complex tensor": ((torch.zeros(M, T, dtype=torch.complex64), K), "holds complex64; give"),
    "dates": ((X.astype("M8[s]"), K), "give times as numbers, such as seconds since the first"),
    "durations": ((X.astype("m8[s]"), K), "give durations as numbers"),
    "objects": ((np.full((M, T), {}, object), K), "inputs must hold numbers or text of one type"),
    "words": ((WORDS[LABELS], K), "holds <U5; number them, or give one-hot vectors"),
    "columns of types": ((np.zeros((M, T), "f4,f4"), K), "give each column as a feature"),
    "no sequence": ((X[:0], K[:0]), "inputs hold no sequence, being (0, 6, 2)"),
    "no step": ((X[:, :0], K), "inputs hold no step"),
    "no feature": ((X[..., :0], K), "inputs hold no feature"),
    "no target": ((X, X[:, 0, :0]), "targets hold no number"),
    "an empty list": (([], []), "inputs hold nothing; give at least one"),
    "one number a sequence": ((X[:, 0, 0], K), "but are (20,); reshape them"),
    "four dimensions": ((X[..., None], K), "but are (20, 6, 2, 1); reshape them"),
    "numbers alone": ((1.0, 2.0), "but are (); reshape them"),
    "too few targets": ((X, K[:-1]), "targets are (19,), and inputs 20 sequences of 6 steps"),
    "time first": ((X.swapaxes(0, 1), K), "put sequences first, as by inputs.swapaxes(0, 1)"),
    "a list of more steps than some inputs": (
        (RAGGED, [np.zeros(max(LENGTHS)) for _ in RAGGED]), "and inputs["
    ),
    "too few steps": ((X, X[:, 1:]), "targets have 5 steps, and inputs 6"),
    "several classes": ((X, np.stack((K,) * 3, 1)), "there is one class at a time; give classes"),
    "and at a step": ((X, np.stack((LABELS,) * 2, 2)), "give classes (20, 6), or numbers by"),
    "one class": ((X, K * 0), "targets must be of 2 to 16384 classes, but are of 1"),
    "many classes": ((np.zeros((2**15, 1)), np.arange(2**15)), "classes, but are of 32768"),
    "a mask time first": ((X, STEPS, MASK.T), "mask must be (20, 6), as sequences and steps"),
    "a mask of more": ((X, STEPS, MASK * 2), "mask must hold true and false, or 1 and 0"),
    "an empty mask": ((X, STEPS, MASK & False), "mask must be true somewhere"),
    "a mask with gaps": ((X, K, MASK), "must be true up to the last step of the sequence"),
    "too long": (given(lengths=[T + 1] * M), "lengths[0] must be 1 to 6, but is 7"),
    "length 0": (given(lengths=[1, 0] * (M // 2)), "lengths[1] must be 1 to 6, but is 0"),
    "half a step": (given(lengths=[1.5] * M), "lengths must hold integers, but holds float64"),
    "one length": (given(lengths=3), "lengths must be (20,), one a sequence"),
    "another split": (given(split=["dev"] * M), "one of train, val, test, or 0, 1 and 2"),
    "a short split": (given(split=[0, 1, 2]), "split must say of each of 20 sequences"),
    "a name twice": (given(classes=["a", "a", "b"]), "classes must be different names"),
    "no name": (given(classes=["a", "b"]), "targets hold '2', and there are 2 classes"),
    "below 0": (given(targets=K - 1, classes=["a", "b"]), "targets hold '-1'"),
    "names of numbers": (given(targets=STEPS, classes=["a", "b"]), "but targets are floats"),
    "an unknown name": (given(targets=WORDS[K], classes=["calm", "wind"]), "hold 'storm'"),
    "names of another kind": (given(targets=WORDS[K], classes=[1, 2, 3]), "give both as text"),
    "other features": (([X[0], X[1, :, :1]], [0, 1]), "inputs[1] must be (steps, 2), with one st"),
    "an empty sequence": (([X[0], X[1, :0]], [0, 1]), "inputs[1] must be (steps, 2), with one"),
    "short targets": ((RAGGED, rows([*RAGGED[:-1], X[-1][:1]], STEPS)), "[19] has 1 steps, and"),
    "unequal targets": ((X, rows(RAGGED, STEPS, LENGTHS)), "targets are of unequal length, and"),
    "fewer of them": ((RAGGED, rows(RAGGED, STEPS, LENGTHS)[:-1]), "targets are of 19 sequences"),
    "lengths twice": (given(inputs=RAGGED, lengths=LENGTHS), "lengths are those of the inputs"),
    "a list of two": ([X, K], "but is a list of 2; put both in a tuple"),
    "four in a tuple": ((X, K, MASK, 1), "but is a tuple of 4"),
    "inputs alone": (X, "must be (inputs, targets) or a DataFrame, but is a ndarray"),
    "nothing": (None, "but is a NoneType"),
    "no targets": ({"inputs": X}, "but holds 'inputs'; name the targets so"),
    "other names": ({"X": X, "y": K}, "but holds 'X', 'y'; name the inputs so"),
    "a slip": (given(length=LENGTHS), "holds 'length', and takes inputs, targets, mask, lengths"),
    "masked arrays": ((np.ma.masked_greater(X, 2), K), "inputs is a masked array; fill it"),
    "sparse": ((torch.tensor(X).to_sparse(), K), "inputs must be a dense tensor, but"),
    "no data": ((torch.zeros(M, 2, device="meta"), K), "inputs must be a dense tensor, but"),
    "endless integers": ((X, [2**70] * M), "targets hold integers too large for an array"),
    "of both signs": ((X, [2**63, *[-1] * (M - 1)]), "targets hold integers too large"),
    "text among numbers": ((X, [*range(M - 1), "a"]), "targets[19] is \"'a'\" among others"),
    "text then numbers": ((RAGGED, [["a"], *rows(RAGGED, STEPS, LENGTHS)[1:]]), "of another kind"),
    "dates among numbers": (([X[0], X[1].astype("M8[s]")], [0, 1]), "inputs[1] is of another kind"),
    "and of other length": (([X[0], X[1, :3].astype("M8[s]")], [0, 1]), "inputs[1] is of another"),
    "columns of two types": (([np.zeros(3, "f4,f4"), np.zeros(2, "i4,i4,i4")], [0, 1]),
                             "inputs[1] is of another kind"),
    "a gap": ((X, [None, *K[1:]]), "targets[0] must hold numbers or text of one type, but holds N"),
    "a generator": ((iter(X), K), "inputs must hold numbers or text of one type"),
    "a set": (({1, 2}, K), "inputs must be an array or a list, but is a set"),
    "a loop": ((LOOP, K), "is nested deeper than sequences, steps and features"),
    "not text": ((X, np.array([b"\xff"] * M)), "targets must be text in UTF-8, but are not"),
    "no column": (long_frame(), "must have a column target, or one named by (frame, {"),
    "a time twice": (pd.concat([FRAME] * 2), "two rows have sequence="),
    "no time": (having(time=np.nan), "column 'time' has rows without a value; fill or drop them"),
    "times of text": (having(time=[str(n) for n in FRAME.time]), "as by pandas.to_datetime"),
    "whose": (having(sequence=FRAME.sequence.where(COUNTS)), "column 'sequence' has rows without"),
    "a feature of text": (having(a="x"), "feature 'a' must hold numbers, but holds"),
    "a feature of dates": (having(a=pd.Timestamp("2026-01-01")), "feature 'a' must hold numbers"),
    "a feature missing": (having(a=np.nan), "inputs[0, 0, 0] must be a finite number, but is nan"),
    "targets of dates": (having(target=pd.Timestamp("2026-01-01")), "must hold numbers or text"),
    "targets of kinds": (having(target=[1, *["a"] * (len(FRAME) - 1)]), "'target' must hold numb"),
    "two splits": (having(split=np.where(COUNTS, "train", "val")), "must be the same in all rows"),
    "split in part": (having(split=np.where(COUNTS, "train", None)), "column 'split' has rows w"),
    "no rows": (FRAME[:0], "must be a DataFrame with rows"),
    "a Series": (pd.Series(K), "must be a DataFrame with rows"),
    "no features": (FRAME[["sequence", "time", "target"]], "must have a feature and a target"),
    "another column": ((FRAME, {"time": "day"}), "there is no column 'day' among"),
    "another role": ((FRAME, {"label": "target"}), "not label; correct it"),
    "columns alike": (FRAME.rename(columns={"b": "a"}), "must have different names"),
    "two at once": ((FRAME, {"sequence": ["a", "b"]}), "there is no column \"['a', 'b']\""),
}  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_refuses_what_a_user_holds(name: str) -> None:
    data, complaint = DATA[name]
    with pytest.raises(ConfigError) as refusal:
        to_arrays(data)
    message = str(refusal.value)
    assert message.startswith("data: ")
    assert complaint in message
    assert ";" in message
    assert message.isprintable()
    assert len(message) < 400


def test_refuses_padding_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_data, "MOST", 1000)
    with pytest.raises(ConfigError, match=r"inputs would be \(20, 100\) with padding"):
        to_arrays(([[0.0] * 100, *[[0.0]] * 19], K))


class Canary:
    """What would make a file if it were unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def npy(header: bytes, values: bytes = b"", version: bytes = b"\1\0") -> bytes:
    width = 2 if version == b"\1\0" else 4
    return b"\x93NUMPY" + version + len(header).to_bytes(width, "little") + header + values


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return stream.getvalue()


def saved(**arrays) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def shaped(text: str, values: bytes = b"") -> bytes:
    return npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {text}, }}\n".encode(), values)


GOOD = saved(inputs=X, targets=K)
FLIPPED = bytearray(GOOD)
FLIPPED[500] ^= 1
LOCKED = GOOD.replace(b"PK\1\2", b"PK\1\2", 1)
at = GOOD.index(b"PK\1\2") + 8
LOCKED = GOOD[:at] + b"\1" + GOOD[at + 1 :]
FILES = {
    "truncated": (GOOD[:-100], "must be a .npz file of arrays, but begins with 0x504b"),
    "text": (b"inputs,targets\n1,2\n", "but begins with 0x696e"),
    "one array": (GOOD[GOOD.index(b"\x93NUMPY") :][:2000], "one array alone, as numpy.save"),
    "a pickle": (pickle.dumps([1]), "a pickle, which could run anything"),
    "a flipped bit": (bytes(FLIPPED), "must be a .npz file that is whole, but is not"),
    "encrypted": (LOCKED, "must be a .npz file that is whole, but is not"),
    "another file": (zipped(readme_txt=b"x"), "but holds 'readme.txt', which is no .npy"),
    "no header": (zipped(inputs_npy=b"x"), "must be a .npz file that is whole, but is not"),
    "half a header": (zipped(inputs_npy=npy(b"{'descr': ")), "that is whole, but is not"),
    "brackets": (zipped(inputs_npy=npy(b"(" * 9000)), "that is whole, but is not"),
    "an endless header": (zipped(inputs_npy=npy(b" " * 60000)), "that is whole, but is not"),
    "more than there is": (zipped(inputs_npy=shaped("(1000000, 1000)")), "as its header says"),
    "less than there is": (zipped(inputs_npy=shaped("(1,)", bytes(80))), "as its header says"),
    "below 0": (zipped(inputs_npy=shaped("(-1, -1)", bytes(8))), "-1 x -1 of float64, as its"),
    "empty by the trillion": (zipped(inputs_npy=npy(
        b"{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,), }")), "GiB of mem"),
    "columns": (zipped(inputs_npy=npy(b"x", version=b"\3\0")), "columns of several types"),
    "complex": (saved(inputs=X * 1j, targets=K), "give real and imaginary parts as two features"),
    "not finite": (saved(inputs=NONE, targets=K), "inputs[3, 0, 0] must be a finite number"),
    "other names": (saved(X=X, y=K), "but holds 'X', 'y'; name the inputs so"),
    "no names": (saved(arr_0=X, arr_1=K), "but holds 'arr_0', 'arr_1'; name the inputs so"),
    "three sequences": (saved(inputs=X[:3], targets=K[:3]), "must hold enough sequences for"),
    "one sequence": (saved(inputs=X[:1], targets=STEPS[:1, 0]), "must hold enough sequences for"),
    "nothing to validate": (saved(inputs=X, targets=K, split=np.arange(M) % 2 * 2),
                            "must hold a target that counts for val, but holds none"),
    "nothing to test": (saved(inputs=X, targets=STEPS, split=np.arange(M) % 3,
                              mask=(np.arange(M) % 3 < 2)[:, None] & np.ones((M, T), bool)),
                        "must hold a target that counts for test, but holds none"),
    "too large": (saved(inputs=X * 1e300, targets=K), "inputs must fit single precision, but"),
    "too little": (saved(inputs=X * 1e-200, targets=K), "inputs must fit single precision, but"),
    "targets too large": (saved(inputs=X, targets=STEPS * 1e300), "targets must fit single prec"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required additional header")
def test_refuses_files(tmp_path: Path, name: str) -> None:
    content, complaint = FILES[name]
    file = tmp_path / "own.npz"
    file.write_bytes(content)
    refused(lambda: Arrays(path=str(file)), file, complaint)


def test_runs_no_pickle(tmp_path: Path) -> None:
    file, canary = tmp_path / "own.npz", tmp_path / "canary"
    file.write_bytes(saved(inputs=X, targets=np.array([Canary(canary)] * M, object)))
    refused(lambda: Arrays(path=str(file)), file, "holds Python objects, which could run anything")
    file.write_bytes(pickle.dumps(Canary(canary)))
    refused(lambda: Arrays(path=str(file)), file, "a pickle")
    assert not canary.exists()


def test_asks_for_no_memory_that_a_header_names(tmp_path: Path) -> None:
    """Zeros that pack a thousandfold, by one array or by many."""
    file, zeros = tmp_path / "own.npz", io.BytesIO()
    np.save(zeros, np.zeros(2**24, bool))
    for count, part in ((17, zeros.getvalue()), (1, shaped("(268435457,)", bytes(2**20)))):
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(count):
                archive.writestr(f"a{number}.npy", part)
        assert file.stat().st_size < 2**20
        refused(lambda: Arrays(path=str(file)), file, "GiB of memory" if count > 1 else "header")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_refuses_two_of_a_name_and_other_packings(tmp_path: Path) -> None:
    file = tmp_path / "own.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("inputs.npy", shaped("(1,)", bytes(8)))
        archive.writestr("inputs.npy", shaped("(1,)", bytes(8)))
    refused(lambda: Arrays(path=str(file)), file, "holds 'inputs' twice")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("inputs.npy", shaped("(1,)", bytes(8)))
    refused(lambda: Arrays(path=str(file)), file, "compressed in another way than by numpy")


def test_refuses_settings_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own.npz"
    npz.save(file, to_arrays((X, K)))
    refused(lambda: Arrays(path=str(file), per_step=True), file, "needs targets of 6 steps, but")
    refused(lambda: Arrays(path=str(file), splits=[10, 10, 1]), file, "must hold enough sequences")
    npz.save(file, to_arrays((X, X)))
    refused(lambda: Arrays(path=str(file), per_step=False), file, "needs targets (M) or (M, O)")
    npz.save(file, to_arrays(given(split=np.arange(M) % 3)))
    refused(lambda: Arrays(path=str(file), splits=[0.8, 0.1, 0.1]), file, "holds a split, beside")
    monkeypatch.setattr(files, "MOST", 100)
    refused(lambda: Arrays(path=str(file)), file, "GiB of memory")
    refused(lambda: Arrays(path=str(tmp_path)), tmp_path, "it is a folder")
    refused(lambda: Arrays(), "", "must name a file")
