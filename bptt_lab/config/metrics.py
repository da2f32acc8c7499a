"""Metrics of torchmetrics by name, beside a task's own, and the kind of task that each is for."""

from collections.abc import Mapping, Sequence
from typing import Any

from bptt_lab.config import signatures
from bptt_lab.config.schema import Component, refuse

# By loss, what its targets are; by that, the class and the settings of each metric.
TARGETS: Mapping[str, str] = {
    "cross_entropy": "classes",
    "softmax_mse": "classes",
    "binary_cross_entropy": "labels",
    "mse": "numbers",
}
_OF_BOTH = {
    "f1": "F1Score",
    "precision": "Precision",
    "recall": "Recall",
    "auroc": "AUROC",
    "average_precision": "AveragePrecision",
    "matthews": "MatthewsCorrCoef",
}
METRICS: Mapping[str, Mapping[str, str]] = {
    "classes": {
        **{name: f"Multiclass{kind}" for name, kind in _OF_BOTH.items()},
        "cohen_kappa": "MulticlassCohenKappa",
        "calibration_error": "MulticlassCalibrationError",
    },
    "labels": {name: f"Multilabel{kind}" for name, kind in _OF_BOTH.items()},
    "numbers": {
        "mae": "MeanAbsoluteError",
        "rmse": "MeanSquaredError",
        "r2": "R2Score",
        "explained_variance": "ExplainedVariance",
        "pearson": "PearsonCorrCoef",
        "smape": "SymmetricMeanAbsolutePercentageError",
    },
}


def read(metrics: str | Sequence[Any] | None, dataset: Component) -> list[str] | None:
    """Return the metrics that a run is to have, None for none.

    Raises:
        ConfigError: for one that there is not, or that is not for what the task has as targets,
            where that is known beforehand.
    """
    names = [metrics] if isinstance(metrics, str) else list(metrics or ())
    plugin = signatures.read(dataset.target)
    loss = plugin.claims.get("loss")
    if "loss" in plugin.settings:
        loss = plugin.value("loss", dataset.settings)
    for name in names:
        refuse_unfit(name, str(loss))
        if names.count(name) > 1:
            refuse("metrics", names, f"names {name} twice; leave one out")
    return names or None


def refuse_unfit(name: object, loss: str) -> None:
    """Refuse a metric that is not for targets with a loss, or for any where that is unknown."""
    kind = TARGETS.get(loss)
    known = METRICS[kind] if kind else {n: "" for names in METRICS.values() for n in names}
    if name in known:
        return
    elsewhere = any(name in names for names in METRICS.values())
    problem = "there is no such metric" if not elsewhere else f"does not fit a task of {kind}"
    refuse("metrics", name, f"{problem}; choose from {', '.join(known)}")
