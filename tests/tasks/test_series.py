import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from bptt_lab.core.validation import ConfigError
from bptt_lab.tasks import files
from bptt_lab.tasks.columns import read_columns
from bptt_lab.tasks.series import Series, fit_ar, windows
from tasks.damage import refused
from tasks.predictors import measure
from tasks.samples import write_series

SPLITS = ("train", "val", "test")


def write(folder, content, name="series.csv"):
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize(
    ("content", "column", "values"),
    [
        ("1.0\n2.5\n-3e2\n", None, [1, 2.5, -300]),
        ("x\n1\n2", None, [1, 2]),
        ("x\n1\n2", "x", [1, 2]),
        ("1\n2\n", 1, [1, 2]),
        ("date,a,b\nMay,1,5\nJune,2,6\n", "a", [1, 2]),
        ("date,a,b\nMay,1,5\nJune,2,6\n", 3, [5, 6]),
        ("May,1\nJune,2\n", 2, [1, 2]),  # a name in another column makes no header
        ("2020,2021\n1,2\n3,4\n", "2021", [2, 4]),
        ('"a, b",c\n"1",2\n" 3 ","4"\n', "a, b", [1, 3]),
        ("\ufeffx\r\n1\r\n2\r\n\r\n\n", "x", [1, 2]),
        ('x,"a\nname"\n1,2\n', 2, [2]),
    ],
)
def test_reads_a_column_with_a_header_or_without(tmp_path, content, column, values):
    (read,) = read_columns(str(write(tmp_path, content)), [column])
    assert read.dtype == torch.float64
    assert read.tolist() == values


@pytest.mark.parametrize(("num_steps", "order"), [(1, 1), (7, 1), (7, 3), (7, 7), (64, 16)])
@pytest.mark.parametrize(("begin", "end"), [(16, 90), (90, 97), (97, 100), (16, 100), (99, 100)])
def test_windows_name_each_value_once_knowing_all_the_ones_before(num_steps, order, begin, end):
    series = torch.arange(100.0)[:, None]
    input, target, mask = windows(series, series, (begin, end), num_steps, order)
    assert len(mask) == num_steps
    assert sorted(target[mask].flatten().tolist()) == list(range(begin, end))
    for m in range(mask.shape[1]):
        last = int(mask[:, m].nonzero()[-1])
        read = input[: last + 1, m, 0].tolist()
        assert all(b == a + 1 for a, b in pairwise(read))  # nothing left out
        assert torch.equal(target[: last + 1, m], input[: last + 1, m] + 1)
        assert mask[:, m].nonzero()[0] == order - 1  # `order` values are read by then
    assert torch.equal(target[mask], input[mask] + 1)


def noisy(length=500, seed=0):
    """x_t = .5 + 1.2 x_{t-1} - .6 x_{t-2} + noise."""
    draws, x = np.random.default_rng(seed), [0.0, 1.0]
    while len(x) < length:
        x.append(0.5 + 1.2 * x[-1] - 0.6 * x[-2] + 0.1 * draws.standard_normal())
    return torch.tensor(x, dtype=torch.float64)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_ar_is_least_squares(order):
    series = noisy()
    design = np.array([[1, *series[t - order : t]] for t in range(order, len(series))])
    wanted = np.linalg.solve(design.T @ design, design.T @ series[order:].numpy())
    torch.testing.assert_close(
        fit_ar(series[:, None], series, order).numpy(), wanted, rtol=0, atol=1e-10
    )
    if order == 2:
        long, wanted = noisy(20000), torch.tensor([0.5, -0.6, 1.2]).double()
        torch.testing.assert_close(fit_ar(long[:, None], long, 2), wanted, rtol=0, atol=0.02)


def test_ar_of_a_series_that_two_fits_explain():
    """Of x_t = -x_{t-1}, = x_{t-2}, ...: the smallest coefficients."""
    series = torch.tensor([1.0, -1] * 20).double()
    fitted = fit_ar(series[:, None], series, 4)
    wanted = torch.tensor([0, 0.25, -0.25, 0.25, -0.25]).double()
    torch.testing.assert_close(fitted, wanted, rtol=0, atol=1e-12)


@pytest.fixture
def small(tmp_path):
    return Series(path=str(write_series(tmp_path)), num_steps=20, order=4)


def test_splits_follow_one_another(small):
    named = [target[mask] for _, target, mask in (small.sequences(split, 0) for split in SPLITS)]
    assert [len(part) for part in named] == [320 - 4, 40, 40]
    everything = torch.cat(named).flatten()
    assert torch.equal(everything.sort().values, small.targets[:, 0][4:].float().sort().values)
    assert torch.equal(
        named[2].flatten().sort().values, small.targets[:, 0][360:].float().sort().values
    )


@pytest.mark.parametrize(
    ("splits", "ends"),
    [
        ([0.8, 0.1, 0.1], (320, 360, 400)),
        ([0.7, 0.2, 0.1], (280, 360, 400)),
        ([0.5, 0.3, 0.2], (200, 320, 400)),
        ([300, 40, 60], (300, 340, 400)),
        ([250, 1, 2], (250, 251, 253)),  # the rest is left out
    ],
)
def test_splits_by_share_or_by_row(tmp_path, splits, ends):
    task = Series(path=str(write_series(tmp_path)), num_steps=20, order=4, splits=splits)
    begins = (4, *ends)
    for split, begin, end in zip(SPLITS, begins, ends, strict=False):
        _, target, mask = task.sequences(split, 0)
        wanted = task.targets[:, 0][begin:end].float()
        assert torch.equal(target[mask].flatten().sort().values, wanted.sort().values)


@pytest.mark.parametrize(
    "splits",
    [
        *([], [1.0], [0.5, 0.5], [0.8, 0.1, 0.2], [0.9, 0.1, 0.0], [1.1, -0.2, 0.1]),
        *([300, 40, 0], [300, 40, 0.5], [math.nan, 0.5, 0.5], [300, 40, 61]),
        *([0.999, 0.0005, 0.0005], [True, True, True], [10, 200, 190], "0.8", 0.8),
    ],
)  # fmt: skip
def test_refuses_splits_that_are_none(tmp_path, splits):
    with pytest.raises(ConfigError, match=r"splits=|training"):
        Series(path=str(write_series(tmp_path)), num_steps=20, order=4, splits=splits)


def test_standardised_by_the_training_part_alone(tmp_path):
    values = torch.cat((noisy(400), 50 + noisy(100)))
    path = str(write(tmp_path, "\n".join(map(repr, values.tolist()))))
    task = Series(path=path)
    assert task.targets[:, 0][:400].mean().item() == pytest.approx(0, abs=1e-12)
    assert task.targets[:, 0][:400].var(correction=0).item() == pytest.approx(1)
    scale = values[:400].std(correction=0)
    torch.testing.assert_close(task.targets[:, 0] * scale + values[:400].mean(), values)


def test_references_are_what_they_reach(small):
    input, target, _ = small.sequences("test", 0)
    constant, *weights = fit_ar(small.inputs[:320], small.targets[:320, 0], 4).float()
    ar = torch.zeros_like(target)
    for step in range(3, len(input)):
        ar[step] = constant + sum(
            w * x for w, x in zip(weights, input[step - 3 : step + 1], strict=True)
        )
    references = small.references()
    assert list(references) == ["ar", "persistence", "mean"]  # the best first
    guesses = {"persistence": input, "ar": ar, "mean": torch.zeros_like(target)}
    for name, guess in guesses.items():
        assert measure(small, guess) == pytest.approx(references[name], rel=1e-4)
    assert references["ar"]["loss"] < references["persistence"]["loss"]
    one = small.targets[:, 0][:320].diff().square().mean().item()
    assert references["mean"]["relative_error"] == pytest.approx(references["mean"]["loss"] / one)


GOOD = "date,x\n" + "".join(f"{t},{math.sin(t)}\n" for t in range(200))
DAMAGED = {
    "truncated": (GOOD[: GOOD.rindex(",")], "x", "line 201 must have 2 columns as the first one"),
    "missing value": (GOOD.replace("\n7,", "\n7,\n", 1), "x", "line 9 has no value in column 2"),
    "blank value": (GOOD.replace("0.0", "  ", 1), 2, "line 2 has no value in column 2"),
    "empty line": (GOOD.replace("\n7,", "\n\n7,", 1), "x", "line 9 must have 2 columns"),
    "empty line at first": ("\n" + GOOD, "x", "begins with an empty line"),
    "a word": (GOOD.replace("0.0", "n/a", 1), "x", "line 2 must have a finite number in column"),
    "NaN": (GOOD.replace("0.0", "nan", 1), "x", "in column 2, but has 'nan'"),
    "NaN at first": (GOOD.replace("0.0", "nan", 1)[7:], 2, "line 1 must have a finite number"),
    "infinite": (GOOD.replace("0.0", "-inf", 1), "x", "in column 2, but has '-inf'"),
    "overflow": (GOOD.replace("0.0", "1e999", 1), "x", "in column 2, but has '1e999'"),
    "underscore": (GOOD.replace("0.0", "1_0", 1), "x", "in column 2, but has '1_0'"),
    "no such column": (GOOD, "y", "must have one column 'y', but has 0 among 'date', 'x'"),
    "no such number": (GOOD, 3, "has columns 1 to 2, but no column 3"),
    "number zero": (GOOD, 0, "but no column 0"),
    "which column": (GOOD, None, "has 2 columns, beginning 'date', 'x'; choose one with dataset.c"),
    "twice": (GOOD.replace("date", "x"), "x", "must have one column 'x', but has 2"),
    "column too many": (GOOD.replace("0.0", "0,0", 1), "x", "line 2 must have 2 columns as the f"),
    "open quote": (GOOD.replace("0.0", '"0', 1), "x", "line 201 must be CSV, but is not"),
    "wrong encoding": (GOOD.replace("date", "für").encode("latin-1"), "x", "must be a text in UTF"),
    "wide encoding": (GOOD.encode("utf-16"), "x", "must be a text in UTF-8, but byte 0 is 0xff"),
    "binary": (b"\x80\x04" + bytes(range(256)), 1, "must be a text in UTF-8, but byte 0 is 0x80"),
    "zero bytes": (bytes(2000), 1, "must"),
    "empty": ("", "x", "the file is empty"),
    "only a header": ("x\n", "x", "must hold enough rows for dataset.splits=[0.8, 0.1, 0.1]"),
    "too short": (GOOD[: GOOD.index("\n122,") + 1], "x", "order=16, but holds 97 of 122"),
    "constant": ("\n".join(["3.7"] * 200), 1, "must vary in its first 160 values"),
    "too large": ("1\n2\n" * 90 + "1e308\n" * 20, 1, "must vary in its first 160 values, by no"),
    "huge": ("\n".join(f"{1e300 * math.sin(t)}" for t in range(200)), 1, "by no power that overf"),
    "endless field": ("9" * 10**6 + "\n" + GOOD, 1, "must be CSV, but is not (field larger"),
    "escape codes": (GOOD.replace("0.0", "\x1b[2J", 1), "x", r"but has '\x1b[2J'"),
    "many columns": ("x," * 10**6, None, "has 1000001 columns"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_refuses_damaged_files(tmp_path, name):
    content, column, complaint = DAMAGED[name]
    file = write(tmp_path, content)
    refused(lambda: Series(path=str(file), column=column), file, complaint)


def test_refuses_what_is_not_there(tmp_path):
    refused(lambda: Series(path=str(tmp_path / "no")), tmp_path / "no", "there is none")
    refused(lambda: Series(path=str(tmp_path)), tmp_path, "it is a folder")
    refused(lambda: Series(), "", "must name a file")


def test_shortest_series_and_largest_split(tmp_path, monkeypatch):
    file = write(tmp_path, GOOD[: GOOD.index("\n123,") + 1])
    task = Series(path=str(file), column="x")
    assert all(task.sequences(split, 0).mask.any() for split in SPLITS)
    assert all(math.isfinite(values["loss"]) for values in task.references().values())
    monkeypatch.setattr(files, "MOST", 64)
    refused(lambda: Series(path=str(file), column="x"), file, "GiB of memory")
    with pytest.raises(ConfigError, match="order=9: must be at most num_steps=8"):
        Series(path=str(file), num_steps=8, order=9)


def lorenz(length=500):
    """Three columns of which each moves the others, beside a time and a word."""
    draws, rows = np.random.default_rng(3), [np.array([1.0, 2.0, 3.0])]
    while len(rows) < length:
        x, y, z = rows[-1]
        step = np.array([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z]) * 0.01
        rows.append(rows[-1] + step + 0.01 * draws.standard_normal(3))
    return np.array(rows)


VALUES = lorenz()
TABLE = "time,a,word,b,c\n" + "".join(
    f"{t},{x!r},w,{y!r},{z!r}\n" for t, (x, y, z) in enumerate(VALUES.tolist())
)
SEVERAL = [
    (["a", "b"], ["a", "b"], 1),
    (["a", "b"], ["a"], 1),
    (["a"], ["b", "c"], 3),
    ([2, "c", 4], ["c"], 5),
    (["c", "b", "a"], [4, 5], 12),
]
PLACES = {"a": 0, "b": 1, "c": 2, 2: 0, 4: 1, 5: 2}


@pytest.mark.parametrize(("read", "asked", "horizon"), SEVERAL)
def test_several_columns_and_steps_ahead(tmp_path, read, asked, horizon):
    """Against loops over rows: what is read, what is asked, and what predictors reach."""
    order, num_steps = 3, 20
    file = write(tmp_path, TABLE)
    given = {"columns": read, "targets": asked, "horizon": horizon}
    task = Series(path=str(file), num_steps=num_steps, order=order, **given)
    mean, std = VALUES[:400].mean(0), VALUES[:400].std(0)
    scaled = (VALUES - mean) / std
    inputs, targets = scaled[:, [PLACES[c] for c in read]], scaled[:, [PLACES[c] for c in asked]]
    rows = {tuple(np.float32(row)): t for t, row in enumerate(targets)}
    begins = {"train": (order + horizon - 1, 400), "val": (400, 450), "test": (450, 500)}
    for split, (begin, end) in begins.items():
        input, target, mask = task.sequences(split, 0)
        named = []
        for step, m in mask.nonzero().tolist():
            t = rows[tuple(target[step, m].numpy())]
            named.append(t)
            seen = input[: step + 1, m].numpy()
            wanted = inputs[t - horizon - step : t - horizon + 1]
            np.testing.assert_allclose(seen, wanted, rtol=1e-6, atol=1e-6)
            assert step >= order - 1
        assert sorted(named) == list(range(begin, end))

    # Least squares by its normal equations, and errors one by one.
    def lags(t):
        return np.concatenate(([1], inputs[t - order + 1 : t + 1].T.ravel()))

    design = np.array([lags(t - horizon) for t in range(order + horizon - 1, 400)])
    fitted = np.linalg.pinv(design) @ targets[order + horizon - 1 : 400]
    errors = {"ar": [], "persistence": [], "mean": []}
    for t in range(450, 500):
        guesses = lags(t - horizon) @ fitted, targets[t - horizon], 0 * targets[t]
        for name, guess in zip(errors, guesses, strict=True):
            errors[name].append(np.square(guess - targets[t]).mean())
    apart = np.mean(np.square(targets[horizon:400] - targets[: 400 - horizon]))
    references = task.references()
    assert references.keys() == errors.keys()
    for name, values in errors.items():
        wanted = {"loss": np.mean(values), "relative_error": np.mean(values) / apart}
        assert references[name] == pytest.approx(wanted, rel=1e-6)
    _, target, _ = task.sequences("test", 0)
    score = task.score(target * 0, target)["relative_error"]
    torch.testing.assert_close(score, (target.square().mean(-1) / apart).float())
    codec = task.codec()
    assert (codec.input_size, codec.output_size) == (len(read), len(asked))
    assert codec.input_mean == pytest.approx([mean[PLACES[c]] for c in read])
    assert codec.output_std == pytest.approx([std[PLACES[c]] for c in asked])
    assert (
        task.train_dataloader().task.input_size == next(iter(task.val_dataloader())).input.shape[2]
    )


def test_columns_may_be_the_only_one_or_lack_a_target(tmp_path):
    file = write(tmp_path, TABLE)
    one, listed = Series(path=str(file), column="b"), Series(path=str(file), columns=["b"])
    for split in SPLITS:
        assert all(map(torch.equal, one.sequences(split, 0), listed.sequences(split, 0)))
    assert one.references() == listed.references()
    other = Series(path=str(file), column="b", targets=["a"], horizon=1)
    assert torch.equal(other.sequences("val", 0).input, one.sequences("val", 0).input)
    assert not torch.equal(other.sequences("val", 0).target, one.sequences("val", 0).target)


def test_parquet_is_read_as_csv_is(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(VALUES, columns=["a", "b", "c"]).assign(whole=range(500), word="w")
    frame.to_parquet(tmp_path / "series.parquet")
    frame.to_csv(tmp_path / "series.csv", index=False)
    given = {"columns": ["a", "whole"], "targets": ["c"], "horizon": 2, "num_steps": 20, "order": 3}
    tasks = [Series(path=str(tmp_path / f"series.{end}"), **given) for end in ("csv", "parquet")]
    for split in SPLITS:
        assert all(map(torch.equal, *(task.sequences(split, 0) for task in tasks)))
    file = tmp_path / "series.parquet"
    frame.assign(b=[math.nan, *VALUES[1:, 1]]).to_parquet(tmp_path / "gaps.parquet")
    content = file.read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[: len(content) // 2])
    (tmp_path / "flipped.parquet").write_bytes(content[:-8] + b"\xff\xff\xff\x7fPAR1")
    for name, column, complaint in (
        ("gaps", "b", "row 1 must have a finite number in column 'b', but has none"),
        ("series", "word", "column 'word' must hold numbers, but holds"),
        ("series", "d", "must have one column 'd', but has 0 among 'a', 'b', 'c'"),
        ("series", None, "has 5 columns, beginning 'a'"),
        ("cut", "a", "must be a whole parquet file, but is not"),
        ("flipped", "a", "must be a whole parquet file, but is not"),
    ):
        file = tmp_path / f"{name}.parquet"
        refused(lambda f=file, c=column: Series(path=str(f), column=c), file, complaint)


def test_parquet_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    file = tmp_path / "series.parquet"
    file.write_bytes(b"PAR1" * 10)
    refused(lambda: Series(path=str(file)), file, "run pip install 'bptt_lab[parquet]'")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"columns": ["a", "a"]}, "must be a list of different names"),
        ({"columns": []}, "must be a list of different names"),
        ({"targets": []}, "must be a list of different names"),
        ({"columns": ["a"], "column": "b"}, "only means something with column=null"),
        ({"columns": ["a", "word"]}, "line 2 must have a finite number in column 3"),
        ({"columns": ["a", "d"]}, "must have one column 'd', but has 0 among"),
        ({"columns": ["a", "b"], "horizon": 400}, "must hold at least 513 values for training"),
        ({"columns": ["a", "b"], "order": 64}, "must hold at least 258 values for training"),
        ({"columns": ["a"], "horizon": 0}, "horizon=0: must be at least 1"),
    ],
)
def test_refuses_columns_that_do_not_fit(tmp_path, given, complaint):
    file = write(tmp_path, TABLE)
    with pytest.raises(ConfigError) as refusal:
        Series(path=str(file), **{"splits": [250, 50, 50], **given})
    assert complaint in str(refusal.value)
    assert ";" in str(refusal.value) or "must be" in str(refusal.value)


def test_refuses_what_repeats_itself_and_columns_with_names_in_part(tmp_path):
    file = write(tmp_path, "x\n" + "1\n2\n4\n8\n" * 50)
    refused(lambda: Series(path=str(file), horizon=4), file, "must change within 4 steps")
    Series(path=str(file), horizon=3)
    file = write(tmp_path, "10,2.5\n" + "".join(f"{t % 7},{t % 5}\n" for t in range(200)))
    refused(lambda: Series(path=str(file), columns=["10", 2]), file, "and with numbers in others")
