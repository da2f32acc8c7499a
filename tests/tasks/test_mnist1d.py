import importlib.util
import random

import numpy as np
import pytest
import torch

from bptt_lab.core.validation import ConfigError
from bptt_lab.tasks.mnist1d import Mnist1d, read_mnist1d

SPLITS = ("train", "val", "test")
needs_package = pytest.mark.skipif(
    importlib.util.find_spec("mnist1d") is None, reason="needs bptt_lab[mnist1d]"
)


@needs_package
def test_curves_are_the_publications():
    curves, digits = read_mnist1d()
    assert (curves.shape, digits.shape) == ((40, 5000, 1), (5000,))
    assert digits.bincount().tolist() == [500] * 10
    assert curves.mean().item() == pytest.approx(0, abs=1e-5)
    assert curves.std(correction=0).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
@needs_package
def test_drawing_them_disturbs_nobodys_random_numbers():
    random.seed(3)
    np.random.seed(4)
    wanted = random.random(), np.random.rand()
    random.seed(3)
    np.random.seed(4)
    read_mnist1d.cache_clear()
    read_mnist1d()
    assert (random.random(), np.random.rand()) == wanted


@needs_package
def test_splits_are_disjoint_and_lose_no_curve():
    curves, digits = read_mnist1d()
    parts = [Mnist1d().sequences(split, 0) for split in SPLITS]
    assert [part.input.shape[1] for part in parts] == [3600, 400, 1000]
    assert torch.equal(parts[2].input, curves[:, 4000:])
    found = torch.cat([part.input[..., 0].T for part in parts])
    labels = torch.cat([part.target[-1] for part in parts])
    rows = sorted(
        [*curve, digit] for curve, digit in zip(found.tolist(), labels.tolist(), strict=True)
    )
    wanted = zip(curves[..., 0].T.tolist(), digits.tolist(), strict=True)
    assert rows == sorted([*curve, digit] for curve, digit in wanted)
    assert not torch.equal(Mnist1d(seed=1).sequences("val", 0).input, parts[1].input)
    assert torch.equal(Mnist1d(seed=1).sequences("test", 0).input, parts[2].input)


def test_without_the_package_a_way_out(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    read_mnist1d.cache_clear()
    with pytest.raises(ConfigError, match=r"run pip install 'bptt_lab\[mnist1d\]'") as refusal:
        Mnist1d()
    assert "\n" not in str(refusal.value)
