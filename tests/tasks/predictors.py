"""A trivial predictor's mean loss and metrics over a split, the slow way."""

import math
from pathlib import Path

from torch import Tensor

from bptt_lab.nn.losses import LOSSES
from bptt_lab.tasks.base import SequenceDataModule

CONF = Path(__file__).parents[2] / "conf" / "dataset"


def measure(task: SequenceDataModule, prediction: Tensor, skip: int = 0) -> dict[str, float]:
    """Score a prediction for the test split, the first `skip` steps left out."""
    _, target, mask = task.sequences("test", 0)
    mask = mask.clone()
    mask[:skip] = False
    values = {"loss": LOSSES[task.loss](prediction, target), **task.score(prediction, target)}
    assert all(value.shape == mask.shape for value in values.values())
    return {name: value.double()[mask].mean().item() for name, value in values.items()}


def logits(chances: Tensor) -> Tensor:
    """What a network must say for these probabilities; never says 'impossible' outright."""
    return chances.double().clamp(min=1e-30).log()


def agree(measured: dict[str, float], claimed: dict[str, float], count: int) -> None:
    """Assert equality up to four standard errors of values of spread 1 at most."""
    assert measured.keys() == claimed.keys()
    for name, value in claimed.items():
        assert abs(measured[name] - value) < 4 / math.sqrt(count), name
