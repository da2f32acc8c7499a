import gzip
import itertools

import pytest
import torch

from bptt_lab.tasks.mnist import Mnist
from tasks.damage import DATA, refused
from tasks.predictors import measure
from tasks.samples import idx, write_pair

REAL = DATA / "mnist_t10k"
IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
SPLITS = ("train", "val", "test")


def shown(task: Mnist, split: str) -> list[int]:
    """Which images of `write_pair` a split holds, all pixels and the digit looked at."""
    input, target, mask = task.sequences(split, 0)
    assert torch.equal(mask.sum(0), torch.ones(input.shape[1], dtype=torch.long))
    assert mask[-1].all()
    numbers = input[0, :, 0].long() - 1
    assert (input == input[:1, :, :1]).all()
    assert torch.equal(target, (numbers % 10).expand_as(target))
    return numbers.tolist()


@pytest.mark.parametrize("zipped", [True, False])
def test_one_pair_is_split_in_three(tmp_path, zipped):
    file = write_pair(tmp_path, "t10k", 60, zipped=zipped)
    task = Mnist(path=str(tmp_path))
    parts = [shown(task, split) for split in SPLITS]
    assert [len(part) for part in parts] == [48, 6, 6]
    assert sorted(itertools.chain(*parts)) == list(range(60))
    assert [shown(Mnist(path=str(file)), split) for split in SPLITS] == parts
    assert [shown(Mnist(path=str(tmp_path), seed=1), split) for split in SPLITS] != parts


def test_two_pairs_are_training_and_test(tmp_path):
    write_pair(tmp_path, "train", 60, zipped=False)
    write_pair(tmp_path, "t10k", 20)
    task = Mnist(path=str(tmp_path))
    train, val, test = (shown(task, split) for split in SPLITS)
    assert (len(train), len(val)) == (54, 6)
    assert sorted(train + val) == list(range(60))
    assert test == list(range(20))


def test_home_folder_and_names_with_a_dot(tmp_path, monkeypatch):
    file = write_pair(tmp_path, "t10k", 30)
    file.rename(tmp_path / "t10k-images.idx3-ubyte.gz")
    (tmp_path / f"{LABELS}.gz").rename(tmp_path / "t10k-labels.idx1-ubyte.gz")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(shown(Mnist(path="~"), "train")) == 24


@pytest.fixture
def gradients(tmp_path):
    """Ten images whose pixels all differ, 4 rows of 3."""
    pixels = torch.arange(120, dtype=torch.uint8).view(10, 4, 3)
    (tmp_path / IMAGES).write_bytes(idx((10, 4, 3), pixels.numpy().tobytes()))
    (tmp_path / LABELS).write_bytes(idx((10,), bytes(range(10))))
    return str(tmp_path), pixels


@pytest.mark.parametrize("permuted", [False, True])
def test_layouts_and_permutation(gradients, permuted):
    path, pixels = gradients
    rows = Mnist(path=path, permuted=permuted)
    single = Mnist(path=path, layout="pixels", permuted=permuted)
    assert (rows.input_size, single.input_size) == (3, 1)
    input, target, _ = rows.sequences("train", 0)
    assert input.shape == (4, 8, 3)
    assert single.sequences("train", 0).input.shape == (12, 8, 1)
    flat = input.transpose(0, 1).flatten(1)
    assert torch.equal(single.sequences("train", 0).input[..., 0].T, flat)
    plain = pixels[target[0]].flatten(1)
    assert torch.equal(flat, plain) != permuted
    order = [plain[0].tolist().index(pixel) for pixel in flat[0]]
    assert torch.equal(flat, plain[:, order])  # one order for all images ...
    other = Mnist(path=path, permuted=permuted, seed=5)
    assert torch.equal(other.order, torch.tensor(order))  # ... and all seeds
    encoded = rows.encode(input)
    assert encoded.dtype == torch.float32
    assert torch.equal((encoded * 255).round().byte(), input)


def test_majority_is_what_it_reaches(tmp_path):
    write_pair(tmp_path, "t10k", 100)
    task = Mnist(path=str(tmp_path))
    digits = task.part("train").digits.tolist()
    counts = torch.tensor([digits.count(digit) + 1.0 for digit in range(10)])
    guess = counts.log().expand(5, 10, 10)
    assert measure(task, guess) == pytest.approx(task.references()["majority"], rel=1e-5)


def good(count=12):
    return idx((count, 2, 2), bytes(4 * count)), idx((count,), bytes(count))


PICTURES, DIGITS = good()
ZIPPED = gzip.compress(PICTURES)
HUGE = idx((2**31, 28, 28), bytes(9**6))
DAMAGED = {
    "truncated": (PICTURES[:-1], DIGITS, IMAGES, "12 x 2 x 2 = 48 values, as its header says"),
    "truncated gzip": (ZIPPED[:-12], DIGITS, IMAGES, "gzip data are damaged"),
    "only a header": (PICTURES[:16], DIGITS, IMAGES, "but cannot"),
    "cut in the header": (PICTURES[:9], DIGITS, IMAGES, "ends in its header, at byte 9"),
    "cut in gzip's header": (ZIPPED[:5], DIGITS, IMAGES, "gzip data are damaged"),
    "wrong magic": (b"PK\3\4" + PICTURES, DIGITS, IMAGES, "00 00 08 03, but begins with 50 4b"),
    "pickle": (b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.", DIGITS, IMAGES, "begins with 80 04 63 6f"),
    "floats": (idx((12, 2, 2), bytes(192), 13), DIGITS, IMAGES, "begins with 00 00 0d 03"),
    "labels for images": (DIGITS, DIGITS, IMAGES, "begins with 00 00 08 01"),
    "images for labels": (PICTURES, PICTURES, LABELS, "00 00 08 01, but begins with 00 00 08 03"),
    "too long": (PICTURES + b"\0", DIGITS, IMAGES, "but holds more"),
    "too long gzip": (gzip.compress(PICTURES + b"\0"), DIGITS, IMAGES, "but holds more"),
    "damaged gzip": (ZIPPED[:20] + b"\xff\xff" + ZIPPED[22:], DIGITS, IMAGES, "gzip data are dam"),
    "wrong checksum": (ZIPPED[:-8] + bytes(4) + ZIPPED[-4:], DIGITS, IMAGES, "CRC check failed"),
    "something after gzip": (ZIPPED + b"more", DIGITS, IMAGES, "gzip data are damaged"),
    "empty": (b"", DIGITS, IMAGES, "the file is empty"),
    "empty labels": (PICTURES, b"", LABELS, "the file is empty"),
    "no images": (idx((0, 2, 2), b""), idx((0,), b""), IMAGES, "must hold 0 x 2 x 2 values"),
    "fewer labels": (PICTURES, good(11)[1], LABELS, "each of the 12 images in t10k-images-idx3"),
    "no digit": (PICTURES, DIGITS[:-1] + b"\x0a", LABELS, "0 to 9, but holds 10"),
    "too few": (*good(9), "", "must hold at least 10 images, but holds 9"),
    "2^31 images": (HUGE, DIGITS, IMAGES, "2147483648 x 28 x 28 values"),
    "2^31 images, gzip": (gzip.compress(HUGE), DIGITS, IMAGES, "2147483648 x 28 x 28 values"),
    "2^31 labels": (PICTURES, idx((2**31,), bytes(12)), LABELS, "2147483648 values"),
    "as many as gzip might hold": (
        gzip.compress(idx((6110, 28, 28), bytes(9**7))), DIGITS, IMAGES, "but holds 4782969",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_refuses_damaged_files(tmp_path, name):
    images, labels, place, complaint = DAMAGED[name]
    (tmp_path / IMAGES).write_bytes(images)
    (tmp_path / LABELS).write_bytes(labels)
    refused(lambda: Mnist(path=str(tmp_path)), tmp_path / place, complaint)


def test_refuses_what_is_not_there(tmp_path):
    refused(
        lambda: Mnist(path=str(tmp_path)), tmp_path, "must hold train-images-idx3-ubyte or t10k"
    )
    refused(lambda: Mnist(path=str(tmp_path / "no")), tmp_path / "no", "but there is none")
    refused(lambda: Mnist(), "''", "must name a folder")
    (tmp_path / IMAGES).write_bytes(PICTURES)
    refused(lambda: Mnist(path=str(tmp_path)), tmp_path / IMAGES, f"as {LABELS} or {LABELS}.gz")
    (tmp_path / LABELS).mkdir()
    refused(lambda: Mnist(path=str(tmp_path)), tmp_path / LABELS, "it is a folder")
    (tmp_path / "digits").write_bytes(PICTURES)
    refused(
        lambda: Mnist(path=str(tmp_path / "digits")), tmp_path / "digits", "must name a file of"
    )


def test_refuses_pairs_of_unequal_sizes(tmp_path):
    write_pair(tmp_path, "train", 20)
    write_pair(tmp_path, "t10k", 20, side=4)
    refused(lambda: Mnist(path=str(tmp_path)), tmp_path, "some of 4 x 4 and 5 x 5")


real = pytest.mark.skipif(not REAL.exists(), reason="no MNIST here; BPTT_LAB_DATA says where")


@real
def test_the_real_test_pair():
    task = Mnist(path=str(REAL))
    parts = [task.sequences(split, 0) for split in SPLITS]
    assert [part.input.shape for part in parts] == [(28, n, 28) for n in (8000, 1000, 1000)]
    digits = torch.cat([part.target[-1] for part in parts]).bincount().tolist()
    assert digits == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@real
@pytest.mark.parametrize("name", ["images", "labels"])
def test_damaged_versions_of_the_real_pair(tmp_path, name):
    files = {"images": f"{IMAGES}.gz", "labels": f"{LABELS}.gz"}
    whole = {key: (REAL / file).read_bytes() for key, file in files.items()}
    data, plain = whole[name], gzip.decompress(whole[name])
    for key, file in files.items():
        (tmp_path / file).write_bytes(whole[key])
    for damaged in (
        data[: len(data) // 2], data[:-1], data[1:], data + b"\0\0\1", data[:500] + data[510:],
        b"", plain[: len(plain) // 2], plain[:3], plain + b"\0", b"\0\0\x0e" + plain[3:],
        plain[:4] + b"\xff" + plain[5:],
    ):  # fmt: skip
        (tmp_path / files[name]).write_bytes(damaged)
        refused(lambda: Mnist(path=str(tmp_path)), tmp_path / files[name], "must")
