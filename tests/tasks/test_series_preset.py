"""`experiment=series` forecasts what an autoregression made about as well as a fitted one."""

import json

import numpy as np
import pytest
from runs import config, job

from bptt_lab.training.train import perform

COEFFICIENTS = {"a damped wave": [1.6, -0.8], "two lags": [0.5, 0.4], "lag 3": [0.2, 0.0, 0.5]}
RUNS = [
    pytest.param(name, seed, marks=pytest.mark.slow) for name in COEFFICIENTS for seed in range(8)
]


def made_by(coefficients, length=1000):
    draws, x = np.random.default_rng(0), [0.0] * 3
    while len(x) < length:
        x.append(sum(c * x[-i] for i, c in enumerate(coefficients, 1)) + draws.standard_normal())
    return x


@pytest.mark.parametrize(("name", "seed"), RUNS)
def test_it_comes_near_the_autoregression(tmp_path, name, seed):
    file = tmp_path / "series.csv"
    file.write_text("x\n" + "".join(f"{x}\n" for x in made_by(COEFFICIENTS[name])))
    lines = ("experiment=series", f"dataset.path={file}", "dataset.order=3", f"seed={seed}")
    lines = (*lines, "callbacks=none", "trainer.enable_progress_bar=false")
    (tmp_path / "run").mkdir()
    perform(config(*lines), tmp_path / "run", job(*lines))
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    best, reference = next(iter(summary["references"].items()))
    assert best == "ar"
    assert summary["metrics"]["test/loss"] < 1.1 * reference["loss"]
