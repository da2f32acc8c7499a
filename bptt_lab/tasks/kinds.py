"""Kinds of tasks: classification, forecasts of a series, and sequences as many as one asks for."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from torch import Tensor

from bptt_lab.core.validation import Ge, checked
from bptt_lab.nn.losses import mse
from bptt_lab.tasks.base import SequenceDataModule, Shape, Split
from bptt_lab.tasks.codec import Codec


class Classification(SequenceDataModule):
    """A task whose targets are classes."""

    def score(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Whether the likeliest class is right."""
        return {"accuracy": (prediction.argmax(-1) == target).float()}

    def references(self) -> Mapping[str, Mapping[str, float]]:
        """Guessing, where every class is as frequent as any other."""
        right = 1 / self.output_size
        loss = math.log(self.output_size) if self.loss == "cross_entropy" else 1 - right
        return {"chance": {"loss": loss, "accuracy": right}}


class ClassificationByLoss(Classification):
    """A classification whose loss may be chosen.

    Args:
        loss: what is minimised.
        settings: as SequenceDataModule has them.
    """

    @checked
    def __init__(
        self, *, loss: Literal["cross_entropy", "softmax_mse"] = "cross_entropy", **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.loss = loss


class Forecast(SequenceDataModule):
    """One-step forecasts of a series, standardised by the mean and variance of its training part.

    The metric `relative_error` is the squared error in units of `persistence`, what repeating the
    value before makes of the training part: below 1 is better than that.
    """

    input_size = 1
    output_size = 1
    loss = "mse"
    persistence: float  # mean squared difference of neighbours in the training part
    mean: float  # of the training part before that
    std: float

    def score(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The squared error in units of persistence's."""
        return {"relative_error": mse(prediction, target) / self.persistence}

    def codec(self) -> Codec:
        """Return a codec of the series as it was before."""
        scale = (self.mean,), (self.std,)
        return Codec(1, 1, self.loss, (), False, (), *scale, *scale)


class Generated(SequenceDataModule):
    """A task that makes as many sequences as it is told, of `num_steps` where it says no other.

    Args:
        train_size: sequences of a training epoch.
        val_size: validation sequences.
        test_size: test sequences.
        settings: of the next class, such as SequenceDataModule.
    """

    num_elements = ("num_steps * train_size", "num_steps * val_size", "num_steps * test_size")
    train_shape: ClassVar[Shape | None] = ("num_steps", "train_size")

    @checked
    def __init__(
        self,
        *,
        train_size: Annotated[int, Ge(1)],
        val_size: Annotated[int, Ge(1)] = 256,
        test_size: Annotated[int, Ge(1)] = 1024,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}
