"""Metrics of torchmetrics over all elements that count in a validation or a test."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torchmetrics import MetricCollection, classification, regression

from bptt_lab.config.metrics import METRICS, TARGETS, refuse_unfit
from bptt_lab.config.schema import refuse
from bptt_lab.tasks.base import SequenceDataModule


class Measures(nn.Module):
    """Metrics by name; chunks are added one after another, and processes join in the end.

    Those of classes and labels are means over these, each of the same weight, and get
    probabilities. Those of several numbers are means over the outputs.

    Args:
        names: of `bptt_lab.config.metrics.METRICS`, for the task's targets.
        loss: of the task; says what its targets are.
        outputs: of the network, O.
    """

    def __init__(self, names: Sequence[str], loss: str, outputs: int) -> None:
        super().__init__()
        self.kind = TARGETS[loss]
        self.each = MetricCollection({name: _metric(self.kind, name, outputs) for name in names})

    def begin(self) -> None:
        """Forget all chunks."""
        self.each.reset()

    def add(self, prediction: Tensor, target: Tensor, mask: Tensor) -> None:
        """Add what counts of a chunk: (L, N, O), its target, and (L, N) booleans."""
        if not bool(mask.any()):
            return
        prediction, target = prediction[mask], target[mask]
        if self.kind == "classes":
            prediction = prediction.softmax(-1)
        elif self.kind == "labels":
            prediction, target = prediction.sigmoid(), target.long()
        elif prediction.shape[-1] == 1:
            prediction, target = prediction[:, 0], target[:, 0]
        with _quiet():
            self.each.update(prediction, target)

    def values(self) -> dict[str, float]:
        """Return each metric of all chunks; NaN where they are too few for it."""
        found = {}
        for name, metric in self.each.items():
            try:
                with _quiet():
                    found[str(name)] = float(metric.compute().mean())
            except ValueError:
                found[str(name)] = math.nan
        return found


def _metric(kind: str, name: str, outputs: int) -> Any:
    target = METRICS[kind][name]
    if kind == "numbers":
        settings: dict[str, dict[str, Any]]
        settings = {"rmse": {"squared": False}, "pearson": {"num_outputs": outputs}}
        return getattr(regression, target)(**settings.get(name, {}))
    size = "num_classes" if kind == "classes" else "num_labels"
    return getattr(classification, target)(**{size: outputs}, validate_args=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out warnings of a class that nothing belongs to, and of what is kept."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def make_measures(names: Sequence[str] | None, task: SequenceDataModule) -> Measures | None:
    """Make the metrics that a run asks for beside its task's own; None for none.

    Raises:
        ConfigError: for one that is not for the task, or that the task has itself.
    """
    if not names:
        return None
    own = {name for values in task.references().values() for name in values}
    for name in names:
        refuse_unfit(name, task.loss)
        if name in own:
            refuse("metrics", name, "is the task's own already; leave it out")
    return Measures(names, task.loss, task.output_size)
