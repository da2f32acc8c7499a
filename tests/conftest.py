"""What every test takes for granted: one thread a worker, repeatable draws, no GPU."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start, too

import hypothesis
import numpy as np
import pytest
import sampling
import torch
from matplotlib.figure import Figure

torch.set_num_threads(1)
hypothesis.settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    sampling.whole = config.option.markexpr != "not slow"


def pytest_collection_finish() -> None:
    """Keep what is loaded by now out of every later collection of garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def no_package_left() -> Iterator[None]:
    """Forget the package of docs/extending.md, of which each test may have another."""
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypkg"]:
        del sys.modules[name]


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the painting of pictures, which takes half of a short run or of a report."""
    black = np.zeros((3, 2, 2), dtype=np.uint8)
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **how: Path(file).touch())
    monkeypatch.setattr("torch.utils.tensorboard.writer.figure_to_image", lambda *_: black)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
